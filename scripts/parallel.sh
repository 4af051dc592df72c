# shellcheck shell=sh
# What push.sh, run.sh and pull.sh share: their devices, in parallel when -i is repeated, each with
# its own log, its name before its lines, and a line of its own at the end.

devices='' device_count=0

add_device() { # DEVICE
  case $1 in
    ssh:?* | adb:?* | local) ;;
    *) fail 2 "$1 is no device" '-i takes ssh:user@host[:port], adb:SERIAL or local' ;;
  esac
  case "
$devices
" in
    *"
$1
"*) fail 2 "-i $1 is given twice" 'name each device once' ;;
  esac
  devices=$devices${devices:+
}$1
  device_count=$((device_count + 1))
}

whole_path() { # FOLDER, which need not be here -> without a slash at its end
  (CDPATH='' cd -- "$1" 2>/dev/null && pwd -P) || case $1 in
    /*) echo "${1%/}" ;;
    *) echo "$PWD/${1%/}" ;;
  esac
}

default_folder() { # DEVICE PACKAGE -> the package's place on the device
  case $1 in
    ssh:*) echo "tod/$(basename -- "$2")" ;;
    local) echo "$2" ;;
    *) echo "/data/local/tmp/$(basename -- "$2")" ;;
  esac
}

file_name() { # DEVICE -> a name for its folder of results
  echo "${1#*:}" | tr -c 'A-Za-z0-9@._\n-' '-'
}

each_device() { # FOLDER LOG FUNCTION: FUNCTION DEVICE, with a log in FOLDER/<device>/LOG
  if [ "$device_count" -le 1 ]; then
    "$3" "$devices"
    return
  fi
  outcomes=$(temporary_folder) || fail 5 'no temporary folder can be made here' 'set TMPDIR'
  trap 'rm -rf "$outcomes"' EXIT
  # shellcheck disable=SC2086 # one word for each process
  trap 'kill $children 2>/dev/null || :; wait; exit 130' INT TERM HUP
  children=''
  while read -r each; do
    start_one "$each" "$1/$(file_name "$each")" "$2" "$3"
    children="$children $!"
  done <<EOF
$devices
EOF
  await_all "$1" "$2"
}

start_one() { # DEVICE FOLDER LOG FUNCTION
  mkdir -p "$2" 2>/dev/null || fail 5 "$2: the log cannot be written there" 'make it writable'
  pipe=$outcomes/$(file_name "$1")
  mkfifo "$pipe"
  copy_lines "$1" <"$pipe" 3>"$2/$3" &
  ("$4" "$1") </dev/null >"$pipe" 2>&1 &
}

copy_lines() { # DEVICE
  trap '' TERM # what a stopped device still says is shown
  while IFS= read -r line; do
    printf '[%s] %s\n' "$1" "$line"
    printf '%s\n' "$line" >&3
  done
}

await_all() { # FOLDER LOG
  worst=0
  for child in $children; do
    code=0
    wait "$child" || code=$?
    echo "$code" >>"$outcomes/codes"
    [ "$code" -le "$worst" ] || worst=$code
  done
  wait # for the last lines
  while read -r code <&4 && read -r each; do
    log=$1/$(file_name "$each")/$2
    case $code in
      0) printf '%s: done: %s\n' "$each" \
        "$({ grep '^untrained .* difference ' "$log" || cat "$log"; } | tail -n 1)" ;;
      *) printf '%s: exit code %s: %s\n' "$each" "$code" \
        "$({ grep '^error: ' "$log" || cat "$log"; } | tail -n 1)" ;;
    esac
  done 4<"$outcomes/codes" <<EOF
$devices
EOF
  return "$worst"
}
