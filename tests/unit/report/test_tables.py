"""Tables on terminals of several widths: no number is broken."""

import io

import pytest
from rich.console import Console

from tod.report import tables

COLUMNS = ("file", "bytes", "largest diff", "cosine", "same answer", "accuracy", "p90 ms")
ROWS = [
    ("my_long_model_name_train.tod", "14,321,600", "0.0e+00", "1.000000", "100.0 %", "0.6667", "1"),
    ("my_long_model_int8.tflite", "3,577,321", "1.6e-03", "0.999976", "99.6 %", "0.6602", "2"),
]  # fmt: skip


def printed(monkeypatch, width, *, dense=True, rows=ROWS):
    console = Console(file=io.StringIO(), width=width)
    monkeypatch.setattr(tables, "_console", lambda: console)
    tables.print_table("title", COLUMNS, rows, dense=dense)
    return console.file.getvalue()


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("width", [30, 60, 80, 100, 120, 160])
def test_no_number_is_broken(monkeypatch, width, dense):
    text = printed(monkeypatch, width, dense=dense)
    lines = text.splitlines()
    assert max(len(line.rstrip()) for line in lines) <= width
    for row in ROWS:
        for cell in row[1:]:
            assert any(cell in line for line in lines), cell
    for word in " ".join(COLUMNS[1:]).split():
        assert word in text


def test_what_does_not_fit_is_a_list_for_each_row(monkeypatch):
    lines = printed(monkeypatch, 60).splitlines()
    assert ROWS[0][0] in lines
    assert "  accuracy      0.6602" in [line.rstrip() for line in lines]


def test_a_row_without_a_name_belongs_to_the_one_before(monkeypatch):
    text = printed(monkeypatch, 40, rows=[ROWS[0], ("", *ROWS[1][1:])])
    assert text.count("my_long") == 1
    assert "" not in [line.rstrip() for line in text.strip().splitlines()]


def test_where_there_is_room_nothing_is_folded(monkeypatch):
    lines = printed(monkeypatch, 160).splitlines()
    assert any(all(column in line for column in COLUMNS) for line in lines)
    assert any(all(cell in line for cell in ROWS[0]) for line in lines)
