"""TrainWrap: network, loss and optimizer as one pure training step."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.func import functional_call, grad_and_value

from model.losses import softmax_cross_entropy
from model.optimizers import Adam, Optimizer, Tensors
from model.transfer_net import TransferNet

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
_HEAD = "head."


class TrainWrap:
    """What the train graph computes. State in, state out: nothing in `net` is changed.

    Args:
        net: backbone and head.
        loss_fn: logits and labels -> a 0-d loss; softmax cross entropy by default.
        optimizer: Adam by default, with the seed's values (lr 1e-3, betas 0.9 and 0.999).
        weights: names of the parameters of `net` to train; all of the head's by default.
    """

    def __init__(
        self,
        net: TransferNet,
        loss_fn: Loss | None = None,
        optimizer: Optimizer | None = None,
        weights: list[str] | None = None,
    ) -> None:
        self.net = net
        self.head: nn.Module = net.head
        self.loss_fn = loss_fn or softmax_cross_entropy
        self.optimizer: Optimizer = optimizer or Adam(learning_rate=1e-3)
        every = [name for name, _ in net.named_parameters()]
        self.weights = weights or [name for name in every if name.startswith(_HEAD)]
        strange = [name for name in self.weights if not name.startswith(_HEAD) or name not in every]
        if strange:
            raise ValueError(f"{strange} are not parameters of the head, which has {self.weights}")

    def parameters(self) -> Tensors:
        """The trainable parameters by name, detached."""
        return {name: self.net.get_parameter(name).detach() for name in self.weights}

    def logits(self, parameters: Tensors, features: torch.Tensor) -> torch.Tensor:
        """Features [N, F] -> logits [N, C] with the given parameters."""
        inner = {name.removeprefix(_HEAD): value for name, value in parameters.items()}
        return functional_call(self.head, inner, (features,))

    def step(
        self,
        features: torch.Tensor,
        labels: torch.Tensor,
        lr: torch.Tensor,
        parameters: Tensors,
        slots: Tensors,
    ) -> tuple[torch.Tensor, torch.Tensor, Tensors, Tensors]:
        """One training step.

        Args:
            features: float32 [B, F].
            labels: int64 [B].
            lr: 0-d float32.
            parameters: as `parameters()` gives them.
            slots: as the optimizer's `init` gives them.

        Returns:
            The loss and the logits before the step; parameters and slots after it.
        """

        def loss_and_logits(inner: Tensors) -> tuple[torch.Tensor, torch.Tensor]:
            logits = self.logits(inner, features)
            return self.loss_fn(logits, labels), logits

        gradients, (loss, logits) = grad_and_value(loss_and_logits, has_aux=True)(parameters)
        after, slots_after = self.optimizer.update(gradients, slots, parameters, lr)
        return loss, logits, after, slots_after
