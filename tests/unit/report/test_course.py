"""The course of a run: out of its records, or of its log, also one that was cut or resumed."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.report.test_page import RUN, course
from tod.errors import ArtifactError, UsageError
from tod.report.course import Course, Cycle, is_log, read_log
from tod.report.terminal import to_json
from tod.training.records import (
    CycleDone,
    Evaluated,
    FeaturesDone,
    Paused,
    Resumed,
    Saved,
    Started,
    Stopped,
)

STARTED = Started("a.tod", "net", ("a", "b"), {}, 9, "sgd", RUN, 1, 2)
RECORDS = [
    (0.0, STARTED), (1.0, FeaturesDone(4, 8)), (2.0, FeaturesDone(8, 8)),
    (2.1, CycleDone(1, 3, 2.0, 2.0, 0.1)), (2.3, CycleDone(2, 3, 1.0, 1.0, 0.1)),
    (2.4, Evaluated("test", 2, 0.5, 0.5, 1, 2)), (2.5, Paused("hour", "day")),
    (9.5, Resumed(7.0)), (9.7, CycleDone(3, 3, 0.5, 0.5, 0.05)), (9.8, Stopped("cycles", 3, 2)),
    (9.9, Evaluated("validation", 2, 0.75, 0.75, 3, 4)), (10.0, Saved("model", "t.tod", 2)),
]  # fmt: skip


def written(path, records):
    lines = [to_json(record, seconds) + b"\n" for seconds, record in records]
    path.write_bytes(b"".join(lines))
    return path


def check(found: Course):
    assert found.started == STARTED
    assert found.cycles[3] == Cycle(3, 0.5, 0.05)
    assert found.tests == {2: 0.5}
    assert found.stopped == Stopped("cycles", 3, 2)
    assert found.model == "t.tod"
    assert found.final is not None
    assert found.final.accuracy == 0.75
    assert found.looking_seconds == pytest.approx(2)
    assert found.pictures_looked_at == 8
    assert found.timed_cycles == 2
    assert found.training_seconds == pytest.approx(0.2 + 0.4)  # the pause does not count
    assert found.waited_seconds == 7


def test_records_as_they_come_and_their_log_tell_the_same(tmp_path):
    live = Course()
    for seconds, record in RECORDS:
        live.add(record, seconds)
    check(live)
    path = written(tmp_path / "run.jsonl", RECORDS)
    assert is_log(path)
    check(read_log(path))


def test_the_log_of_an_earlier_tod_is_read(tmp_path):
    """It has no seconds and no learning rates."""
    lines = []
    for _, record in RECORDS:
        fields = json.loads(to_json(record))
        for later in ("lr", "scores", "confusion"):
            fields.pop(later, None)
        lines.append(json.dumps(fields))
    (tmp_path / "run.jsonl").write_text("\n".join(lines))
    found = read_log(tmp_path / "run.jsonl")
    assert found.cycles[1] == Cycle(1, 2.0, None)
    assert found.training_seconds == 0


def test_what_was_done_again_after_a_resume_counts_once(tmp_path):
    first = [r for r in RECORDS if not isinstance(r[1], Stopped | Saved)]
    again = [
        (0.1, replace(STARTED, model="t_1.tod", first_cycle=2)),
        (0.2, CycleDone(2, 3, 1.5, 1.5, 0.1)), (0.3, Stopped("cycles", 2, 2)),
    ]  # fmt: skip
    found = read_log(written(tmp_path / "run.jsonl", [*first, *again]))
    assert [c.loss for c in found.cycles.values()] == [2.0, 1.5]
    assert found.resumed_at == [2]
    assert found.started is not None
    assert found.started.model == "a.tod"
    assert found.tests == {}


def test_of_two_runs_in_a_log_the_newer_is_told(tmp_path):
    second = [(0.0, STARTED), (0.1, CycleDone(1, 1, 9.0, 9.0, 0.1))]
    found = read_log(written(tmp_path / "run.jsonl", [*RECORDS, *second]))
    assert [c.loss for c in found.cycles.values()] == [9.0]
    assert found.model is None


@given(st.integers(0, 4000))
def test_a_log_that_was_cut_anywhere_is_read_up_to_there(tmp_path_factory, size):
    path = written(tmp_path_factory.mktemp("cut") / "run.jsonl", RECORDS)
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    path.write_bytes(whole[: max(first, size)])
    assert read_log(path).started == STARTED


HUGE = b'{"record": "stopped", "reason": "", "cycle": 1%s, "kept_cycle": 1}' % (b"0" * 400)
RUBBISH = [
    b"", b"[]\n", b'{"record": 3}\n', b"\xff\n", b"[" * 99_999, b'{"record": "started"}\n',
    b'{"record": "later_kind"}\n', b'{"record": "resumed", "waited_seconds": NaN}', HUGE,
]  # fmt: skip


@pytest.mark.parametrize("rubbish", RUBBISH, ids=range(len(RUBBISH)))
def test_what_holds_no_record_is_said(tmp_path, rubbish):
    path = tmp_path / "run.jsonl"
    path.write_bytes(rubbish)
    with pytest.raises(UsageError, match="no record of a run"):
        read_log(path)


def test_a_log_that_is_not_there(tmp_path):
    assert not is_log(tmp_path / "none")
    with pytest.raises(ArtifactError, match="cannot be read"):
        read_log(tmp_path / "none")


def test_a_course_of_many_cycles_is_counted():
    assert len(course(cycles=30).cycles) == 30
