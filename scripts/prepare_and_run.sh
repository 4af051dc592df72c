#!/bin/sh
# From pictures to a model trained on a device, in one command: prepare, export, package, push, run,
# pull. A second call does again only what changed; a device that fails keeps no other from its job.
set -eu
scripts=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
# shellcheck source=scripts/device.sh
. "$scripts/device.sh"
# shellcheck source=scripts/parallel.sh
. "$scripts/parallel.sh"

usage() {
  cat <<'EOF'
usage: scripts/prepare_and_run.sh -D DATASET [-d DOCKER_IMAGE] [-t arm64|x86] [-i DEVICE]...
           [-r bundled|system:VERSION|PYTHON_ARCHIVE] [-m MODEL.tod] [-w FOLDER_ON_THE_DEVICE] [-o FOLDER]
           [-- ARGUMENTS OF train.sh]

  -D DATASET  a folder of class folders, a prepared dataset, or digits
  -d IMAGE    export the model inside this docker image
  -t TARGET   arm64 (default), or x86 (default for -i local on such a machine)
  -i DEVICE   ssh:user@host[:port], adb:SERIAL or local; may be repeated (default: adb's only device
              for arm64, local for x86)
  -r RUNTIME  bundled (default): the package brings its own Python; system:3.11: the device has
              Python 3.11; or the path of a python-build-standalone archive to bring
  -m MODEL    train this model instead of exporting one
  -w FOLDER   the package's place on the device (see scripts/push.sh --help)
  -o FOLDER   where the results go (see scripts/pull.sh --help)

Example: scripts/prepare_and_run.sh -D ~/pictures -t arm64 -i ssh:pi@raspberrypi.local
Example: scripts/prepare_and_run.sh -D digits -t x86

Exit codes: 0 done, 2 usage, 3 data, 4 a file is damaged, 5 this device cannot run it,
6 training failed, 7 device not reached or lost, 130 interrupted.
EOF
}

data='' image='' target='' runtime=bundled model='' folder='' output=''
while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) usage && exit ;;
    --) shift && break ;;
    -D | -d | -t | -i | -r | -m | -w | -o)
      [ $# -ge 2 ] || fail 2 "$1 wants a value" 'see scripts/prepare_and_run.sh --help' ;;
    -*) fail 2 "$1 is no option" 'arguments of train.sh come after --; see also --help' ;;
    *) fail 2 "$1 stands alone" 'pictures are given with -D, arguments of train.sh after --' ;;
  esac
  case $1 in
    -D) data=$2 ;;
    -d) image=$2 ;;
    -t) target=$2 ;;
    -i) add_device "$2" ;;
    -r) runtime=$2 ;;
    -m) model=$2 ;;
    -w) folder=$2 ;;
    -o) output=$2 ;;
  esac
  shift 2
done
[ -n "$data" ] || fail 2 'no dataset is given' \
  'scripts/prepare_and_run.sh -D FOLDER_OF_CLASS_FOLDERS'
[ "$data" = digits ] || [ -d "$data" ] ||
  fail 3 "$data is no folder" 'give a folder of class folders, or digits'
[ -z "$output" ] || mkdir -p "$output" 2>/dev/null ||
  fail 5 "$output cannot be written" 'choose another folder with -o'
if [ -z "$target" ]; then
  target=arm64
  [ "$devices" != local ] || [ "$(uname -m)" != x86_64 ] || target=x86
fi
case $target in
  arm64) ;;
  x86 | x86_64)
    target=x86_64
    [ -n "$devices" ] || add_device local
    ;;
  *) fail 2 "-t $target is no target" 'it is arm64 or x86' ;;
esac
[ -z "$model" ] || [ -f "$model" ] || fail 4 "$model: no such file" "make one with tod export"
[ -z "$model" ] || [ -z "$image" ] || fail 2 '-m and -d exclude each other' \
  'with -m nothing is exported'
case $runtime in
  bundled | system:*) ;;
  *) [ -f "$runtime" ] ||
    fail 2 "-r $runtime is no file" 'it is bundled, system:VERSION (e.g. system:3.11) or an archive' ;;
esac

root=$(dirname -- "$scripts")
package=$root/build/package-$target
mkdir -p "$root/build"

