"""TrainWrap: network, loss and optimizer as one pure training step."""

from __future__ import annotations

import copy
from collections.abc import Collection

import torch
from torch import nn
from torch.func import functional_call, grad_and_value

from model.step import boundary
from model.step.convolutions import Rewritten
from model.step.losses import Loss, SoftmaxCrossEntropy
from model.step.optimizers import Adam, Optimizer, Tensors, clip
from model.transfer_net import TransferNet

_ACCUMULATED, _WEIGHT = "accumulated.", "accumulated.weight"


class TrainWrap:
    """The computation of the train graph. State in, state out: `net` is not changed.

    Args:
        net: backbone and head.
        loss_fn: softmax cross entropy by default.
        optimizer: by default Adam with lr 1e-3 and betas 0.9 and 0.999.
        weights: names of the parameters of `net` to train; all of the head's by default.
        input_shape: the shape of one picture as the backbone takes it.
        train_batch_norm: a BatchNorm whose parameters train also updates its statistics.
        backbone_lr: the learning rate of the backbone's parameters as a share of the head's.
        decay_all: weight decay works on biases and norms, too.
        decayed: the parameters that it works on instead; None: see `decay_all`.
        clip_norm: the largest global norm of the gradients; None does not clip.
        class_weights: the loss takes a weight for each class as an input.
        accumulate: the step adds gradients up until its input `apply` is 1.

    Raises:
        UsageError: the network cannot be traced.
        ValueError: `weights` has a name that is not a parameter of `net`.
    """

    def __init__(
        self,
        net: TransferNet,
        loss_fn: Loss | None = None,
        optimizer: Optimizer | None = None,
        weights: list[str] | None = None,
        *,
        input_shape: tuple[int, ...] = (3, 224, 224),
        train_batch_norm: bool = False,
        backbone_lr: float = 1.0,
        decay_all: bool = False,
        decayed: Collection[str] | None = None,
        clip_norm: float | None = None,
        class_weights: bool = False,
        accumulate: bool = False,
    ) -> None:
        self.net = net
        self.loss_fn: Loss = loss_fn or SoftmaxCrossEntropy()
        self.optimizer: Optimizer = optimizer or Adam(learning_rate=1e-3)
        every = [name for name, _ in net.named_parameters()]
        self.weights = weights or [name for name in every if name.startswith("head.")]
        if strange := [name for name in self.weights if name not in every]:
            raise ValueError(f"{strange} are not parameters of the network")
        self.training_net = _training(net, self.weights, train_batch_norm)
        self.split = boundary.split(
            copy.deepcopy(net).eval(), self.training_net, input_shape, self.weights
        )
        # A parameter that the output does not depend on has no gradient.
        used = {name for name, _ in self.split.tail.named_parameters()}
        self.weights = [name for name in self.weights if name in used]
        self.input_shape = input_shape
        self.backbone_lr = backbone_lr
        self.clip_norm = clip_norm
        self.class_weights = class_weights
        self.accumulate = accumulate
        found = self.parameters()
        self.decayed = frozenset(
            name
            for name, value in found.items()
            if (
                decay_all or (value.dim() > 1 and not name.endswith(".bias"))
                if decayed is None
                else name in decayed
            )
        )
        self._tail = Rewritten(self.split.tail)
        self._evaluation = Rewritten(self.split.evaluation)

    def parameters(self) -> Tensors:
        """The trainable parameters by name, detached."""
        return {name: self.net.get_parameter(name).detach() for name in self.weights}

    def statistics(self) -> Tensors:
        """The running means and variances that training updates."""
        return {name: self.net.get_buffer(name).detach() for name in self.split.statistics}

    def slots(self) -> Tensors:
        """The optimizer's slots before the first step."""
        return self.optimizer.init(self.parameters())

    def accumulators(self) -> Tensors:
        """The sums of gradients at the start of a cycle; none without `accumulate`."""
        if not self.accumulate:
            return {}
        sums = {_ACCUMULATED + n: torch.zeros_like(p) for n, p in self.parameters().items()}
        return {_WEIGHT: torch.zeros(()), **sums}

    def logits(self, tensors: Tensors, features: torch.Tensor) -> torch.Tensor:
        """Compute logits [N, C] of features [N, ...] in evaluation mode, with the given parameters
        and statistics."""
        inner = {f"tail.{name}": value for name, value in tensors.items()}
        with boundary.plain_attention():
            logits, _ = functional_call(self._evaluation, inner, (features,))
        return logits

    def step(self, inputs: Tensors, tensors: Tensors) -> tuple[torch.Tensor, torch.Tensor, Tensors]:
        """Do one training step.

        Args:
            inputs: `features` float32 [B, ...]; `labels`, as the loss takes them; `lr` 0-d
                float32; if they are used, `class_weights` float32 [C], `apply` 0-d float32
                (1 to update, 0 only to add gradients up), and uniform noise by name.
            tensors: parameters, statistics, slots and accumulators by name.

        Returns:
            The loss and the logits before the step; the next value of each tensor.
        """
        parameters = {name: tensors[name] for name in self.weights}
        noise = [inputs[name] for name in self.split.noise]
        class_weights = inputs["class_weights"] if self.class_weights else None

        def total_loss(inner: Tensors) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
            given = {**inner, **{name: tensors[name] for name in self.split.statistics}}
            call = {f"tail.{name}": value for name, value in given.items()}
            with boundary.plain_attention():
                logits, later = functional_call(self._tail, call, (inputs["features"], *noise))
            total, weight = self.loss_fn(logits, inputs["labels"], class_weights)
            # Divide before the gradient is taken, as torch does; one step on one batch then equals
            # torch's.
            scaled = total if self.accumulate else total / weight
            return scaled, (total / weight, weight, logits, later)

        gradients, (_, (loss, weight, logits, later)) = grad_and_value(total_loss, has_aux=True)(
            parameters
        )
        after = self._update(inputs, tensors, gradients, weight)
        return loss, logits, {**after, **later}

    def _rates(self, lr: torch.Tensor) -> Tensors:
        share = self.backbone_lr
        below = lr if share == 1 else lr * share
        return {name: below if name.startswith("backbone.") else lr for name in self.weights}

    def _update(
        self, inputs: Tensors, tensors: Tensors, gradients: Tensors, weight: torch.Tensor
    ) -> Tensors:
        sums: Tensors = {}
        if self.accumulate:
            sums = {_WEIGHT: tensors[_WEIGHT] + weight}
            sums |= {_ACCUMULATED + n: tensors[_ACCUMULATED + n] + g for n, g in gradients.items()}
            gradients = {name: sums[_ACCUMULATED + name] / sums[_WEIGHT] for name in gradients}
        if self.clip_norm is not None:
            gradients = clip(gradients, self.clip_norm)
        # Flatten the tensors, because onnxruntime multiplies [O, I, 1, 1] by a scalar number by
        # number.
        slots = {name: tensors[name] for name in self.slots()}
        after, slots_after = self.optimizer.update(
            _flat(gradients),
            _flat(slots),
            _flat({name: tensors[name] for name in self.weights}),
            self._rates(inputs["lr"]),
            self.decayed,
        )
        changed = {
            name: value.reshape(tensors[name].shape)
            for name, value in (after | slots_after).items()
        }
        if not self.accumulate:
            return changed
        apply = inputs["apply"] > 0
        kept = {name: torch.where(apply, new, tensors[name]) for name, new in changed.items()}
        emptied = {name: torch.where(apply, torch.zeros_like(s), s) for name, s in sums.items()}
        return kept | emptied


def _flat(tensors: Tensors) -> Tensors:
    return {
        name: value if value.dim() == 0 else value.reshape(-1) for name, value in tensors.items()
    }


def _training(net: TransferNet, weights: list[str], train_batch_norm: bool) -> TransferNet:
    """Copy the network in training mode: dropout is active in the head only, and BatchNorm keeps
    its statistics unless asked."""
    made = copy.deepcopy(net).train()
    for name, module in made.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            trains = train_batch_norm and f"{name}.weight" in weights
            module.train(trains and module.track_running_stats)
    return made
