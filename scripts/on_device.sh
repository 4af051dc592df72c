# shellcheck shell=sh
# What push.sh, run.sh and pull.sh run on the device itself, in the package's folder: they send this
# text. Only sh and a few small tools are there (device_tools in device.sh).
#
# Of what sha256sum -c says only the lines "<name>: OK" are the same in coreutils, busybox, toybox.

names() { # LIST -> the names in it
  sed 's/^.\{66\}//' "$1" 2>/dev/null
}

right() { # LIST -> the names of those files that are here and right
  LC_ALL=C sha256sum -c "$1" 2>/dev/null | sed -n 's/: OK$//p'
}

once() { # the lines that are there only once
  LC_ALL=C sort | LC_ALL=C uniq -u
}

# Files that the new package has no more: those that the old list names, and whatever else lies in
# the folders that are all ours. Pictures of the device's own stay in dataset/ if none are pushed.
surplus() {
  folders='bin lib'
  ! names SHA256SUMS.new | grep -q '^dataset/' || folders='bin lib dataset'
  {
    names SHA256SUMS.new
    names SHA256SUMS.new
    {
      names SHA256SUMS
      # shellcheck disable=SC2086 # several words are meant
      find $folders -name .tod-cache -prune -o ! -type d -print 2>/dev/null
    } | LC_ALL=C sort -u
  } | once
}

compare() { # -> "complete", or lines "right NAME" and "surplus"
  right SHA256SUMS.new >SHA256SUMS.right
  surplus >SHA256SUMS.surplus
  if [ ! -s SHA256SUMS.surplus ] && all_right SHA256SUMS.new; then
    finish
  else
    sed 's/^/right /' SHA256SUMS.right
    [ ! -s SHA256SUMS.surplus ] || echo surplus
  fi
}

all_right() { # LIST
  [ "$(wc -l <SHA256SUMS.right)" -eq "$(wc -l <"$1")" ]
}

finish() {
  rm -f SHA256SUMS.sent SHA256SUMS.right SHA256SUMS.surplus
  mv -f SHA256SUMS.new SHA256SUMS && rm -f INCOMPLETE && echo complete
}

remove_surplus() {
  while IFS= read -r name; do
    rm -f "./$name"
    # Not even an empty folder stays: in dataset/ it would be a class without pictures.
    while [ "$name" != "${name%/*}" ]; do
      name=${name%/*}
      rmdir "./$name" 2>/dev/null || break
    done
  done <SHA256SUMS.surplus
}

check_sent() { # -> "complete", or lines "right NAME"
  right SHA256SUMS.sent >SHA256SUMS.right
  if all_right SHA256SUMS.sent; then finish; else sed 's/^/right /' SHA256SUMS.right; fi
}

refuse() { # PROBLEM
  printf 'error: %s\nhint: push the package again, with scripts/push.sh\n' "$1" >&2
  exit 4
}

verify() {
  [ ! -e INCOMPLETE ] || refuse 'the package was not pushed completely'
  [ -f SHA256SUMS ] || refuse "there is no package in $PWD"
  wrong=$({ names SHA256SUMS && right SHA256SUMS; } | once | head -n 3)
  [ -z "$wrong" ] || refuse "damaged on the device: $wrong"
}

products() { # -> their sums; the log as it is now, because it may be growing
  # Without room for a copy the models still come.
  if [ -f job/log ] && cp job/log job/log.pulled 2>/dev/null; then sha256sum job/log.pulled; fi
  {
    names SHA256SUMS
    names SHA256SUMS
    for name in model/*; do
      [ ! -f "$name" ] || echo "$name"
    done
  } | once | while IFS= read -r name; do
    [ ! -f "$name" ] || case $name in model/*) sha256sum "$name" ;; esac
  done
}
