"""Learning rates cycle by cycle, against torch's schedulers."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import lr_scheduler

from tod.errors import UsageError
from tod.format.schedule import Schedule, parse

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


@given(
    st.builds(
        Schedule,
        kind=st.sampled_from(["cosine", "linear"]),
        warmup=st.integers(0, 99),
        period=st.integers(1, 99),
        floor=st.sampled_from([0.0, 0.25, 0.001, 1.0]),
    )
)
def test_text_and_back(schedule):
    assert parse(str(schedule)) == schedule
    assert 0 <= schedule.rate(1.0, 17, 60) <= 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cosin", "'cosin' is none of constant"),
        ("step", "step needs gamma and period"),
        ("exponential", "exponential needs gamma"),
        ("constant:floor=0.1", "constant has no floor"),
        ("cosine:multiply=2", "multiply needs a period"),
        ("cosine:warmup=x", "warmup=x is not a int"),
        ("cosine:speed=1", "'speed' is no setting"),
        ("linear:floor=2", "floor is 0 to 1"),
        ("step:period=0,gamma=0.1", "period is 1 or more"),
        ("cosine:warmup=-1", "warmup and period are 0 or more"),
    ],
)
def test_mistakes_are_named(text, message):
    with pytest.raises(UsageError) as error:
        parse(text)
    assert message in error.value.problem
    assert "cosine:period=20" in error.value.hint
