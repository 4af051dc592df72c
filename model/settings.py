"""How an exported network trains: the settings of an export."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from model.step.losses import Loss, SoftmaxCrossEntropy
from model.step.optimizers import Optimizer
from tod.format.schedule import Schedule


@dataclass(frozen=True)
class Settings:
    """How the network trains.

    Attributes:
        optimizer: its learning rate becomes the artifact's.
        loss: compares logits with labels or numbers.
        trainable: the parameters that train, see `model.networks.trainable`; None: the network's
            default.
        train_batch_norm: a BatchNorm whose parameters train also updates its statistics.
        backbone_lr: learning rate of the backbone's parameters as a share of the head's.
        decay_all: weight decay works on biases and norms, too.
        decayed: the parameters that it works on instead; None: see `decay_all`.
        clip_norm: largest global norm of the gradients.
        class_weights: None, "auto", or one for each class.
        schedule: learning-rate schedule.
        accumulate: batches in a cycle; None builds a graph without accumulation.
        batch_size: the device's default.
    """

    optimizer: Optimizer
    loss: Loss = SoftmaxCrossEntropy()
    trainable: str | None = None
    train_batch_norm: bool = False
    backbone_lr: float = 0.01
    decay_all: bool = False
    decayed: tuple[str, ...] | None = None
    clip_norm: float | None = None
    class_weights: Literal["auto"] | tuple[float, ...] | None = None
    schedule: Schedule = Schedule()
    accumulate: int | None = None
    batch_size: int = 32
