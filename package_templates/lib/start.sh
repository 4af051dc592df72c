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
