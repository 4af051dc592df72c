# shellcheck shell=sh
# The verbs of a device - info, put, get, run - the same for ssh, adb and this machine, and what is
# said when one of them fails. Knows files and commands; knows no packages.
#
# A device is ssh:user@host[:port], adb:SERIAL, local, or nothing: adb's only device. ssh and adb
# are the user's own, with their configuration; TOD_SSH and TOD_ADB may hold the command with
# options, like GIT_SSH_COMMAND. Each verb is one round trip, and ends the script with exit code 7
# when the device is lost.

fail() { # CODE PROBLEM [HINT]
  printf 'error: %s\n' "$2" >&2
  [ $# -lt 3 ] || printf 'hint: %s\n' "$3" >&2
  exit "$1"
}

find_tod() { # REPOSITORY: also the environment that its make demo makes
  command -v tod >/dev/null 2>&1 || PATH=$PATH:$1/.venv/bin
  command -v tod >/dev/null 2>&1 ||
    fail 5 'there is no tod on the PATH' "install it in $1: pip install -c constraints.txt '.[workstation]'"
}

quote() { # WORD... -> the same words for another shell, each with a blank behind it
  for word in "$@"; do
    printf "'%s' " "$(printf %s "$word" | sed "s/'/'\\\\''/g")"
  done
}

device_open() { # DEVICE FOLDER_ON_THE_DEVICE
  device=$1 device_folder=$2 device_label=$1 device_child=''
  device_lost_hint='repeat the command: what has arrived is not sent again'
  # A login begins in the home.
  home=.
  [ "$1" != local ] || home=$HOME
  case $device_folder in
    /*) ;;
    "~") device_folder=$home ;;
    "~"/*) device_folder=$home/${device_folder#"~"/} ;;
    *) device_folder=./$device_folder ;;
  esac
  device_temp=$(temporary_folder) || fail 5 'no temporary folder can be made here' 'set TMPDIR'
  trap device_close EXIT
  trap 'fail 130 interrupted "$device_lost_hint"' INT TERM HUP
  case $device in
    ssh:*) device_kind=ssh && ssh_open ;;
    adb:* | '') device_kind=adb && adb_open ;;
    local) device_kind=local ;;
    *) fail 2 "$device is no device" '-i takes ssh:user@host[:port], adb:SERIAL or local' ;;
  esac
}

temporary_folder() {
  base=${TMPDIR:-/tmp}
  # ssh makes its socket there, whose whole name may have 104 bytes; % has a meaning to ssh.
  case $base in *%*) base=/tmp ;; esac
  [ "$(printf %s "$base" | wc -c)" -le 60 ] || base=/tmp
  mktemp -d "$base/tod.XXXXXX" 2>/dev/null
}

device_close() {
  trap - EXIT
  [ -z "$device_child" ] || kill "$device_child" 2>/dev/null || :
  [ ! -S "$device_temp/ssh" ] || (ssh_client -O exit "$ssh_target") >/dev/null 2>&1 || :
  rm -rf "$device_temp"
}

# A login shell may print a greeting first. The empty line ends one that ends in the middle of a line.
begin_answer='echo; echo tod:answer'

after_greeting() { # takes no byte more than the answer's first line from a pipe
  line=''
  while [ "$line" != tod:answer ] && IFS= read -r line; do :; done
}

device_ask() { # COMMAND -> what it prints, and only that; returns the command's exit code
  device_sh "$begin_answer
    $1" >"$device_temp/said" || return
  { after_greeting && cat; } <"$device_temp/said"
}

in_folder() { # COMMAND -> the same, in the device's folder
  printf '%s' "cd $(quote "$device_folder")2>/dev/null || {
    printf '%s\n' $(quote "error: there is no folder $device_folder on $device_label" \
    "hint: push the package first, with scripts/push.sh")>&2
    exit 4
  }
  $1"
}

# shellcheck disable=SC2016 # the device's shell expands it
device_info() { # [MORE_COMMANDS] -> lines machine= free_kb= writable= missing_tools=
  device_ask "folder=$(quote "$device_folder"); tools=$(quote "$(device_tools)")"'
    at=$folder
    while [ ! -e "$at" ]; do
      case $at in */*) at=${at%/*} ;; *) at=. ;; esac
      [ -n "$at" ] || at=/
    done
    missing=
    for tool in $tools; do
      command -v "$tool" >/dev/null 2>&1 || missing="$missing $tool"
    done
    echo "missing_tools=$missing"
    echo "machine=$(uname -m)"
    df -Pk "$at" 2>/dev/null | sed -n "s/.* \([0-9][0-9]*\)  *[0-9]*% .*/free_kb=\1/p"
    (: >"$at/.tod-$$" && rm -f "$at/.tod-$$" && echo writable=yes) 2>/dev/null || :
    '"${1-}"
}

# All that the scripts and the package's own use there and that no shell has itself. What is not
# listed here does without: setsid (bin/job), sync (on_device.sh).
device_tools() {
  # adb carries files itself.
  [ "$device_kind" = adb ] || printf 'tar '
  printf 'cat cp df find grep head ls mkdir mv printf rm rmdir sed sha256sum sleep sort '
  printf 'tail uname uniq wc'
}

device_sh() { # COMMAND: where a login begins; returns the command's exit code
  device_do "${device_kind}_sh" "$1"
  "${device_kind}_code"
  cat "$device_temp/stderr" >&2
  return "$device_code"
}

device_put() { # FOLDER LIST: the files of FOLDER that LIST names, to the device's folder
  device_do "${device_kind}_put" "$@"
  [ "$device_code" -ne 0 ] || return 0
  case $(cat "$device_temp/stderr") in
    *'o space left'* | *'quota exceeded'*)
      fail 5 "the disk of $device_label is full" \
        'make room there and push again, or push with -w' ;;
    *[Rr]'ead-only'* | *'ermission denied'* | *'ot a directory'* | *'ile exists'*)
      fail 5 "$device_folder cannot be written on $device_label" 'push to another folder (-w)' ;;
  esac
  [ "$device_kind" = local ] || [ "$device_kind$device_code" = ssh2 ] || device_lost
  fail 5 "the files could not be written on $device_label: $(device_said)" 'push again'
}

