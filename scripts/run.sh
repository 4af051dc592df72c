#!/bin/sh
# Run the job of a package on a device - evaluate, train, evaluate - and show it as it goes.
set -eu
scripts=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
# shellcheck source=scripts/device.sh
. "$scripts/device.sh"
# shellcheck source=scripts/parallel.sh
. "$scripts/parallel.sh"
on_device=$(cat "$scripts/on_device.sh")

usage() {
  cat <<'EOF'
usage: scripts/run.sh PACKAGE [-i DEVICE]... [-w FOLDER_ON_THE_DEVICE]
                      [--attach | --stop | --status] [-- ARGUMENTS OF train.sh]

  PACKAGE    a folder made by tod package, or its name
  -i DEVICE  ssh:user@host[:port], adb:SERIAL or local (default: adb's only device); several: -i
             again, they are served side by side
  -w FOLDER  the package's place on the device, as given to push.sh
  --attach   show the job that runs there, or the last one, from its beginning
  --stop     ask it to finish its cycle and to save a checkpoint, and wait until it has
  --status   say whether a job runs there

The job does not need the connection: Ctrl-C, or a cut, leaves it running.

Example: scripts/run.sh build/package-arm64 -i ssh:pi@raspberrypi.local -- -c 100

Exit codes: that of the job; 2 usage or a job is running there already, 4 a file on the device is
damaged, 7 device not reached or lost, 130 interrupted.
EOF
}

run() { # DEVICE
  device_open "$1" "${folder:-$(default_folder "$1" "$package")}"
  again="scripts/run.sh $(quote "$package_given")${1:+-i $(quote "$1")}"
  again="$again${folder:+-w $(quote "$folder")}"
  case $action in
    start)
      device_ask "$(in_folder "$on_device
        verify
        exec sh bin/job start $arguments")" >&2
      follow
      ;;
    attach) follow ;;
    *) device_ask "$(in_folder "exec sh bin/job $action")" ;;
  esac
}

follow() {
  device_lost_hint="training goes on; see it with: $again--attach"
  trap 'echo "training goes on; see it with: $again--attach" >&2; exit 130' INT TERM HUP
  # Through a named pipe, because this shell itself must wait for the device to hear of Ctrl-C.
  mkfifo "$device_temp/pipe"
  { after_greeting && tee "$device_temp/log"; } <"$device_temp/pipe" &
  printer=$!
  code=0
  device_sh "$begin_answer
    $(in_folder 'exec sh bin/job follow')" >"$device_temp/pipe" || code=$?
  wait "$printer" || :
  # The device has said already what there is to say.
  ! grep -q '^error: ' "$device_temp/stderr" || exit "$code"
  case $code in
    0) difference ;;
    130) fail 130 "the job on $device_label was stopped" \
      'bring its checkpoints here with scripts/pull.sh' ;;
    *) fail "$code" "the job on $device_label failed with exit code $code" \
      'its own words are above' ;;
  esac
}

difference() {
  awk '/^== / { step = $0 }
    / on validation data = / {
      if (step ~ /untrained/) before = $NF
      else if (step ~ /trained/) after = $NF
    }
    END {
      if (before != "" && after != "")
        printf "untrained %.4f  trained %.4f  difference %+.4f\n", before, after, after - before
    }' "$device_temp/log"
}

package_given='' folder='' action=start arguments=''
while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) usage && exit ;;
    -i | -w) [ $# -ge 2 ] || fail 2 "$1 wants a value" 'see scripts/run.sh --help' ;;
    --attach | --stop | --status) [ "$action" = start ] ||
      fail 2 "--$action and $1 exclude each other" 'give one of them' ;;
    --) ;;
    -*) fail 2 "$1 is no option" \
      'scripts/run.sh --help shows them; those of train.sh come after --' ;;
    *) [ -z "$package_given" ] ||
      fail 2 "one package is wanted, not also $1" 'arguments of train.sh come after --' ;;
  esac
  case $1 in
    --) shift && arguments=$(quote "$@") && break ;;
    -i) add_device "$2" && shift ;;
    -w) folder=$2 && shift ;;
    --*) action=${1#--} ;;
    *) package_given=$1 ;;
  esac
  shift
done
[ -n "$package_given" ] || fail 2 'no package is given' 'scripts/run.sh --help shows an example'
[ -z "$arguments" ] || [ "$action" = start ] ||
  fail 2 "--$action takes no arguments of train.sh" 'leave out what comes after --'
package=$(whole_path "$package_given")
each_device "$package-results" "$action.log" run
