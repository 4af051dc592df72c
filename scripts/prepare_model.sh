#!/bin/sh
# Make the model that a device trains: tod export, here or inside a docker image.
set -eu
scripts=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
# shellcheck source=scripts/device.sh
. "$scripts/device.sh"

usage() {
  cat <<'EOF'
usage: scripts/prepare_model.sh [-d DOCKER_IMAGE] [-o MODEL.tod] [-- ARGUMENTS OF tod export]

  -d IMAGE      export inside this docker image, which needs what pip install '.[workstation]'
                brings (default: the tod of this environment)
  -o MODEL.tod  the file to make (default: build/transfer_learning.tod)

A model that is newer than TOD's own files, made with the same arguments, is left as it is.

Example: scripts/prepare_model.sh -o build/model.tod -- --backbone efficientnet-lite0
EOF
}

image='' model=''
while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) usage && exit ;;
    --) shift && break ;;
    -d | -o) [ $# -ge 2 ] || fail 2 "$1 wants a value" 'see scripts/prepare_model.sh --help' ;;
    *) fail 2 "$1 is no option" 'arguments of tod export come after --' ;;
  esac
  case $1 in -d) image=$2 ;; -o) model=$2 ;; esac
  shift 2
done
root=$(dirname -- "$scripts")
model=${model:-$root/build/transfer_learning.tod}
mkdir -p "$(dirname -- "$model")"
folder=$(CDPATH='' cd -- "$(dirname -- "$model")" && pwd)
name=$(basename -- "$model")

# What it was made with, beside it: for a later call with other arguments.
recipe=$folder/.$name.recipe
asked=$(printf '%s\n' "$image" "$@")
if [ -f "$model" ] && [ "$(cat "$recipe" 2>/dev/null)" = "$asked" ] &&
  [ -z "$(find "$root/tod" "$root/model" -name '*.py' -newer "$model" | head -n 1)" ]; then
  echo "$model is up to date" >&2
  exit
fi
rm -f "$recipe"
if [ -z "$image" ]; then
  find_tod "$root"
  tod export -o "$model" "$@"
else
  command -v docker >/dev/null 2>&1 || fail 5 'there is no docker here' \
    'install it, or leave out -d'
  # The repository cannot be changed from inside, and what is made belongs to who asked for it.
  docker run --rm --user "$(id -u):$(id -g)" -e HOME=/tmp -e PYTHONPATH=/tod \
    -v "$root:/tod:ro" -v "$folder:/out" -w /out "$image" \
    python3 -c 'from tod.cli.app import main; main()' export -o "/out/$name" "$@"
fi
printf '%s\n' "$asked" >"$recipe"
