#!/bin/sh
# Train on this device, with a checkpoint every 20 cycles. Further arguments go to net_runner.
set -eu
# Not from here: names in further arguments are meant from where the caller stands.
case $0 in */*) here=${0%/*} ;; *) here=. ;; esac
exec sh "$here/bin/net_runner" -f "$here"/model/transfer_learning.tod -d "$here/dataset" -c 60 -s 20 "$@"
