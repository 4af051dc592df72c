#!/bin/sh
# Accuracy of the trained model. Further arguments go to net_runner.
set -eu
CDPATH='' cd -- "$(dirname -- "$0")"
exec sh bin/net_runner -f model/transfer_learning_trained.tod -d dataset "$@"
