"""Every optimizer: equal to torch's, repeatable, and it reaches the minimum."""

import math
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from torch import nn

from model.step.optimizers import OPTIMIZERS, SGD, STEP, Adam, AdamW, KerasAdam, RMSprop, clip
from tod.cli.export_options import OptimizerName
from tod.errors import UsageError

ROOT = Path(__file__).resolve().parents[2]
EACH = [kind(OptimizerName(name).lr) for name, kind in OPTIMIZERS.items()]


def variants(optimizer):
    """The same with each of its hyperparameters changed in turn, where that is allowed."""
    for field in fields(optimizer):
        value = getattr(optimizer, field.name)
        other = not value if isinstance(value, bool) else value / 2 or 0.1
        try:
            yield replace(optimizer, **{field.name: other})
        except UsageError:
            continue


# Beside each hyperparameter alone, those that work together.
TABLE = [
    *EACH,
    *(variant for optimizer in EACH for variant in variants(optimizer)),
    SGD(0.05, momentum=0.0),
    SGD(0.05, dampening=0.5, weight_decay=0.1),
    SGD(0.05, nesterov=True, weight_decay=0.01),
    Adam(0.01, beta1=0.5, beta2=0.9, eps=1e-3),
    AdamW(0.01, weight_decay=0.0),
    RMSprop(0.001, momentum=0.5, alpha=0.9, weight_decay=0.1),
    KerasAdam(0.01, eps=1e-2),
    KerasAdam(0.01, weight_decay=0.1, decoupled=True),
]


def test_the_command_knows_each():
    assert {option.value for option in OptimizerName} == set(OPTIMIZERS)


def test_the_page_of_networks_knows_each():
    page = (ROOT / "docs" / "networks.md").read_text()
    assert f"`--optimizer {' | '.join(OPTIMIZERS)}`" in page


