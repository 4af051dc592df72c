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


@given(
    st.lists(st.integers(1, 999), min_size=1, max_size=5, unique=True).map(sorted),
    st.data(),
)
def test_pieces_as_text_and_back(at, data):
    shares = data.draw(st.lists(st.floats(0, 9, width=32), min_size=len(at), max_size=len(at)))
    schedule = Schedule("pieces", at=tuple(at), shares=tuple(shares))
    assert parse(str(schedule)) == schedule
    assert schedule.rate(1.0, at[0] - 1, 60) == 1.0
    assert schedule.rate(1.0, at[-1], 60) == shares[-1]


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
        ("pieces:at=3", "pieces needs shares"),
        ("pieces:at=3/2,shares=1/1", "at increases, from 1 on"),
        ("pieces:at=0,shares=1", "at increases, from 1 on"),
        ("pieces:at=3,shares=1/2", "at has 1 cycles and shares 2 numbers"),
        ("pieces:at=3,shares=-1", "shares are 0 or more"),
        ("pieces:at=3,shares=nan", "shares are 0 or more"),
        ("pieces:at=3/x,shares=1/1", "at=3/x is not a row of int"),
        ("pieces:at=,shares=1", "at= is not a row of int"),
        ("cosine:warmup=-1", "warmup and period are 0 or more"),
    ],
)
def test_mistakes_are_named(text, message):
    with pytest.raises(UsageError) as error:
        parse(text)
    assert message in error.value.problem
    assert "cosine:period=20" in error.value.hint
