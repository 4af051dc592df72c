# shellcheck shell=sh disable=SC2154 # those who source it set $here and $program
# Sourced by the launchers in bin, which set $here (their folder) and $program (net_runner or tod).
# Needs nothing but sh: a phone has neither readlink -f nor a /bin.
package=$here/..
lib=$package/lib

if [ -e "$package/INCOMPLETE" ]; then
  echo "error: this package was not pushed completely" >&2
  echo "hint: push it again (scripts/push.sh)" >&2
  exit 4
fi

# The loader and the interpreter want whole paths.
lib=$(CDPATH='' cd -- "$lib" && pwd)
if [ -d "$lib/python" ]; then
  for python in "$lib"/python/bin/python3.*; do :; done
else
  python=$(command -v python3) || {
    echo "error: this device has no python3, and the package brings none" >&2
    echo "hint: install Python, or make the package with --runtime bundled" >&2
    exit 5
  }
fi

# A C library that finds no time zone goes by UTC and says nothing, and on a phone that of a package
# finds none: the zones are in a file that only the phone's own library reads.
zone_rule() { # ZONE -> its rule; fails where it is none
  while read -r rule zones; do
    case " $zones " in *" $1 "*) echo "$rule" && return ;; esac
  done <"$lib/timezones"
  return 1
}
zone=${TZ-}
if [ -z "${TZ+set}" ] && [ ! -e /etc/localtime ]; then
  zone=$(getprop persist.sys.timezone 2>/dev/null) || zone=
  # "GMT+01:00" is one hour ahead for Android, and one behind in TZ.
  case $zone in
    GMT+*) zone=LOCAL-${zone#GMT+} ;;
    GMT-*) zone=LOCAL+${zone#GMT-} ;;
    '') read -r zone 2>/dev/null </etc/timezone || : ;;
  esac
fi
zone=${zone#:}
if [ -n "$zone" ]; then
  [ -f "${TZDIR:-/usr/share/zoneinfo}/$zone" ] || ! rule=$(zone_rule "$zone") || zone=$rule
  export TZ="$zone"
fi

# With the package's own C library: the device's may be older, another one, or missing. What the
# device preloads (Termux does) is made for the device's.
for loader in "$lib"/system/ld-linux-*; do
  if [ -f "$loader" ]; then
    unset LD_PRELOAD
    # shellcheck disable=SC2086 # an emulator may have options
    exec ${TOD_EMULATOR-} "$loader" --library-path "$lib/system" \
      "$python" -I -B -X utf8 "$lib/start.py" "$program" "$@"
  fi
done
if [ -d "$lib/python/lib" ]; then
  export LD_LIBRARY_PATH="$lib/python/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
fi
# shellcheck disable=SC2086
exec ${TOD_EMULATOR-} "$python" -I -B -X utf8 "$lib/start.py" "$program" "$@"
