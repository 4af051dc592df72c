"""A table of settings: its rows, its checks, and what is made of it."""

import inspect
import math
from dataclasses import dataclass, fields
from typing import Literal

import numpy as np
import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import tod
from tod.cli import options
from tod.errors import SettingError, UsageError
from tod.format.manifest import HistoryEntry, Run
from tod.system.settings import check, flag, from_keywords, rows, setting
from tod.training.conditions import Conditions
from tod.training.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Table:
    size: int | None = setting("Size.", "-n", default=3, least=1, most=10)
    rate: float | None = setting("Rate.", default_from="the model's", above=0)
    way: Literal["up", "down"] | None = setting("Way.")
    far: bool = flag("Far.")


@given(st.integers() | st.floats() | st.text() | st.booleans() | st.lists(st.integers()))
def test_what_is_outside_its_range_is_refused(value):
    for name, wanted in (
        ("size", type(value) is int and 1 <= value <= 10),
        ("rate", type(value) in (int, float) and 0 < value < math.inf),
        ("way", value in ("up", "down")),
        ("far", type(value) is bool),
    ):
        if wanted:
            # Not every whole number of more than 53 bits is a float.
            right = float(value) if name == "rate" else value
            assert check(Table(**{name: value}))[name] == right
        else:
            with pytest.raises(SettingError, match=f"^{name} is "):
                check(Table(**{name: value}))


def test_all_mistakes_are_told_at_once_and_as_they_were_written():
    with pytest.raises(SettingError) as caught:
        from_keywords(Table, {"size": 0, "rate": -1.0})
    assert "size is 0" in caught.value.problem
    assert "rate is -1, a number above 0" in caught.value.problem
    assert "--size is 0" in caught.value.with_options


def test_an_unknown_keyword_finds_the_one_that_was_meant():
    with pytest.raises(UsageError, match="sise is no setting") as caught:
        from_keywords(Table, {"sise": 1})
    assert caught.value.hint == "did you mean size?"


def test_numbers_of_numpy_become_plain_ones():
    taken = from_keywords(Table, {"size": np.int64(4), "rate": np.float32(0.5)})
    assert (type(taken.size), type(taken.rate)) == (int, float)


def test_a_table_becomes_options():
    seen = []
    app = typer.Typer()

    @app.command()
    @options.expand
    def command(table: Table, other: bool = False) -> None:
        seen.append((table, other))

    arguments = ["-n", "4", "--rate", "0.5", "--way", "up", "--far", "--other"]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    assert CliRunner().invoke(app, []).exit_code == 0
    assert seen == [(Table(size=4, rate=0.5, way="up", far=True), True), (Table(), False)]
    assert CliRunner().invoke(app, ["--way", "left"]).exit_code == 2


def test_every_setting_that_a_checkpoint_keeps_is_a_field_of_the_run():
    kept = {name for name, row in rows(Settings).items() if row.kept}
    assert kept <= {field.name for field in fields(Run)}
    assert {"lr", "seed", "batch_size", "accumulate"} <= {f.name for f in fields(HistoryEntry)}


def test_signature_and_docstring_of_train_follow_from_the_table():
    keywords = inspect.signature(tod.train).parameters
    assert set(rows(Settings)) < set(keywords)
    assert "patience: Stop after K evaluations" in tod.train.__doc__


@pytest.mark.parametrize("table", [Settings, Conditions])
def test_every_help_begins_with_a_noun_or_a_verb(table):
    for row in rows(table).values():
        assert row.help[0].isupper()
        assert row.help.endswith(".")
        assert row.help.split()[0] not in ("Of", "How", "So", "What", "The")
