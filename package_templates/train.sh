#!/bin/sh
# Train on this device, with a checkpoint every 20 cycles. Further arguments go to net_runner.
set -eu
CDPATH='' cd -- "$(dirname -- "$0")"
exec sh bin/net_runner -f model/transfer_learning.tod -d dataset -c 60 -s 20 "$@"
