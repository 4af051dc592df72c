"""Every optimizer: equal to torch's, repeatable, and it reaches the minimum."""

import pytest
import torch
from torch import nn

from model.optimizers import SGD, STEP, Adam
from model.verify import torch_optimizer

TABLE = [
    SGD(0.05, momentum=0.0),
    SGD(0.05),
    SGD(0.05, dampening=0.01),
    SGD(0.05, dampening=0.5, weight_decay=0.1),
    SGD(0.05, nesterov=True),
    SGD(0.05, nesterov=True, weight_decay=0.01),
    Adam(),
    Adam(0.01, weight_decay=0.1),
    Adam(0.01, beta1=0.5, beta2=0.9, eps=1e-3),
]


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
    lr = torch.tensor(optimizer.learning_rate)
    for _ in range(steps):
        error = inputs @ parameters["w"] + parameters["b"] - targets
        gradients = {
            "w": inputs.T @ error * 2 / error.numel(),
            "b": error.sum(0) * 2 / error.numel(),
        }
        parameters, slots = optimizer.update(gradients, slots, parameters, lr)
    return parameters, slots


def theirs(optimizer, steps):
    inputs, targets, start = problem()
    parameters = {name: nn.Parameter(value.clone()) for name, value in start.items()}
    reference = torch_optimizer(optimizer, parameters.values())
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


@pytest.mark.parametrize("optimizer", [SGD(0.1), SGD(0.1, nesterov=True), Adam(0.1)], ids=str)
def test_reaches_the_minimum(optimizer):
    inputs, targets, _ = problem()
    found, _ = ours(optimizer, 800)
    assert nn.functional.mse_loss(inputs @ found["w"] + found["b"], targets) < 1e-6


def test_the_first_velocity_is_the_gradient_in_spite_of_dampening():
    """MindSpore Lite's rule and torch's; a zero start would give (1 - dampening) * gradient."""
    optimizer = SGD(1.0, momentum=0.9, dampening=0.25)
    parameters = {"w": torch.zeros(1)}
    gradient = {"w": torch.ones(1)}
    slots = optimizer.init(parameters)
    _, slots = optimizer.update(gradient, slots, parameters, torch.tensor(1.0))
    assert slots["velocity.w"].item() == 1.0
    _, slots = optimizer.update(gradient, slots, parameters, torch.tensor(1.0))
    assert slots["velocity.w"].item() == pytest.approx(0.9 + 0.75)
