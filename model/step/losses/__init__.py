"""Losses as pure functions, each equal to a loss of `torch.nn`.

A new loss needs a file here, a line in LOSSES, its name in `tod.format.manifest.LossName`, its task
in TASKS there, and its option in `tod.cli.export_options.LossKind`; the tests then cover it.
"""

from model.step.losses.binary_cross_entropy import BinaryCrossEntropy as BinaryCrossEntropy
from model.step.losses.loss import Loss as Loss
from model.step.losses.loss import Terms as Terms
from model.step.losses.mean_squared_error import MeanSquaredError as MeanSquaredError
from model.step.losses.softmax_cross_entropy import SoftmaxCrossEntropy as SoftmaxCrossEntropy

# Keys are the words of the command line.
LOSSES: dict[str, type[Loss]] = {
    "cross-entropy": SoftmaxCrossEntropy,
    "bce": BinaryCrossEntropy,
    "mse": MeanSquaredError,
}
