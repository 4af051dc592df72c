#!/bin/sh
# Make pictures ready for training: tod prepare-dataset. A prepared dataset passes as it is.
set -eu
scripts=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
# shellcheck source=scripts/device.sh
. "$scripts/device.sh"

usage() {
  cat <<'EOF'
usage: scripts/prepare_dataset.sh DATASET [-o FOLDER] [-- ARGUMENTS OF tod prepare-dataset]

  DATASET    a folder of class folders, a prepared dataset, or digits
  -o FOLDER  the prepared dataset (default: build/dataset-<name>-<number>)

Prints the folder to train on: FOLDER, or DATASET itself when it was prepared before.

Example: scripts/prepare_dataset.sh ~/pictures -- --per-class 100
EOF
}

source='' folder=''
while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) usage && exit ;;
    --) shift && break ;;
    -o)
      [ $# -ge 2 ] || fail 2 "-o wants a value" 'see scripts/prepare_dataset.sh --help'
      folder=$2 && shift
      ;;
    -*) fail 2 "$1 is no option" 'arguments of tod prepare-dataset come after --' ;;
    *)
      [ -z "$source" ] || fail 2 "one dataset is wanted, not also $1" \
        'put names with blanks in quotes'
      source=$1
      ;;
  esac
  shift
done
[ -n "$source" ] || fail 2 'no dataset is given' \
  'scripts/prepare_dataset.sh --help shows an example'
if [ "$source" != digits ]; then
  [ -d "$source" ] || fail 3 "$source is no folder" 'give a folder of class folders, or digits'
  source=$(CDPATH='' cd -- "$source" && pwd)
fi
if [ -f "$source/dataset.json" ] || [ -f "$source/targets.csv" ]; then
  echo "$source"
  exit
fi
root=$(dirname -- "$scripts")
# Two folders may have the same last name, and one may be prepared in several ways.
number=$(printf '%s\n' "$source" "$@" | cksum | cut -d ' ' -f 1)
folder=${folder:-$root/build/dataset-$(basename -- "$source")-$number}
# What it was made of, beside it: for a later call with other pictures or arguments.
recipe=$(dirname -- "$folder")/.$(basename -- "$folder").recipe
asked=$(printf '%s\n' "$source" "$@")
# As it is, when it is newer than all it was made of.
if [ -f "$folder/dataset.json" ] && [ "$(cat "$recipe" 2>/dev/null)" = "$asked" ]; then
  made_of=$root/dataset_tools
  [ "$source" = digits ] || made_of=$source
  if [ -z "$(find "$made_of" "$root/dataset_tools" -name .tod-cache -prune -o \
    -newer "$folder/dataset.json" ! -name __pycache__ ! -name '*.pyc' -print | head -n 1)" ]; then
    echo "$folder is up to date" >&2
    echo "$folder"
    exit
  fi
fi
mkdir -p "$(dirname -- "$folder")"
rm -f "$recipe"
find_tod "$root"
tod prepare-dataset "$source" "$folder" "$@" >&2
printf '%s\n' "$asked" >"$recipe"
echo "$folder"
