"""Learning rates cycle by cycle, against torch's schedulers."""

import pytest
import torch
from torch.optim import lr_scheduler

from tod.format.schedule import parse

CYCLES, LR = 60, 0.3


def theirs(make):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=LR)
    scheduler = make(optimizer)
    rates = []
    for _ in range(CYCLES):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


TABLE = {
    "constant": lambda o: lr_scheduler.ConstantLR(o, factor=1.0),
    "step:period=20,gamma=0.1": lambda o: lr_scheduler.StepLR(o, 20, 0.1),
    "exponential:gamma=0.95": lambda o: lr_scheduler.ExponentialLR(o, 0.95),
    "cosine": lambda o: lr_scheduler.CosineAnnealingLR(o, CYCLES),
    "cosine:floor=0.1": lambda o: lr_scheduler.CosineAnnealingLR(o, CYCLES, eta_min=LR * 0.1),
    "cosine:period=10,multiply=2": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 10, 2),
    "cosine:period=15": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 15),
    "linear:floor=0.2": lambda o: lr_scheduler.LinearLR(o, 1.0, 0.2, CYCLES),
    "linear:period=30": lambda o: lr_scheduler.LinearLR(o, 1.0, 0.0, 30),
    "pieces:at=20/40,shares=0.1/0.01": lambda o: lr_scheduler.MultiStepLR(o, [20, 40], 0.1),
    "pieces:at=7,shares=2.5": lambda o: lr_scheduler.LambdaLR(o, lambda t: 1 if t < 7 else 2.5),
    "constant:warmup=9": lambda o: lr_scheduler.LinearLR(o, 0.1, 1.0, 9),
    "step:warmup=9,period=20,gamma=0.5": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.LinearLR(o, 0.1, 1.0, 9), lr_scheduler.StepLR(o, 20, 0.5)], [9]
    ),
}


@pytest.mark.filterwarnings("ignore:.*epoch parameter")
@pytest.mark.parametrize("text", TABLE)
def test_equals_torch(text):
    schedule = parse(text)
    ours = [schedule.rate(LR, step, CYCLES) for step in range(CYCLES)]
    assert ours == pytest.approx(theirs(TABLE[text]), rel=1e-9, abs=1e-12)
