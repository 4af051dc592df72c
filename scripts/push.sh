#!/bin/sh
# Bring a package onto a device: only what is not there already, checked there when it has arrived.
set -eu
scripts=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
# shellcheck source=scripts/device.sh
. "$scripts/device.sh"
# shellcheck source=scripts/parallel.sh
. "$scripts/parallel.sh"
# shellcheck source=scripts/sums.sh
. "$scripts/sums.sh"
on_device=$(cat "$scripts/on_device.sh")

usage() {
  cat <<'EOF'
usage: scripts/push.sh PACKAGE [-i DEVICE]... [-w FOLDER_ON_THE_DEVICE]

  PACKAGE    a folder made by tod package
  -i DEVICE  ssh:user@host[:port], adb:SERIAL or local (default: adb's only device); several: -i
             again, they are served side by side
  -w FOLDER  its place on the device (default: tod/<name> in the home over ssh,
             /data/local/tmp/<name> over adb, the package itself for local)

Only what changed is sent, and checked on the device. After an interruption: the same command again.

Example: scripts/push.sh build/package-arm64 -i ssh:pi@raspberrypi.local

Exit codes: 0 done, 2 usage or a job is running there, 3 no package, 4 a file is damaged,
5 the device cannot take it, 7 device not reached or lost, 130 interrupted.
EOF
}

push() { # DEVICE
  device_open "$1" "${folder:-$(default_folder "$1" "$package")}"
  [ ! -e "$package/INCOMPLETE" ] ||
    fail 4 "$package was not pushed here completely" 'make it again with tod package'
  inspect
  if [ "$device_kind" = local ] && [ "$(whole_path "$device_folder")" = "$package" ]; then
    check_here "$package/SHA256SUMS"
    echo 'nothing to send: the package is used where it is'
    return
  fi
  push_id=${device_temp##*.}
  mkdir "$device_temp/marks"
  put_list SHA256SUMS-new
  ask compare
  own_count=$(sed -n 's/^own //p' "$device_temp/answer")
  choose
  if ! answered complete; then
    check_room
    check_here "$device_temp/missing"
    send_files
  fi
  [ "${own_count:-0}" -eq 0 ] || say_own
  summary
}

# What must be known before anything is touched. The folder may come from -w and hold other things:
# only in one that is ours anything is ever removed.
inspect() {
  # shellcheck disable=SC2016 # the device's shell expands it
  device_info 'cd "$folder" 2>/dev/null || exit 0
    [ ! -f bin/job ] || echo "job=$(sh bin/job status 2>/dev/null)"
    [ -z "$(ls -A)" ] || [ -e INCOMPLETE ] || [ -e lib/TARGET ] ||
      ls SHA256SUMS* >/dev/null 2>&1 || echo foreign=yes' >"$device_temp/info" || unexpected $?
  [ "$(info job)" != running ] || fail 2 "a job is running on $device_label" \
    'wait for it (scripts/run.sh --attach) or end it (scripts/run.sh --stop)'
  [ -z "$(info foreign)" ] || fail 2 \
    "$device_folder on $device_label holds other files and no package" 'give a new folder with -w'
  wanted=$(sed -n 's/^machine=//p' "$package/lib/TARGET")
  [ -n "${TOD_EMULATOR-}" ] || [ "$(info machine)" = "$wanted" ] ||
    fail 5 "the package is for $wanted, $device_label is $(info machine)" \
      'make one for it with tod package --target'
  [ -z "$(info missing_tools)" ] ||
    fail 5 "$device_label has no$(info missing_tools)" \
      'install coreutils, busybox or toybox there; Android has them since version 8'
  [ "$(info writable)" = yes ] ||
    fail 5 "$device_folder cannot be written on $device_label" 'push to another folder (-w)'
}

unexpected() { # CODE
  fail 5 "$device_label answers with exit code $1: $(device_said)" 'is its disk full or damaged?'
}

info() { # KEY
  sed -n "s/^$1=//p" "$device_temp/info"
}

# Of the package only what is sent: what the device has already is right there.
check_here() { # LIST
  right_here "$package" "$1" >"$device_temp/right"
  without "$device_temp/right" "$1" >"$device_temp/damaged"
  [ ! -s "$device_temp/damaged" ] ||
    fail 4 "$package is damaged: $(in_short "$device_temp/damaged")" \
      'make it again with tod package'
}

put_list() { # KIND [MARK]: see on_device.sh
  cp "$package/SHA256SUMS" "$device_temp/marks/$1.$push_id"
  printf '%s\n' "$1.$push_id" ${2+"$2"} >"$device_temp/names"
  device_put "$device_temp/marks" "$device_temp/names"
}

ask() { # FUNCTION of on_device.sh that takes the push's ID
  device_ask "$(in_folder "$on_device
    $1 $push_id")" >"$device_temp/answer" || unexpected $?
}

answered() { # WORD
  grep -qx "$1" "$device_temp/answer"
}

choose() { # what is missing there, and what is there already
  sed -n 's/^wrong //p' "$device_temp/answer" >"$device_temp/names"
  without "$device_temp/names" "$package/SHA256SUMS" >"$device_temp/there"
  cut -c 67- "$device_temp/there" >"$device_temp/names"
  without "$device_temp/names" "$package/SHA256SUMS" >"$device_temp/missing"
}

check_room() {
  sizes "$package" "$device_temp/missing" >"$device_temp/sizes"
  # Files take whole blocks, and 1 MB is for folders.
  need_kb=$(awk '{ blocks += int(($1 + 4095) / 4096) } END { print blocks * 4 + 1024 }' \
    "$device_temp/sizes")
  free_kb=$(info free_kb)
  if [ -s "$device_temp/missing" ] && [ "${free_kb:-$need_kb}" -lt "$need_kb" ]; then
    fail 5 "$device_label has too little room: $((need_kb / 1024)) MB are needed and \
$((free_kb / 1024)) MB free" 'make room there, or push to another disk with -w'
  fi
}

send_files() {
  ask begin
  answered begun || another_push
  if [ -s "$device_temp/missing" ]; then
    cut -c 67- "$device_temp/missing" >"$device_temp/names"
    echo "sending $(count "$device_temp/names") files, $(megabytes "$device_temp/sizes") MB" >&2
    device_put "$package" "$device_temp/names"
  fi
  ask finish
  ! answered complete || return 0
  if [ ! -s "$device_temp/answer" ]; then
    # The other one may have ended before this one's last files: what is there now is neither.
    echo "$push_id" >"$device_temp/marks/INCOMPLETE"
    put_list SHA256SUMS INCOMPLETE
    another_push
  fi
  choose
  fail 4 "damaged on the way to $device_label: $(in_short "$device_temp/missing")" 'push again'
}

another_push() {
  fail 4 "another push to $device_folder on $device_label has begun" \
    'wait until it has ended, then push again'
}

say_own() {
  trained='; they are trained on too'
  # With a list of its pictures a dataset is only what the list says.
  ! grep -q '^.\{66\}dataset/\(dataset\.json\|targets\.csv\)$' "$package/SHA256SUMS" ||
    trained='; they are not trained on'
  echo "$own_count files in dataset/ are the device's own and stay$trained" >&2
}

megabytes() { # SIZES...
  awk '{ bytes += $1 } END { printf "%.1f", bytes / 1e6 }' "$@"
}

summary() {
  all=$(count "$package/SHA256SUMS")
  sizes "$package" "$device_temp/there" >"$device_temp/there_sizes"
  sizes "$package" "$device_temp/missing" >"$device_temp/sizes"
  echo "sent $(count "$device_temp/missing") of $all files," \
    "$(megabytes "$device_temp/sizes") MB;" \
    "$(megabytes "$device_temp/there_sizes") MB were there already"
}

package='' folder=''
while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) usage && exit ;;
    -i | -w) [ $# -ge 2 ] || fail 2 "$1 wants a value" 'scripts/push.sh --help shows an example' ;;
    -*) fail 2 "$1 is no option" 'scripts/push.sh --help shows them' ;;
    *) [ -z "$package" ] || fail 2 "one package is wanted, not also $1" \
      'see scripts/push.sh --help' ;;
  esac
  case $1 in
    -i) add_device "$2" && shift ;;
    -w) folder=$2 && shift ;;
    *) package=$1 ;;
  esac
  shift
done
[ -n "$package" ] || fail 2 'no package is given' 'scripts/push.sh --help shows an example'
{ [ -s "$package/SHA256SUMS" ] && [ -r "$package/lib/TARGET" ]; } ||
  fail 3 "$package is no package: it has no SHA256SUMS or no lib/TARGET" 'make one with tod package'
package=$(whole_path "$package")
each_device "$package-results" push.log push
