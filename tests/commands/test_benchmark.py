"""tod benchmark on the tiny model: its numbers are consistent; nothing here is about speed."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import TINY_SPEC, run
from tod.benchmark.measurements import PAIRS, SLICES
from tod.benchmark.plan import Plan, sample_pool
from tod.errors import DataError
from tod.format.manifest import GRAPHS

QUICK = ("--seconds", 0.02)
WAYS = {(b, *way) for b in (1, 3) for way in ((1, 1), (1, 2), (2, 1))}


@pytest.fixture(scope="module")
def measured(tiny_file, pictures):
    """All there is, as JSON."""
    done = run(
        "tod", "benchmark", tiny_file, "-d", pictures, "--batch", "1,3", "--threads", "1,2",
        "-c", 7, "--sustained", 0.2, "--profile", "--json", *QUICK,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "measured, %: 100 of 100"
    return json.loads(done.stdout)


def check(timing, least):
    order = [timing[name] for name in ("min_ms", "median_ms", "p90_ms", "p99_ms", "max_ms")]
    assert order == sorted(order)
    assert order[0] > 0
    assert timing["min_ms"] <= timing["average_ms"] <= timing["max_ms"]
    assert timing["count"] >= least


def check_memory(memory):
    assert 0 < memory["before_mb"] < memory["peak_mb"]


def test_machine(measured):
    machine = measured["machine"]
    assert machine["processor"]
    assert machine["cores"] >= 1
    assert {"governor", "temperature_celsius", "system"} <= set(machine)
    assert set(machine["versions"]) == {"tod", "onnxruntime", "numpy", "Python"}


def test_load(measured, tiny_file):
    load = measured["load"]
    assert load["file_mb"] == tiny_file.stat().st_size / 1e6
    assert tuple(load["sessions"]) == GRAPHS
    for timing in (load["read"], *load["sessions"].values()):
        check(timing, least=3)
    check_memory(load["memory"])


def test_backbone(measured):
    rows = measured["backbone"]
    assert {(b["batch"], b["workers"], b["threads"]) for b in rows} == WAYS
    assert len(rows) == len(WAYS)
    for row in rows:
        timing = row["timing"]
        check(timing, least=10)
        rate = row["batch"] * timing["count"] / timing["duration_ms"] * 1e3
        assert row["throughput"] == pytest.approx(rate)
        check_memory(row["memory"])


def test_head_cycle(measured):
    head = measured["head_cycle"]
    assert (head["batch"], head["classes"], head["threads"]) == (8, 10, 1)  # classes are open
    check(head["timing"], least=10)
    check_memory(head["memory"])


def test_whole_job(measured, tiny_file, pictures):
    """The job that was timed is the one that net_runner does: the same accuracy comes out."""
    job = measured["job"]
    assert (job["pictures"], job["cycles"], job["threads"]) == (60, 7, 2)
    assert list(job["phases_ms"]) == ["opening", "pictures", "cycles", "evaluation", "saving"]
    assert all(took > 0 for took in job["phases_ms"].values())
    check_memory(job["memory"])
    done = run(
        "net_runner", "-f", tiny_file, "-d", pictures, "-c", 7, "--target-accuracy", 1,
        "-o", tiny_file.with_name("as_usual.tod"),
    )  # fmt: skip
    assert f"accuracy on validation data = {job['validation']:.6g}" in done.stdout


def test_job_leaves_nothing_beside_the_model(measured, tiny_file):
    assert [f.name for f in tiny_file.parent.iterdir() if "trained" in f.name] == []


def test_sustained(measured):
    run = measured["sustained"]
    assert (run["batch"], run["workers"], run["seconds"]) == (2, 2, 0.2)
    assert len(run["throughput"]) == SLICES
    first, last = run["throughput"][0], run["throughput"][-1]
    assert run["drift"] == pytest.approx(last / first - 1)
    assert {"temperature_before_celsius", "temperature_after_celsius"} <= set(run)


def test_profile(measured):
    assert [p["graph"] for p in measured["profile"]] == ["features.onnx", "train.onnx"]
    for profile in measured["profile"]:
        times = [o["total_ms"] for o in profile["operators"]]
        assert times == sorted(times, reverse=True)
        assert sum(profile["shares"]) == pytest.approx(1)
        for operator, share in zip(profile["operators"], profile["shares"], strict=True):
            assert share == pytest.approx(operator["total_ms"] / sum(times))
            assert operator["calls"] % profile["runs"] == 0
    calls = {o["operator"]: o["calls"] for o in measured["profile"][0]["operators"]}
    assert sum(calls[name] for name in calls if "Conv" in name) == 20  # one convolution, 20 runs
    assert "Gemm" in {o["operator"] for o in measured["profile"][1]["operators"]}


def test_tables(tiny, pictures):
    """For people: the words of benchmark_app, every way in its row. How wide it is depends on how
    long things take here."""
    done = run(
        "tod", "benchmark", tiny, "--batch", "3,1", "--threads", "2", "--profile",
        "--sustained", 0.2, *QUICK,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    for word in ("processor", "governor", "temperature", "versions"):
        assert any(line.split()[:1] == [word] for line in lines)
    header = next(i for i, line in enumerate(lines) if "Throughput" in line and "MB" in line)
    assert lines[header].split() == [
        "Batch", "Throughput", "Median", "Average", "Min", "Max", "p90", "p99", "MB",
    ]  # fmt: skip
    rows = [line.split()[:3] for line in lines[header + 2 : header + 6]]
    assert rows == [[*way, b] for way in (["2", "threads"], ["2", "workers"]) for b in "31"]
    assert "backbone on random pixels" in done.stdout
    assert "whole job" not in done.stdout
    assert "head cycle: batch 8, 10 classes, 1 thread" in done.stdout
    assert "train.onnx by operator: batch 8, 20 runs" in done.stdout
    assert "drift" in done.stdout
    whole = run("tod", "benchmark", tiny, "-d", pictures, "--batch", 1, "-c", 3, *QUICK)
    assert "whole job: 60 pictures, 3 cycles" in whole.stdout
    assert f"backbone on {pictures}" in whole.stdout


def test_trained_model_and_checkpoint(tiny, pictures):
    """Their classes are bound; a checkpoint finds its graphs beside it."""
    run("net_runner", "-f", tiny, "-d", pictures, "-c", 4, "-s", 2)
    for name in ("tiny_trained.tod", "tiny_trained_2.tod"):
        done = run("tod", "benchmark", tiny.with_name(name), "--batch", 2, "--json", *QUICK)
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        assert found["head_cycle"]["classes"] == 3
        assert found["job"] is None
        assert found["profile"] == []


def test_two_models_in_turn(tiny, pictures):
    run("net_runner", "-f", tiny, "-d", pictures, "-c", 4)
    pair = (tiny, tiny.with_name("tiny_trained.tod"))
    done = run("tod", "benchmark", *pair, "--batch", "1,2", "--json", *QUICK)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["a"], found["b"]) == tuple(map(str, pair))
    compared = [(c["what"], c["batch"]) for c in found["comparisons"]]
    assert compared == [("backbone", [1, 1]), ("backbone", [2, 2]), ("head cycle", [8, 8])]
    for c in found["comparisons"]:
        assert len(c["a_ms"]) == len(c["b_ms"]) == PAIRS
        ratios = np.divide(c["a_ms"], c["b_ms"])
        np.testing.assert_allclose(c["ratios"], ratios)
        assert c["median_ratio"] == pytest.approx(np.median(ratios))
        np.testing.assert_allclose(c["quartiles"], np.percentile(ratios, (25, 75)))
    shown = run("tod", "benchmark", *pair, "--batch", 2, *QUICK).stdout
    assert f"Median of {PAIRS} pairs" in shown
    assert "how many times as fast B is" in shown


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--batch", "0"], 2, "batch is 0, at least 1 is wanted"),
        (["--batch", "1,x"], 2, "--batch is '1,x', whole numbers with commas"),
        (["--threads", "-1"], 2, "threads is -1, at least 1 is wanted"),
        (["--seconds", "0"], 2, "seconds is 0, a number above 0 is wanted"),
        (["--sustained", "inf"], 2, "sustained is inf, a number above 0 is wanted"),
        (["-c", "-1"], 2, "cycles is -1, at least 0 is wanted"),
        (["-d", "nowhere"], 3, "nowhere: no such folder"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_meant(tiny, options, code, message):
    done = run("tod", "benchmark", tiny, *options)
    assert done.returncode == code
    assert message in done.stderr
    assert done.stdout == ""


def test_all_problems_at_once(tiny):
    done = run("tod", "benchmark", tiny, "--batch", "0", "--threads", "0", "--seconds", "nan")
    assert done.stderr.count("wanted") == 3


def test_files_that_cannot_be_measured(tiny, tmp_path):
    other = tmp_path / "other.tod"
    other.write_bytes(b"not a model")
    for files, code, message in (
        ([other], 4, "not a readable .tod file"),
        ([tiny, tmp_path / "none.tod"], 4, "no such file"),
        ([tiny] * 3, 2, "3 files were given"),
        ([tiny, tiny, "--profile"], 2, "--profile and --sustained are for one file"),
    ):
        done = run("tod", "benchmark", *files)
        assert done.returncode == code
        assert message in done.stderr


def test_a_dataset_of_other_classes(tiny, pictures, tmp_path):
    run("net_runner", "-f", tiny, "-d", pictures, "-c", 2)
    for old, new in (("red", "apple"), ("green", "pear")):
        (tmp_path / "data").mkdir(exist_ok=True)
        (tmp_path / "data" / new).symlink_to(pictures / old)
    done = run("tod", "benchmark", tiny.with_name("tiny_trained.tod"), "-d", tmp_path / "data")
    assert done.returncode == 3
    assert "its classes are not the model's" in done.stderr


def test_ctrl_c(tiny, pictures):
    tod = Path(sys.executable).with_name("tod")
    program = subprocess.Popen(
        [str(tod), "benchmark", str(tiny), "-d", str(pictures), "--seconds", "60"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert program.stderr.readline().startswith("measured")  # the job is done, loading goes on
    program.send_signal(signal.SIGINT)
    output, errors = program.communicate(timeout=20)
    assert program.returncode == 130
    assert "stopped while measuring; nothing is reported" in errors
    assert output == ""


def test_profiles_leave_no_file_behind(tiny, tmp_path):
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = run(
        "tod", "benchmark", tiny, "--batch", 1, "--profile", *QUICK, cwd=tmp_path, env=environment
    )
    assert done.returncode == 0, done.stderr
    # onnxruntime itself may keep its .ses there.
    assert {path.name for path in tmp_path.iterdir()} <= {"model", ".ses"}


def test_pixels_are_random_and_repeatable_or_pictures(pictures, tmp_path):
    first, second = (sample_pool(TINY_SPEC, None) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert first.std() > 50
    real = sample_pool(TINY_SPEC, pictures)
    assert real.shape == first.shape
    assert real[:, :, :, 2].mean() > real[:, :, :, 0].mean() + 50  # class blue comes first
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for i in range(5):
            (tmp_path / name / f"{i}.png").write_bytes(b"rotten %s %d" % (name.encode(), i))
    with pytest.raises(DataError, match=r"too small: a \(0\), b \(0\)"):
        sample_pool(TINY_SPEC, tmp_path)


def test_ways_are_tried_once():
    assert Plan((1, 1), (1,)).ways() == [(1, 1, 1)]
    assert Plan((4,), (2, 1)).ways() == [(4, 1, 2), (4, 2, 1), (4, 1, 1)]
