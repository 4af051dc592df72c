#!/bin/sh
# Bring back from a device what was made there: trained model, checkpoints, log.
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
usage: scripts/pull.sh PACKAGE [-i DEVICE]... [-w FOLDER_ON_THE_DEVICE] [-o FOLDER]

  PACKAGE    a folder made by tod package, or its name
  -i DEVICE  ssh:user@host[:port], adb:SERIAL or local (default: adb's only device); several: -i
             again, they are served side by side
  -w FOLDER  the package's place on the device, as given to push.sh
  -o FOLDER  where to put it (default: PACKAGE-results/<device>; of several devices:
             FOLDER/<device>)

Brings model/*_trained.tod, checkpoints and whatever else was made in model/, and job/log; only what
is not here already. A file has its name only when it is whole.

Example: scripts/pull.sh build/package-arm64 -i ssh:pi@raspberrypi.local

Exit codes: 0 done, 2 usage, 3 there is nothing to bring, 4 a file was damaged on its way,
5 it cannot be written here, 7 device not reached or lost, 130 interrupted.
EOF
}

pull() { # DEVICE
  device_open "$1" "${folder:-$(default_folder "$1" "$package")}"
  device_lost_hint='repeat the command: what has arrived whole is not brought again'
  device_ask "$(in_folder "$on_device
    products")" >"$device_temp/answer"
  [ -s "$device_temp/answer" ] || fail 3 "there is nothing to bring from $device_label" \
    'train there first, with scripts/run.sh'
  out=${output:-$logs/$(file_name "$device_label")}
  [ "$device_count" -le 1 ] || out=$logs/$(file_name "$device_label")
  mkdir -p "$out/model" "$out/job" 2>/dev/null ||
    fail 5 "$out: cannot be written" 'choose another folder with -o'
  choose
  earlier=''
  [ ! -s "$device_temp/missing" ] || bring
  bring_base
  trained=$out/model/transfer_learning_trained.tod
  [ ! -f "$trained" ] || echo "the trained model: $trained"
  echo "brought $(count "$device_temp/missing") files to $out;" \
    "$(count "$device_temp/right") were there already"
}

here() { # LIST of the device -> with the names of here
  sed 's|  job/log\.pulled$|  job/log|' "$1"
}

choose() {
  here "$device_temp/answer" >"$device_temp/wanted"
  right_here "$out" "$device_temp/wanted" >"$device_temp/right"
  without "$device_temp/right" "$device_temp/wanted" >"$device_temp/missing"
}

# Models of an earlier job, which the device has overwritten: nobody has them but this folder.
keep_earlier() { # NAME
  case $1 in model/*) ;; *) return 0 ;; esac
  [ -e "$out/$1" ] || return 0
  if [ -z "$earlier" ]; then
    number=1
    while [ -e "$out/earlier-$number" ]; do number=$((number + 1)); done
    earlier=$out/earlier-$number
    mkdir -p "$earlier/model"
    echo "what was here before is in $earlier"
  fi
  mv "$out/$1" "$earlier/$1"
}

# A checkpoint is of no use without the model that it was trained from.
bring_base() {
  base=model/transfer_learning.tod
  [ ! -f "$package/$base" ] || [ -e "$out/$base" ] || cp "$package/$base" "$out/$base"
}

bring() {
  # In the same file system, so that a rename makes a file whole at once.
  incoming=$(mktemp -d "$out/.incoming.XXXXXX") ||
    fail 5 "$out: cannot be written" 'choose another folder with -o'
  trap 'rm -rf "$incoming"; device_close' EXIT
  set --
  while IFS= read -r name; do
    [ "$name" != job/log ] || name=job/log.pulled
    set -- "$@" "$name"
  done <<EOF
$(cut -c 67- "$device_temp/missing")
EOF
  got=0
  device_get "$incoming" "$@" || got=$?
  [ ! -f "$incoming/job/log.pulled" ] || mv "$incoming/job/log.pulled" "$incoming/job/log"
  # Whole files are kept also when the connection broke after them.
  right_here "$incoming" "$device_temp/missing" >"$device_temp/arrived"
  while IFS= read -r name; do
    keep_earlier "$name"
    mv -f "$incoming/$name" "$out/$name"
  done <"$device_temp/arrived"
  without "$device_temp/arrived" "$device_temp/missing" >"$device_temp/damaged"
  [ ! -s "$device_temp/damaged" ] || ! disk_is_full ||
    fail 5 "the disk of this computer is full: $out" 'make room, or choose another with -o'
  [ "$got" -ne 7 ] || device_lost
  [ ! -s "$device_temp/damaged" ] || fail 4 \
    "not whole from $device_label: $(in_short "$device_temp/damaged")" \
    'pull again; while a job runs there its files change'
}

# Not every tar says so in the same words; what it could not write lies there still.
disk_is_full() {
  case $(cat "$device_temp/stderr") in *'o space left'* | *'quota exceeded'*) return ;; esac
  [ "$(df -Pk "$out" | awk 'NR == 2 { print $4 }')" -lt 1024 ]
}

package='' folder='' output=''
while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) usage && exit ;;
    -i | -w | -o) [ $# -ge 2 ] || fail 2 "$1 wants a value" 'see scripts/pull.sh --help' ;;
    -*) fail 2 "$1 is no option" 'scripts/pull.sh --help shows them' ;;
    *) [ -z "$package" ] || fail 2 "one package is wanted, not also $1" \
      'see scripts/pull.sh --help' ;;
  esac
  case $1 in
    -i) add_device "$2" && shift ;;
    -w) folder=$2 && shift ;;
    -o) output=$2 && shift ;;
    *) package=$1 ;;
  esac
  shift
done
[ -n "$package" ] || fail 2 'no package is given' 'scripts/pull.sh --help shows an example'
package=$(whole_path "$package")
logs=${output:-$package-results}
each_device "$logs" pull.log pull
