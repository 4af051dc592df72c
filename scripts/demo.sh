#!/bin/sh
# The whole job in one place: prepare, export, evaluate, train, evaluate, compare, report.
#
# usage: scripts/demo.sh [digits | FOLDER_OF_CLASS_FOLDERS]
set -eu
data=${1:-digits}
case $data in
  digits | /*) ;;
  *) data=$PWD/$data ;;
esac
cd "$(dirname "$0")/.."
# Two folders may have the same last name.
package=build/demo-$(basename "$data")-$(printf %s "$data" | cksum | cut -d ' ' -f 1)
model=$package/model/transfer_learning.tod

echo "== Preparing pictures: $data"
mkdir -p "$package/model"
tod prepare-dataset "$data" "$package/dataset" --per-class 100

if [ ! -f "$model" ] || [ -n "$(find tod model -name '*.py' -newer "$model" | head -n 1)" ]; then
  echo "== Exporting the train graph"
  tod export -o "$model"
fi

cd "$package"
echo "== Evaluating the untrained model"
net_runner -f model/transfer_learning.tod -d dataset

echo "== Training on this device"
net_runner -f model/transfer_learning.tod -d dataset -c 60 -s 20 --report report.html

echo "== Evaluating the trained model"
net_runner -f model/transfer_learning_trained.tod -d dataset

echo "== Before and after"
tod compare model/transfer_learning.tod model/transfer_learning_trained.tod -d dataset

echo "== The report, for any browser: $PWD/report.html"