device_get() { # LOCAL_FOLDER FILE...: of the device's folder; returns 7 when the device is lost
  rm -f "$device_temp/code"
  device_do "${device_kind}_get" "$@"
  [ ! -s "$device_temp/code" ] || device_code=$(cat "$device_temp/code")
  [ "$device_kind$device_code" != ssh255 ] || return 7
  return "$device_code"
}

# In the background, because a shell that waits for a command in the foreground hears of Ctrl-C
# only when that command has ended.
device_do() { # FUNCTION ARGUMENT... -> device_code, and what it says on stderr in a file
  device_code=0
  "$@" 2>"$device_temp/stderr" &
  device_child=$!
  wait "$device_child" || device_code=$?
  device_child=''
}

device_said() {
  sed '/^$/d; s/^adb: //; s/^error: //' "$device_temp/stderr" | tail -n 1
}

device_lost() {
  said=$(device_said)
  fail 7 "the connection to $device_label was lost${said:+ ($said)}" "$device_lost_hint"
}

pack() { # FOLDER LIST -> a stream; without the extra files that macOS would add
  COPYFILE_DISABLE=1 exec tar -cf - -C "$1" -T "$2"
}

# local -------------------------------------------------------------------------------------------

local_sh() {
  exec sh -c "$1"
}

local_code() {
  :
}

local_put() {
  ssh_put "$@"
}

local_get() {
  ssh_get "$@"
}

# ssh ---------------------------------------------------------------------------------------------

ssh_open() {
  ssh_port='' ssh_target=${device#ssh:}
  case $ssh_target in
    *\]) ;;
    *\]:*) ssh_port=${ssh_target##*:} ssh_target=${ssh_target%:*} ;;
    *:*:*) ;; # an IPv6 address without a port
    *:*) ssh_port=${ssh_target##*:} ssh_target=${ssh_target%:*} ;;
  esac
  ssh_target=$(printf %s "$ssh_target" | tr -d '[]')
  case $ssh_target in '' | -* | *@ | *@-*) ssh_port=none ;; esac
  case $ssh_port in
    *[!0-9]*) fail 2 "$device is no device" 'write ssh:user@host or ssh:user@host:port' ;;
  esac
  # Without a terminal nobody can type a password.
  ssh_batch=yes
  if [ -t 0 ] && [ -t 2 ]; then ssh_batch=''; fi
  device_do ssh_client -fN "$ssh_target"
  [ "$device_code" -eq 0 ] || ssh_refused
}

# The first connection is shared by all later ones. A lost one is noticed after 15 s; one that is
# unused for a minute ends, should this script be killed before it can close it.
ssh_client() { # ARGUMENT...; replaces this process
  set -- -S "$device_temp/ssh" -o ControlMaster=auto -o ControlPersist=60 -o ConnectTimeout=15 \
    -o ServerAliveInterval=5 -o ServerAliveCountMax=2 -o ClearAllForwardings=yes \
    -o RemoteCommand=none -T -x \
    ${ssh_batch:+-o BatchMode=yes} ${ssh_port:+-p "$ssh_port"} "$@"
  eval "exec ${TOD_SSH:-ssh} \"\$@\""
}

ssh_refused() {
  by_hand="${TOD_SSH:-ssh}${ssh_port:+ -p $ssh_port} $ssh_target"
  case $(cat "$device_temp/stderr") in
    *'HOST IDENTIFICATION HAS CHANGED'*)
      fail 7 "the host key of $device is not the one that is known here" \
        'somebody may be listening in; if the device was set up anew: ssh-keygen -R HOST' ;;
    *'ost key verification failed'*)
      fail 7 "the host key of $device is not known here" \
        "compare its fingerprint and accept it once by hand: $by_hand" ;;
    *'ermission denied'* | *'oo many authentication'*)
      fail 7 "$device refuses the login" "give it your key with ssh-copy-id, then try: $by_hand" ;;
    *'ould not resolve'*)
      fail 7 "$device: the network knows no such host" 'check the name' ;;
  esac
  [ "$device_code" -ne 127 ] || fail 7 'there is no ssh client here' \
    'install OpenSSH or set TOD_SSH'
  fail 7 "$device cannot be reached: $(device_said)" \
    "is it switched on and in this network? Try: $by_hand"
}

