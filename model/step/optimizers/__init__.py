"""Optimizers as pure functions, each equal to an optimizer of `torch.optim`.

A new optimizer needs a file here, a line in OPTIMIZERS, and its name and default learning rate in
`tod.cli.export_options.OptimizerName`; the tests then cover it.
Slots are inputs and outputs of the train graph.
"""

from model.step.optimizers.adam import Adam as Adam
from model.step.optimizers.adamw import AdamW as AdamW
from model.step.optimizers.clipping import clip as clip
from model.step.optimizers.keras_adam import KerasAdam as KerasAdam
from model.step.optimizers.optimizer import STEP as STEP
from model.step.optimizers.optimizer import Optimizer as Optimizer
from model.step.optimizers.optimizer import Tensors as Tensors
from model.step.optimizers.rmsprop import RMSprop as RMSprop
from model.step.optimizers.sgd import SGD as SGD

OPTIMIZERS: dict[str, type[Optimizer]] = {
    SGD.name: SGD,
    Adam.name: Adam,
    AdamW.name: AdamW,
    RMSprop.name: RMSprop,
    KerasAdam.name: KerasAdam,
}
