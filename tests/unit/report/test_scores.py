"""Scores on the terminal: as many columns as fit, and no name that steers it."""

from tod.report.scores import print_scores
from tod.runtime.class_score import ClassScore

SCORE = ClassScore(4, 0.5, None, 0.25)


def printed(capsys, names, matrix, **more) -> list[str]:
    print_scores(dict.fromkeys(names, SCORE), matrix, **more)
    return capsys.readouterr().out.splitlines()


def test_names_that_are_short_head_the_columns(capsys):
    lines = printed(capsys, ("0", "1"), ((3, 1), (0, 4)))
    assert lines[-1].split() == ["1", ".", "4"]
    assert lines[-4].split() == ["is", "\\", "taken", "for", "0", "1"]


def test_long_names_are_numbered(capsys):
    lines = printed(capsys, ("[red]cats", "dogs\x1b[2J"), ((3, 1), (0, 4)))
    assert lines[-4].split() == ["is", "\\", "taken", "for", "1", "2"]
    assert lines[-2].split() == ["1", "[red]cats", "3", "1"]
    assert "\x1b" not in "".join(lines)
    assert "0.5000" in lines[3]
    assert " - " in lines[3]


def test_many_classes_show_the_pairs_that_are_confused_most(capsys):
    names = [f"class {i}" for i in range(13)]
    matrix = tuple(tuple(int(j == (i + 1) % 13) * (i + 1) for j in range(13)) for i in range(13))
    lines = printed(capsys, names, matrix)
    assert lines[-1] == "... and 3 more (--json has the whole matrix)"
    assert "class 12" in lines[-11]
    assert "class 0 " in lines[-11]


def test_nothing_of_measured_quantities_and_no_matrix_of_several_classes(capsys):
    assert printed(capsys, (), ()) == []
    lines = printed(capsys, ("a", "b"), ((1, 1, 1, 1), (2, 0, 0, 2)), one_class=False)
    assert "taken for" not in "\n".join(lines)
