"""Tables as spreadsheets write them are read to the number, or refused with line and reason."""

import csv
import io
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tod
from tests.conftest import make_pictures, run
from tod.data.table import read_table
from tod.data.targets import read_targets
from tod.errors import DataError

words = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1)
numbers = st.decimals(-999, 999, places=2)


def written(rows, separator, encoding, newline):
    buffer = io.StringIO()
    csv.writer(buffer, delimiter=separator, lineterminator=newline).writerows(rows)
    return buffer.getvalue().encode(encoding)


@given(
    st.lists(st.tuples(words, numbers), min_size=1),
    st.sampled_from(",;\t"),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
)
def test_round_trip(rows, separator, encoding, newline, comma):
    texts = [(word, str(number).replace(".", "," if comma else ".")) for word, number in rows]
    data = written([("file", "n"), *texts], separator, encoding, newline)
    table = read_table("x", data)
    assert table.header == ("file", "n")
    assert [row.cells[0] for row in table.rows] == [word for word, _ in rows]
    assert [table.value(row.cells[1]) for row in table.rows] == [float(n) for _, n in rows]


@given(st.binary(max_size=200))
def test_anything_is_read_or_refused(data):
    try:
        table = read_table("x", data)
    except DataError as error:
        assert error.problem.startswith("x")
    else:
        assert all(cell == cell.strip() for row in table.rows for cell in row.cells)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("file;n\na;1,5\n", 1.5),
        ("sep=;\r\nfile;n\r\na;1,5\r\n", 1.5),
        ('file,n\na,"0,25"\n', 0.25),
        ("file\tn\na\t-3\n", -3.0),
        ("file,n\na,1e-3\n", 0.001),
    ],
)
def test_numbers(text, value):
    table = read_table("x", text.encode())
    assert table.value(table.rows[0].cells[1]) == value


@pytest.mark.parametrize(
    "text",
    ['file,n\na,"1,234"\n', "file;n\na;1.234,5\n", "file;n\na;1,5\nb;2.5\n", "file;n\na;x\n"],
)
def test_what_may_be_two_numbers_is_none(text):
    table = read_table("x", text.encode())
    with pytest.raises(ValueError, match=r"may be two numbers|could not convert"):
        table.value(table.rows[0].cells[1])


@pytest.fixture
def tree(tmp_path):
    return make_pictures(tmp_path / "tree", per_class=6)


def lines_of(tree):
    return [(p.relative_to(tree).as_posix(), i) for i, p in enumerate(sorted(tree.rglob("*.png")))]


def write(tree, lines):
    (tree / "targets.csv").write_text("\n".join(["file,n", *(f"{f},{n}" for f, n in lines)]))


def test_backslashes_of_windows(tree):
    write(tree, [(file.replace("/", "\\"), n) for file, n in lines_of(tree)])
    dataset = tod.Dataset.open(tree, cache=False)
    assert {s.path: s.targets[0] for s in dataset.samples} == dict(lines_of(tree))


def test_two_numbers_of_one_picture(tree):
    lines = lines_of(tree)
    write(tree, [*lines, (lines[0][0], 77)])
    with pytest.raises(DataError, match=r"lines 2 and 20 say different things of blue/0.png"):
        tod.Dataset.open(tree, cache=False)
    write(tree, [*lines, lines[0]])
    dataset = tod.Dataset.open(tree, cache=False)
    assert len(dataset.samples) == len(lines)
    assert any("line 20 was passed over: blue/0.png stands in line 2" in n for n in dataset.notices)


def test_what_check_finds(tree):
    """Equal pictures with other numbers, and pictures without a line."""
    shutil.copy(tree / "red" / "0.png", tree / "red" / "again.png")
    lines = [line for line in lines_of(tree) if line[0] != "green/3.png"]
    write(tree, lines)
    done = run("tod", "check", tree)
    assert done.returncode == 0, done.stderr
    assert "picture with different numbers: 1 group" in done.stdout
    assert "1 picture has no line in targets.csv" in done.stdout
    assert "green/3.png" in done.stdout
    notices = tod.Dataset.open(tree, cache=False).notices
    assert any("1 pictures lie there several times with different numbers" in n for n in notices)
    assert any("1 pictures have no line in targets.csv, e.g. green/3.png" in n for n in notices)


@pytest.mark.parametrize("name", ["semicolon", "sep-line", "decimal-comma-quoted", "half-missing"])
def test_those_met_in_the_field(test_data, name):
    found = read_targets(test_data / "field_cases" / "targets" / f"{name}.csv")
    assert found.names == ("weight",)
    assert len(found.rows) >= 10
    assert not found.problems
    assert found.rows[0] == ("aquarium/00.jpg", (0.25,))


def test_a_contradiction_met_in_the_field(test_data):
    with pytest.raises(DataError, match="say different things of"):
        read_targets(test_data / "field_cases" / "targets" / "twice-contradicting.csv")
