"""Schedules as text. tests/model/test_schedules.py compares the rates with torch's schedulers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tod.errors import UsageError
from tod.format.schedule import Schedule, parse


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