ssh_sh() { # COMMAND
  # The login shell there may be any one: it sees a single word in quotes.
  ssh_client "$ssh_target" "exec sh -c $(quote "$1")"
}

ssh_code() {
  [ "$device_code" -ne 255 ] || device_lost
}

ssh_put() { # FOLDER LIST
  there=$(quote "$device_folder")
  pack "$@" | ("${device_kind}_sh" "mkdir -p $there && cd $there && { tar -xof - || exit 2; }" >/dev/null)
}

ssh_get() { # LOCAL_FOLDER FILE...
  into=$1
  shift
  # The exit code of a pipe is that of its end.
  { ("${device_kind}_sh" "$begin_answer
    cd $(quote "$device_folder")&& exec tar -cf - $(quote "$@")") ||
    echo $? >"$device_temp/code"; } | { after_greeting && tar -xof - -C "$into"; }
}

# adb ---------------------------------------------------------------------------------------------

adb_open() {
  adb_serial=${device#adb:}
  adb_serial=${adb_serial:-${ANDROID_SERIAL-}}
  device_do adb_client devices >"$device_temp/devices"
  [ "$device_code" -ne 127 ] || fail 7 'there is no adb here' 'install adb or set TOD_ADB'
  [ "$device_code" -eq 0 ] || fail 7 "adb does not work here: $(device_said)" 'try: adb devices'
  # Lines of SERIAL, a tab, STATE.
  tab=$(printf '\t')
  found=$(sed -n "s/^\([^ $tab]*\)$tab.*/\1/p" "$device_temp/devices" | tr '\n' ' ')
  [ -n "$found" ] ||
    fail 7 "no device is connected${adb_serial:+: $adb_serial is not here}" \
      'connect it and allow USB debugging in its developer options, then see: adb devices'
  if [ -z "$adb_serial" ]; then
    adb_serial=${found% }
    case $adb_serial in
      *' '*) fail 7 "several devices are connected: $adb_serial" 'choose with -i adb:SERIAL' ;;
    esac
  fi
  device_label=adb:$adb_serial
  adb_check "$(sed -n "s/^\([^ $tab]*\)$tab/\1 /p" "$device_temp/devices" |
    while read -r serial state; do [ "$serial" != "$adb_serial" ] || echo "$state"; done)"
}

adb_check() { # STATE
  case $1 in
    device) ;;
    '') fail 7 "$device_label is not connected" "these are: $found" ;;
    unauthorized*) fail 7 "$device_label does not trust this computer yet" \
      'unlock it and allow USB debugging when it asks' ;;
    *permissions*) fail 7 "this user may not speak to $device_label over USB" \
      "add your distribution's udev rules for Android and plug it in again" ;;
    *) fail 7 "$device_label is not ready: its state is $1" 'unplug it, plug it in again' ;;
  esac
}

adb_client() { # ARGUMENT...; replaces this process
  [ -z "$adb_serial" ] || [ "$1" = devices ] || set -- -s "$adb_serial" "$@"
  eval "exec ${TOD_ADB:-adb} \"\$@\""
}

# adb's own exit codes are 0 and 1, also when the connection breaks: codes of the device's commands
# are moved out of their way.
adb_sh() { # COMMAND
  adb_client shell -T "( $1
    ); code=\$?; [ \$code -gt 50 ] || code=\$((code + 200)); exit \$code"
}

adb_code() {
  if [ "$device_code" -ge 200 ] && [ "$device_code" -le 250 ]; then
    device_code=$((device_code - 200))
  elif [ "$device_code" -le 1 ] || [ "$device_code" -eq 255 ]; then
    case $(cat "$device_temp/stderr") in
      *'PTY args'* | *'allocating a pty'*)
        fail 5 "$device_label is too old: its Android gives no exit codes" \
          'Android 8 or newer is wanted' ;;
    esac
    device_lost
  fi
}

adb_put() { # FOLDER LIST
  rm -rf "$device_temp/stage"
  mkdir "$device_temp/stage"
  (pack "$@") | tar -xf - -C "$device_temp/stage"
  adb_client push "$device_temp/stage/." "$device_folder/" >&2
}

adb_get() { # LOCAL_FOLDER FILE...
  into=$1
  shift
  printf '%s\n' "$@" | sed 's|/[^/]*$||' | sort -u >"$device_temp/folders"
  while read -r folder; do
    mkdir -p "$into/$folder"
    (
      for file in "$@"; do
        shift
        [ "${file%/*}" != "$folder" ] || set -- "$@" "$device_folder/$file"
      done
      adb_client pull "$@" "$into/$folder/" </dev/null >&2
    ) || echo 7 >"$device_temp/code"
  done <"$device_temp/folders"
}