@pytest.mark.parametrize("kind", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_slots_are_those_that_torch_has(kind):
    """None is left out when a state is handed to torch."""
    slots = set(kind(0.1).init({"w": torch.zeros(2)})) - {STEP}
    assert slots <= {f"{slot}.w" for slot in kind.torch_slots}


def problem():
    """A least-squares problem with two parameters of different shape."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(40, 5, generator=generator)
    targets = inputs @ torch.randn(5, 3, generator=generator) + 1
    start = {"w": torch.randn(5, 3, generator=generator), "b": torch.zeros(3)}
    return inputs, targets, start


def ours(optimizer, steps):
    inputs, targets, parameters = problem()
    slots = optimizer.init(parameters)
    rates = dict.fromkeys(parameters, torch.tensor(optimizer.learning_rate))
    for _ in range(steps):
        error = inputs @ parameters["w"] + parameters["b"] - targets
        gradients = {
            "w": inputs.T @ error * 2 / error.numel(),
            "b": error.sum(0) * 2 / error.numel(),
        }
        parameters, slots = optimizer.update(gradients, slots, parameters, rates, {"w", "b"})
    return parameters, slots


def theirs(optimizer, steps):
    inputs, targets, start = problem()
    parameters = {name: nn.Parameter(value.clone()) for name, value in start.items()}
    reference = optimizer.torch_twin(parameters.values())
    for _ in range(steps):
        reference.zero_grad()
        nn.functional.mse_loss(inputs @ parameters["w"] + parameters["b"], targets).backward()
        reference.step()
    return parameters


@pytest.mark.parametrize("optimizer", TABLE, ids=str)
def test_equals_torch_over_50_steps(optimizer):
    found, slots = ours(optimizer, 50)
    for name, wanted in theirs(optimizer, 50).items():
        scale = wanted.abs().max()
        assert ((found[name] - wanted).abs().max() / scale).item() < 1e-6
    assert slots[STEP].item() == 50


@pytest.mark.parametrize("optimizer", TABLE, ids=str)
def test_is_repeatable(optimizer):
    first, second = ours(optimizer, 10)[0], ours(optimizer, 10)[0]
    assert all(torch.equal(first[name], second[name]) for name in first)


def error_after(optimizer, steps):
    inputs, targets, _ = problem()
    found, _ = ours(optimizer, steps)
    return nn.functional.mse_loss(inputs @ found["w"] + found["b"], targets).item()


@pytest.mark.parametrize(
    "optimizer",
    [SGD(0.1), SGD(0.1, nesterov=True), Adam(0.1), KerasAdam(0.1), AdamW(0.1, weight_decay=0.0)],
    ids=str,
)
def test_reaches_the_minimum(optimizer):
    assert error_after(optimizer, 800) < 1e-6


@pytest.mark.parametrize("kind", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_comes_near_the_minimum(kind):
    """Any rule does with a learning rate that suits it."""
    errors = [error_after(kind(learning_rate=lr, weight_decay=0.0), 500) for lr in (0.03, 1.0)]
    assert min(error for error in errors if not math.isnan(error)) < 1e-2


def test_nesterov_wants_a_momentum_and_no_dampening():
    for wrong in ({"momentum": 0.0}, {"dampening": 0.1}):
        with pytest.raises(UsageError, match="nesterov"):
            SGD(0.1, nesterov=True, **wrong)


def test_the_first_velocity_is_the_gradient_in_spite_of_dampening():
    """MindSpore Lite's rule and torch's; a zero start would give (1 - dampening) * gradient."""
    optimizer = SGD(1.0, momentum=0.9, dampening=0.25)
    parameters = {"w": torch.zeros(1)}
    gradient = {"w": torch.ones(1)}
    slots = optimizer.init(parameters)
    _, slots = optimizer.update(gradient, slots, parameters, {"w": torch.tensor(1.0)}, ())
    assert slots["velocity.w"].item() == 1.0
    _, slots = optimizer.update(gradient, slots, parameters, {"w": torch.tensor(1.0)}, ())
    assert slots["velocity.w"].item() == pytest.approx(0.9 + 0.75)


def test_decay_skips_what_is_not_named():
    parameters = {"w": torch.ones(2), "b": torch.ones(2)}
    rates = dict.fromkeys(parameters, torch.tensor(0.1))
    still = {name: torch.zeros(2) for name in parameters}
    for optimizer in (*EACH, *(replace(rule, weight_decay=0.5) for rule in EACH)):
        slots = optimizer.init(parameters)
        after, _ = optimizer.update(still, slots, parameters, rates, {"w"})
        assert torch.equal(after["b"], parameters["b"])
        assert bool((after["w"] < 1).all()) == bool(optimizer.weight_decay)


@pytest.mark.parametrize("most", [0.1, 100.0])
def test_clipping_equals_torch(most):
    generator = torch.Generator().manual_seed(0)
    gradients = {
        n: torch.randn(s, generator=generator) for n, s in {"a": (3, 4), "b": (5,)}.items()
    }
    theirs = [nn.Parameter(torch.zeros_like(g)) for g in gradients.values()]
    for parameter, gradient in zip(theirs, gradients.values(), strict=True):
        parameter.grad = gradient.clone()
    nn.utils.clip_grad_norm_(theirs, most)
    for parameter, found in zip(theirs, clip(gradients, most).values(), strict=True):
        assert torch.allclose(found, parameter.grad, rtol=1e-6)


def test_keras_adam_is_the_formula_that_nntrainer_states():
    """Against the formula itself, in float64: torch's twin knows no such epsilon."""
    found, _ = ours(KerasAdam(0.01, eps=1e-2), 20)
    inputs, targets, start = problem()
    w, b = (start[name].double().requires_grad_() for name in ("w", "b"))
    moments = {id(p): [torch.zeros_like(p), torch.zeros_like(p)] for p in (w, b)}
    for t in range(1, 21):
        loss = nn.functional.mse_loss(inputs.double() @ w + b, targets.double())
        gradients = torch.autograd.grad(loss, (w, b))
        with torch.no_grad():
            for p, g in zip((w, b), gradients, strict=True):
                m, v = moments[id(p)]
                m.mul_(0.9).add_(0.1 * g)
                v.mul_(0.999).add_(0.001 * g * g)
                rate = 0.01 * math.sqrt(1 - 0.999**t) / (1 - 0.9**t)
                p -= rate * m / (v.sqrt() + 1e-2)
    torch.testing.assert_close(found["w"].double(), w.detach(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found["b"].double(), b.detach(), rtol=1e-5, atol=1e-6)
