"""Prove that the graphs compute what torch computes, before anything is written.

The reference is torch's own autograd, `nn.CrossEntropyLoss` and `torch.optim`, not the functions
that the graphs were made from.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator, Mapping
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from model.lowering import lowering
from model.lowering.examples import example_samples, step_inputs, targets
from model.train_wrap import TrainWrap
from model.transfer_net import to_features
from tod.format.manifest import SampleSpec
from tod.runtime.engine import Engine

STEPS = 20
# With float32 through a hundred layers, correct graphs differ by less than 1e-4. A wrong operator,
# optimizer or boundary differs by more than 1e-2.
TOLERANCE = 1e-3
Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Differences:
    """Differences between onnxruntime and torch, see `relative`.

    Each of the 20 steps starts from the same state on both sides. Two independent runs would drift
    apart wherever a step is not smooth (a ReLU at zero, Adam's division).

    Attributes:
        features: features of the frozen part, over some pictures.
        split: logits and gradients of the whole network against those of its two parts, in torch.
        loss: the largest over all steps.
        gradients: the largest of all slots, which sum gradients up; the median over the steps,
            because in a few steps a ReLU is on for one side and off for the other.
        parameters: the largest of all parameters and statistics; the median over the steps.
        logits: logits of the evaluation after the steps.
    """

    features: float
    split: float
    loss: float
    gradients: float
    parameters: float
    logits: float

    @property
    def largest(self) -> float:
        # np.max and not max, because the result must be NaN if any value is.
        return float(np.max(astuple(self)))


def compare(wrap: TrainWrap, graphs: Mapping[str, bytes], spec: SampleSpec) -> Differences:
    """Run 20 training steps and one evaluation in onnxruntime, and each of them in torch.

    Args:
        wrap: network, loss and optimizer.
        graphs: the three graphs by name.
        spec: what a sample is.
    """
    engine = Engine(graphs)
    # One row of features is fast; a feature map through many layers is slow.
    pictures, rows = (32, 16) if len(wrap.split.feature_shape) == 1 else (12, 5)
    pixels = example_samples(spec, pictures)
    ours = np.concatenate([engine.features(part) for part in np.split(pixels, pictures // 4)])
    frozen = to_features(wrap.split.frozen, spec).eval()
    to_input = to_features(nn.Identity(), spec)
    with torch.no_grad():
        parts = [frozen(torch.from_numpy(part)) for part in np.split(pixels, pictures // 4)]
        x = to_input(torch.from_numpy(pixels[:4]))
    tensors = {name: value.numpy() for name, value in lowering.train_tensors(wrap).items()}
    model = [*wrap.parameters(), *wrap.statistics()]
    classes = engine.predict({name: tensors[name] for name in model}, ours[:1]).shape[1]
    answers = targets(wrap.loss_fn, pictures, classes)
    inputs = step_inputs(wrap, rows, classes)
    split, silent = _compare_split(wrap, x, torch.from_numpy(answers[:4]), inputs)
    reference = Reference(wrap, copy.deepcopy(wrap.split.tail))
    steps = []
    for step in range(STEPS):
        drawn = (np.arange(rows) + 5 * step) % pictures
        batch = {**inputs, "features": ours[drawn], "labels": answers[drawn]}
        reference.take(tensors)
        wanted, _ = reference.step(batch)
        tensors, loss, _ = engine.step(tensors, batch)
        steps.append(_compare_step(reference, tensors, loss, wanted, silent))
    reference.take(tensors)
    logits = engine.predict({name: tensors[name] for name in model}, ours)
    with torch.no_grad():
        evaluation = copy.deepcopy(wrap.split.evaluation)
        evaluation.load_state_dict(reference.tail.state_dict(), strict=False)
        wanted_logits = evaluation(torch.from_numpy(ours)).numpy()
    loss_apart = np.max(steps, axis=0)[0]
    _, gradients, parameters = np.median(steps, axis=0)
    return Differences(
        features=relative(ours, torch.cat(parts).numpy()),
        split=split,
        loss=float(loss_apart),
        gradients=float(gradients),
        parameters=float(parameters),
        logits=relative(logits, wanted_logits),
    )


def _compare_step(
    reference: Reference, tensors: Arrays, loss: float, wanted: float, silent: Collection[str]
) -> tuple[float, float, float]:
    """Compare loss, slots and parameters after one step from the same state.

    Args:
        reference: torch after the step.
        tensors: ours after the step.
        loss: ours before it.
        wanted: torch's before it.
        silent: parameters whose gradient is only rounding.
    """
    slots = {n: v for n, v in reference.slots().items() if not n.endswith(tuple(silent))}
    model = {n: v for n, v in reference.tensors().items() if n not in silent}
    gradients = [relative(tensors[name], value) for name, value in slots.items()]
    parameters = [relative(tensors[name], value) for name, value in model.items()]
    return (
        relative(np.array(loss), np.array(wanted)),
        float(np.max([*gradients, 0.0])),
        float(np.max(parameters)),
    )


class Reference:
    """The same training in torch: its operators, its autograd, its losses, its optimizers.

    Args:
        wrap: what to train.
        tail: the trainable part in torch's own operators; each step changes it.
    """

    def __init__(self, wrap: TrainWrap, tail: nn.Module) -> None:
        self.wrap = wrap
        self.tail = tail.requires_grad_(False)
        self.parameters = {name: tail.get_parameter(name) for name in wrap.weights}
        for parameter in self.parameters.values():
            parameter.requires_grad_(True)
        groups: list[dict[str, Any]] = []
        for name, parameter in self.parameters.items():
            share = wrap.backbone_lr if name.startswith("backbone.") else 1.0
            decay = {} if name in wrap.decayed else {"weight_decay": 0.0}
            groups.append({"params": [parameter], "share": share, **decay})
        self.optimizer = wrap.optimizer.torch_twin(groups)

    def step(self, *batches: Arrays) -> tuple[float, NDArray[Any]]:
        """Do one update from the inputs of the train graph, with all batches as one; return the
        loss before it, and the logits of the last batch."""
        self.optimizer.zero_grad()
        losses = []
        for batch in batches:
            noise = [torch.from_numpy(batch[name]) for name in self.wrap.split.noise]
            logits = self.tail(torch.from_numpy(batch["features"]), *noise)
            loss = _criterion(self.wrap, batch)(logits, torch.from_numpy(batch["labels"]))
            (loss / len(batches)).backward()
            losses.append(loss.item())
        if self.wrap.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.parameters.values(), self.wrap.clip_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = float(batches[0]["lr"]) * group["share"]
        self.optimizer.step()
        return float(np.mean(losses)), logits.detach().numpy()

    def take(self, tensors: Arrays) -> None:
        """Continue from this state: parameters, statistics and slots of the train graph."""
        with torch.no_grad():
            state = self.tail.state_dict()
            for name in (*self.parameters, *self.wrap.statistics()):
                state[name].copy_(torch.from_numpy(tensors[name]))
        step = int(tensors["optimizer.step"])
        for name, parameter in self.parameters.items():
            found = {
                theirs: torch.from_numpy(tensors[f"{ours}.{name}"].copy())
                for ours, theirs in self.wrap.optimizer.torch_slots.items()
                if f"{ours}.{name}" in tensors
            }
            # Before the first step torch has no state; SGD recognises its first step by that.
            if step and found:
                self.optimizer.state[parameter] = {"step": torch.tensor(float(step)), **found}

    def slots(self) -> dict[str, NDArray[Any]]:
        """The optimizer's state under our names."""
        return {
            f"{ours}.{name}": self.optimizer.state[parameter][theirs].numpy()
            for name, parameter in self.parameters.items()
            for ours, theirs in self.wrap.optimizer.torch_slots.items()
            if f"{ours}.{name}" in self.wrap.slots()
        }

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Parameters and statistics by name."""
        names = [*self.parameters, *self.wrap.statistics()]
        state = self.tail.state_dict()
        return {name: state[name].numpy() for name in names}


def _compare_split(
    wrap: TrainWrap, x: torch.Tensor, answers: torch.Tensor, inputs: Arrays
) -> tuple[float, list[str]]:
    """Compare logits and gradients of the whole network with those of its two parts.

    Returns:
        The difference, and the parameters whose gradient is only rounding, such as a bias before a
        BatchNorm. They are not compared, because Adam turns rounding into full steps in any
        direction.
    """
    noise = [torch.from_numpy(inputs[name][: len(x)]) for name in wrap.split.noise]
    criterion = _criterion(wrap, inputs)
    whole, tail = copy.deepcopy(wrap.training_net), copy.deepcopy(wrap.split.tail)
    found = []
    for net, run in (
        (whole, lambda: whole(x)),
        (tail, lambda: tail(wrap.split.frozen(x).detach(), *noise)),
    ):
        net.requires_grad_(False)
        parameters = [net.get_parameter(name).requires_grad_(True) for name in wrap.weights]
        with _GivenNoise(iter(noise)):
            logits = run()
            gradients = torch.autograd.grad(criterion(logits, answers), parameters)
        found.append([logits.detach(), *gradients])
    sizes = [float(gradient.abs().max()) for gradient in found[0][1:]]
    silent = [n for n, size in zip(wrap.weights, sizes, strict=True) if size < 1e-6 * max(sizes)]
    pairs = [
        (b.numpy(), a.numpy())
        for name, a, b in zip(["", *wrap.weights], *found, strict=True)
        if name not in silent
    ]
    return float(np.max([relative(b, a) for b, a in pairs])), silent


class _GivenNoise(TorchFunctionMode):
    """Run dropout in torch with given noise instead of its own."""

    def __init__(self, noise: Iterator[torch.Tensor]) -> None:
        super().__init__()
        self.noise = noise

    def __torch_function__(
        self, call: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if call in _DROPOUTS:
            x, share, training = _dropout_arguments(*args, **kwargs)
            if training and share > 0:
                return x * (next(self.noise) >= share) / (1 - share)
            return x
        return call(*args, **kwargs)


_DROPOUTS = {functional.dropout, functional.dropout1d, functional.dropout2d, functional.dropout3d}


def _dropout_arguments(
    input: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
) -> tuple[torch.Tensor, float, bool]:
    return input, p, training


def _criterion(wrap: TrainWrap, inputs: Arrays) -> nn.Module:
    """Return the loss of `torch.nn` that ours must equal, with the class weights among the
    inputs."""
    weights = torch.from_numpy(inputs["class_weights"]) if wrap.class_weights else None
    return wrap.loss_fn.torch_twin(weights)


def relative(found: NDArray[Any], wanted: NDArray[Any]) -> float:
    """Return the norm of the difference divided by the norm of `wanted`, so that a single number at
    a ReLU's corner does not decide the result."""
    size = float(np.linalg.norm(wanted.astype(np.float64)))
    return float(np.linalg.norm(found.astype(np.float64) - wanted)) / (size or 1.0)
