# shellcheck shell=sh
# What push.sh, run.sh and pull.sh run on the device itself, in the package's folder: they send this
# text. Only sh and a few small tools are there (device_tools in device.sh).
#
#   SHA256SUMS         the package that was pushed last
#   SHA256SUMS-new.ID  of a push that asks what is there; it has changed nothing yet
#   SHA256SUMS.ID      of a push that has begun: what it names may be there, whole or not
#   INCOMPLETE         nothing starts; holds the ID of the push that began last
#
# Of what sha256sum -c says only the lines "<name>: OK" are the same in coreutils, busybox, toybox.

names() { # LIST -> the names in it
  sed 's/^.\{66\}//' "$1" 2>/dev/null
}

wrong() { # LIST -> the names of those files that are not here or not right
  { names "$1" && LC_ALL=C sha256sum -c "$1" 2>/dev/null | sed -n 's/: OK$//p'; } | once
}

once() { # the lines that are there only once
  LC_ALL=C sort | LC_ALL=C uniq -u
}

earlier() { # ID -> the names that other pushes brought, or may have brought before they were cut
  for list in SHA256SUMS SHA256SUMS.*; do
    [ "$list" = "SHA256SUMS.$1" ] || names "$list"
  done | LC_ALL=C sort -u
}

# Files that the new package has no more. What no list names is the device's own and stays.
surplus() { # LIST ID
  { names "$1" && names "$1" && earlier "$2"; } | once
}

own() { # LIST ID -> the files in dataset/ that no push brought
  {
    # Twice, so that once leaves them out.
    names "$1" && names "$1" && earlier "$2" && earlier "$2"
    find dataset -name .tod-cache -prune -o -type f -print 2>/dev/null
  } | once
}

compare() { # ID -> "complete", or lines "wrong NAME"; and "own COUNT"
  new=SHA256SUMS-new.$1
  missing=$(wrong "$new")
  names "$new" | grep -q '^dataset/' && echo "own $(($(own "$new" "$1" | wc -l)))"
  if [ -z "$missing$(surplus "$new" "$1")" ] && [ ! -e INCOMPLETE ]; then
    settle
    mv -f "$new" SHA256SUMS && echo complete
  elif [ -n "$missing" ]; then
    printf '%s\n' "$missing" | sed 's/^/wrong /'
  fi
}

begin() { # ID -> "begun"
  # A push that ended meanwhile removes the lists of those that asked before it.
  [ -e "SHA256SUMS-new.$1" ] || return 0
  echo "$1" >INCOMPLETE && mv -f "SHA256SUMS-new.$1" "SHA256SUMS.$1" || return
  settle
  remove_surplus "$1"
  echo begun
}

# All is looked at again: another push may have written at the same time.
finish() { # ID -> "complete", or lines "wrong NAME"; nothing when another push has begun
  latest "$1" || return 0
  remove_surplus "$1"
  missing=$(wrong "SHA256SUMS.$1")
  settle
  latest "$1" || return 0
  if [ -z "$missing" ]; then
    mv -f "SHA256SUMS.$1" SHA256SUMS || return
    settle
    rm -f SHA256SUMS.* SHA256SUMS-new.* INCOMPLETE && echo complete
  else
    printf '%s\n' "$missing" | sed 's/^/wrong /'
  fi
}

latest() { # ID: is it that of the push that began last?
  [ -s "SHA256SUMS.$1" ] && [ "$(cat INCOMPLETE 2>/dev/null)" = "$1" ]
}

settle() { # a power cut must not keep what comes next and lose what came before
  { sync -f . || sync || :; } 2>/dev/null
}

remove_surplus() { # ID
  surplus "SHA256SUMS.$1" "$1" | while IFS= read -r name; do
    rm -f "./$name"
    # Not even an empty folder stays: in dataset/ it would be a class without pictures.
    while [ "$name" != "${name%/*}" ]; do
      name=${name%/*}
      rmdir "./$name" 2>/dev/null || break
    done
  done
}

refuse() { # PROBLEM
  printf 'error: %s\nhint: push the package again, with scripts/push.sh\n' "$1" >&2
  exit 4
}

verify() {
  [ ! -e INCOMPLETE ] || refuse 'the package was not pushed completely'
  [ -e SHA256SUMS ] || refuse "there is no package in $PWD"
  [ -s SHA256SUMS ] || refuse "the list of the package's files is empty: $PWD/SHA256SUMS"
  damaged=$(wrong SHA256SUMS | head -n 3)
  [ -z "$damaged" ] || refuse "damaged on the device: $damaged"
  made_for=$(sed -n 's/^machine=//p' lib/TARGET)
  [ -n "${TOD_EMULATOR-}" ] || [ "$(uname -m)" = "$made_for" ] || {
    printf 'error: the package is for %s, this device is %s\n' "$made_for" "$(uname -m)"
    echo 'hint: make one for it, with the other target'
    exit 5
  } >&2
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