# One call at a time prepares and pushes, because build/ is the same for all. The link is made at once
# or not at all, with the process in it.
lock=$root/build/prepare.lock
pushed=$root/build/prepare.pushed
take_lock() {
  said=''
  until ln -s "$$" "$lock" 2>/dev/null; do
    [ -w "$root/build" ] || fail 5 "$root/build cannot be written" 'make it writable'
    other=$(readlink "$lock") || continue
    if kill -0 "$other" 2>/dev/null; then
      [ -n "$said" ] || echo "waiting for process $other, which prepares or pushes ($lock)" >&2
      said=yes
      sleep 1
    elif mv "$lock" "$lock.$$" 2>/dev/null; then
      # Its process is gone. If another call was faster, this is its lock.
      [ "$(readlink "$lock.$$")" = "$other" ] || mv "$lock.$$" "$lock"
      rm -f "$lock.$$"
    fi
  done
  trap leave_lock EXIT
  trap 'exit 130' INT TERM HUP
  : >"$pushed"
}

leave_lock() {
  trap - EXIT INT TERM HUP
  [ "$(readlink "$lock")" != "$$" ] || rm -f "$pushed" "$lock"
}

take_lock
echo '== Preparing the model' >&2
if [ -z "$model" ]; then
  model=$root/build/transfer_learning.tod
  sh "$scripts/prepare_model.sh" ${image:+-d "$image"} -o "$model"
fi
echo '== Preparing the pictures' >&2
data=$(sh "$scripts/prepare_dataset.sh" "$data")

content() { # of a file: one that took another's place may be older
  [ ! -f "$1" ] || cksum <"$1"
}

# Like make: a package is made again when something it is made of is newer or is another one.
stamp=$package.stamp
recipe=$(printf '%s\n' "$model" "$(content "$model")" "$data" "$runtime" "$(content "$runtime")")

changed() {
  [ ! -f "$package/SHA256SUMS" ] || [ "$(cat "$stamp" 2>/dev/null)" != "$recipe" ] ||
    [ -n "$(newer)" ]
}

newer() {
  {
    # In the pictures' folders also what is gone: a folder changes with it.
    find "$data" -name .tod-cache -prune -o -newer "$stamp" -print
    find "$root/tod" "$root"/package_* -type f ! -name '*.pyc' -newer "$stamp" -print
  } | head -n 1
}

make_package() {
  case $runtime in
    bundled) set -- --runtime bundled ;;
    system:*) set -- --runtime system --python-version "${runtime#system:}" ;;
    *) set -- --runtime bundled --python-archive "$runtime" ;;
  esac
  # With -i local the package is used where it is.
  [ ! -f "$package/bin/job" ] || [ "$(sh "$package/bin/job" status)" != running ] ||
    fail 2 "a job is running in $package, which must be made anew" \
      "wait for it, or end it: scripts/run.sh $(quote "$package")-i local --stop"
  # Written before the work: what changes during it is newer.
  rm -f "$stamp"
  find_tod "$root"
  printf '%s\n' "$recipe" >"$stamp.new"
  tod package "$model" "$data" -o "$package" --target "$target" "$@" >&2
  mv "$stamp.new" "$stamp"
}

if changed; then
  echo '== Making the package' >&2
  make_package
fi

arguments=$(quote "$@")

serve() { # DEVICE
  into=$output
  [ -z "$output" ] || [ "$device_count" -le 1 ] || into=$output/$(file_name "$1")
  set -- ${1:+-i "$1"} ${folder:+-w "$folder"}
  echo '== Pushing it' >&2
  code=0
  sh "$scripts/push.sh" "$package" "$@" || code=$?
  echo "$code" >>"$pushed"
  [ "$(wc -l <"$pushed")" -lt "$device_count" ] || leave_lock
  # A damaged package is made anew the next time.
  [ "$code" -ne 4 ] || rm -f "$stamp"
  [ "$code" -eq 0 ] || return "$code"
  echo '== Running it' >&2
  eval "sh \"\$scripts/run.sh\" \"\$package\" \"\$@\" -- $arguments" || return
  echo '== Bringing back what was made' >&2
  sh "$scripts/pull.sh" "$package" "$@" ${into:+-o "$into"}
}

each_device "${output:-$package-results}" job.log serve
