"""The device's command as its users meet it: lines, exit codes, signals, files."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

import tod
from tests.conftest import make_pictures, run
from tod.data.image import load
from tod.format.artifact import read
from tod.report.terminal import Report
from tod.training.records import CycleDone, Evaluated, Notice, Paused, Promoted


def runner(model, data, *more, **options):
    return run("net_runner", "-f", model, "-d", data, *more, **options)


def test_the_lines_are_the_seeds(tiny, pictures):
    """Exactly MindSpore Lite's stdout; everything else goes to stderr."""
    done = runner(tiny, pictures, "-c", 6, "-s", 3, "--eval-every", 3, "--target-accuracy", 1)
    assert done.returncode == 0, done.stderr
    number = r"[0-9.e+-]+"
    cycle = rf"\d+: Loss is {number} \[min={number}\]"
    test = rf"accuracy on test data = {number} max accuracy = {number}"
    wanted = [*[cycle] * 3, test, *[cycle] * 3, test, rf"accuracy on validation data = {number}"]
    lines = done.stdout.splitlines()
    assert len(lines) == len(wanted)
    assert all(re.fullmatch(pattern, line) for pattern, line in zip(wanted, lines, strict=True))
    for text in ("3 classes", "27 trainable parameters", "36 train, 12 test (best cycle"):
        assert text in done.stderr
    assert sorted(p.name for p in tiny.parent.iterdir()) == [
        "tiny.tod", "tiny_trained.tod", "tiny_trained_3.tod", "tiny_trained_6.tod",
    ]  # fmt: skip


def test_without_cycles_it_only_evaluates(tiny, pictures):
    done = runner(tiny, pictures)
    assert done.returncode == 0
    assert re.fullmatch(r"accuracy on validation data = [0-9.]+\n", done.stdout)
    assert [p.name for p in tiny.parent.iterdir()] == ["tiny.tod"]


def test_settings_of_training_without_training_are_said(tiny, pictures):
    done = runner(tiny, pictures, "-s", 5, "--lr", 0.1)
    assert done.returncode == 0
    assert "nothing is trained without -c: --save-every, --lr not used" in done.stderr


def test_trained_twice_with_another_seed_it_still_validates_on_unseen_pictures(tiny, pictures):
    """The split of a plain tree stays that of the first training, also in the second one."""
    runner(tiny, pictures, "-c", 5, "--seed", 3)
    first = tiny.with_name("tiny_trained.tod")
    second = runner(first, pictures, "-c", 5, "-o", tiny.with_name("second.tod"))
    again = runner(tiny.with_name("second.tod"), pictures)
    assert again.stdout == second.stdout.splitlines(keepends=True)[-1]
    history = read(tiny.with_name("second.tod")).manifest.history
    assert [entry.split_seed for entry in history] == [3, 3]
    other = runner(first, pictures, "-c", 1, "--seed", 4)
    assert "pictures do not count in a score" in other.stderr


def test_e_is_c(tiny, pictures):
    both = [runner(tiny, pictures, flag, 3).stdout for flag in ("-c", "-e")]
    assert both[0] == both[1]
    assert both[0].startswith("1: Loss is ")


def test_numbers_are_printed_as_cpp_streams_do():
    from tod.report.terminal import result_line
    from tod.training.records import CycleDone, Evaluated

    assert result_line(CycleDone(1, 60, 5.0299824, 5.0299824)) == "1: Loss is 5.02998 [min=5.02998]"
    assert result_line(CycleDone(35, 60, 0.000215514, 1)) == "35: Loss is 0.000215514 [min=1]"
    record = Evaluated("test", 20, 170 / 192, 170 / 192, 170, 192)
    assert result_line(record) == "accuracy on test data = 0.885417 max accuracy = 0.885417"
    record = Evaluated("validation", 60, 178 / 192, 178 / 192, 178, 192)
    assert result_line(record) == "accuracy on validation data = 0.927083"


def test_json_and_log_are_the_same_records(tiny, pictures, tmp_path):
    log = tmp_path / "run.jsonl"
    done = runner(tiny, pictures, "-c", 4, "--eval-every", 2, "--json", "--log", log)
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [json.loads(line) for line in log.read_text().splitlines()] == records
    kinds = [record["record"] for record in records]
    assert kinds[0] == "started"
    assert kinds.count("cycle_done") == 4
    assert kinds[-1] == "saved"
    assert records[0]["pictures"] == {"train": 36, "test": 12, "validation": 12}
    final = [r for r in records if r["record"] == "evaluated"][-1]
    assert final["split"] == "validation"
    assert final["accuracy"] == final["correct"] / final["total"]


def test_a_continued_run_appends_to_its_log(tiny, pictures, tmp_path):
    log = tmp_path / "run.jsonl"
    runner(tiny, pictures, "-c", 2, "-s", 2, "--log", log)
    runner(tiny.with_name("tiny_trained_2.tod"), pictures, "-c", 4, "--log", log)
    records = [json.loads(line) for line in log.read_text().splitlines()]
    assert [r["cycle"] for r in records if r["record"] == "cycle_done"] == [1, 2, 3, 4]
    runner(tiny, pictures, "-c", 1, "--log", log)
    assert log.read_text().count('"cycle_done"') == 1


def test_a_folder_whose_name_is_no_text(tiny, tmp_path):
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    make_pictures(folder)
    (folder / "red" / "3.png").write_bytes(b"rotten")
    for options in (["--json"], []):
        done = runner(tiny, folder, "-c", 2, *options)
        assert done.returncode == 0, done.stderr
        assert "3.png was passed over" in done.stdout + done.stderr


def test_quiet(tiny, pictures):
    done = runner(tiny, pictures, "-c", 4, "-q")
    assert re.fullmatch(r"accuracy on validation data = [0-9.]+\n", done.stdout)
    assert done.stderr == ""


def test_quiet_hides_no_pause_and_no_notice(capsys):
    """A run that waits for the night would look like one that hangs."""
    with Report(quiet=True) as report:
        report.show(Notice("the clock was set back"))
        report.show(CycleDone(1, 2, 0.5, 0.5))
        report.show(Paused("hours", "it is day, training waits for 22:00"))
        report.show(Evaluated("test", 1, 0.5, 0.5, 1, 2))
        report.show(Promoted("new.tod", "served.tod", 2, 0.75, 0.5, 4, "accuracy"))
    out, err = capsys.readouterr()
    assert out == "accuracy on validation data = 0.75\n"
    assert err.splitlines() == [
        "notice: the clock was set back", "paused: it is day, training waits for 22:00",
    ]  # fmt: skip


def test_verbose_prints_every_graph(tiny, pictures):
    done = runner(tiny, pictures, "-c", 1, "-v", "--eval-every", 1)
    for graph in ("features.onnx:", "train.onnx:", "predict.onnx:"):
        assert graph in done.stdout
    weights = next(line for line in done.stdout.splitlines() if "in  head.weight [3, 8]:" in line)
    assert len(weights.split(": ")[1].split()) == 10
    assert re.search(r"  out loss \[\]: [0-9.]+$", done.stdout, re.M)
    assert re.search(r"  in  pixels \[2, 16, 16, 3\]: \d+ ", done.stdout)


def test_inference_file_is_ordinary_onnx(tiny, pictures, tmp_path):
    """Pixels in, probabilities out, names inside: the same answers as the trained model."""
    file = tmp_path / "inference.onnx"
    done = runner(tiny, pictures, "-c", 30, "-i", file)
    assert done.returncode == 0, done.stderr
    kept = re.search(r"saved model of cycle (\d+)", done.stderr)[1]
    assert kept != "0"
    again = runner(tiny.with_name("tiny_trained.tod"), pictures, "-i", file)
    for text in (done.stderr, again.stderr):
        assert f"saved inference model of cycle {kept}: {file}" in text
    session = onnxruntime.InferenceSession(file)
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["classes"]) == ["blue", "green", "red"]
    assert json.loads(metadata["input"])["size_px"] == 16
    trained = tod.TrainSession.load(tiny.with_name("tiny_trained.tod"))
    files = [pictures / name / "0.png" for name in ("blue", "green", "red")]
    pixels = np.stack([load(f.read_bytes(), trained.manifest.input) for f in files])
    probabilities = session.run(["probabilities"], {"pixels": pixels})[0]
    np.testing.assert_allclose(probabilities, trained.predict(files), atol=1e-6)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_by_a_signal_and_continued(tiny, pictures, number):
    """Ctrl-C in the real command: a checkpoint, its place, 130; the rest is as if nothing was."""
    settings = ["-c", 4000, "--eval-every", 50, "--target-accuracy", 1]
    whole = runner(tiny, pictures, *settings, "-o", tiny.with_name("whole.tod"))
    command = [Path(sys.executable).with_name("net_runner"), "-f", tiny, "-d", pictures]
    process = subprocess.Popen(
        [*map(str, command), *map(str, settings)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    for line in process.stdout:
        if line.startswith("100:"):
            process.send_signal(number)
            break
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    checkpoint = re.search(r"saved checkpoint of cycle (\d+): (.*tiny_trained_\1\.tod)", errors)
    assert checkpoint, errors
    assert re.search(r"error: stopped after cycle \d+ of 4000 in .*tiny_trained_\d+\.tod", errors)
    cycle = int(checkpoint[1])
    assert 100 <= cycle < 4000
    again = runner(checkpoint[2], pictures, "-c", 4000, "-o", tiny.with_name("parts.tod"))
    assert again.returncode == 0, again.stderr
    later = [ln for ln in whole.stdout.splitlines() if re.match(r"(\d+):", ln)][cycle:]
    assert [ln for ln in again.stdout.splitlines() if re.match(r"\d+:", ln)] == later
    assert tiny.with_name("parts.tod").read_bytes() == tiny.with_name("whole.tod").read_bytes()


def test_a_second_signal_ends_at_once(tiny, tmp_path):
    """Both come at once, so that the first one has not yet ended it."""
    tree = make_pictures(tmp_path / "big", per_class=20, side_px=500)
    process = subprocess.Popen(
        [Path(sys.executable).with_name("net_runner"), "-f", tiny, "-d", tree, "-c", "5"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    said = process.stderr.readline()  # what is about to happen
    for number in (signal.SIGSTOP, signal.SIGINT, signal.SIGTERM, signal.SIGCONT):
        process.send_signal(number)
    assert process.wait(timeout=60) == 130
    said += process.stderr.read()
    assert "stopped at once" in said
    assert "Traceback" not in said
    process.stdout.close()
    process.stderr.close()


def test_a_loss_that_is_not_finite(tiny, pictures):
    done = runner(tiny, pictures, "-c", 60, "--lr", "3e38")
    assert done.returncode == 6
    assert "not finite" in done.stderr
    assert "hint: try a smaller learning rate" in done.stderr
    assert "Traceback" not in done.stderr


def bound(model, pictures):
    runner(model, pictures, "-c", 1)
    return model.with_name("tiny_trained.tod")


def test_mistakes(tiny, pictures, tmp_path):
    """One sentence that says what to do, and the documented exit code."""
    other = make_pictures(tmp_path / "other")
    (other / "red").rename(other / "pink")
    cut = tmp_path / "cut.tod"
    cut.write_bytes(tiny.read_bytes()[:5000])
    table = [
        ([tiny, pictures, "-c", "x"], 2, "Invalid value"),
        ([tiny, pictures, "-c", "-3"], 2, "cycles is -3"),
        ([tiny, pictures, "-c", 1, "-b", 0], 2, "--batch-size is 0"),
        ([tiny, pictures, "-c", 1, "--lr", "nan"], 2, "lr is nan"),
        ([tiny, pictures, "-t", 0], 2, "threads is 0, at least 1"),
        ([tiny, pictures, "--json", "-q"], 2, "exclude each other"),
        ([tiny, pictures, "--bogus"], 2, "No such option"),
        ([tiny, tmp_path / "none"], 3, "no such folder"),
        ([bound(tiny, pictures), other], 3, "unknown to the model: pink"),
        ([tmp_path / "none.tod", pictures], 4, "no such file"),
        ([cut, pictures], 4, "not a readable .tod file"),
        ([tiny, pictures, "--seed", -1], 2, "seed is -1"),
        ([tiny, pictures, "-i", tmp_path / "i.onnx"], 2, "this model was never trained"),
        ([tiny, pictures, "-c", 1, "-o", "/no/where.tod"], 4, "the folder does not exist"),
        ([tiny, pictures, "-c", 1, "-o", tmp_path], 2, f"for instance -o {tmp_path}/model.tod"),
        ([tiny, pictures, "--log", "/no/where.jsonl"], 4, "the folder does not exist"),
        ([tiny, pictures, "-c", 1, "-i", "/no/where.onnx"], 4, "the folder does not exist"),
    ]
    for arguments, code, message in table:
        done = runner(*arguments)
        assert (done.returncode, done.stdout) == (code, ""), arguments
        assert message in done.stderr
        assert "Traceback" not in done.stderr


def test_an_older_runtime_is_refused(tiny, pictures):
    from dataclasses import replace

    from tod.format import artifact

    found = read(tiny)
    artifact.write(replace(found, manifest=replace(found.manifest, min_onnxruntime="99.1")))
    done = runner(tiny, pictures)
    assert done.returncode == 5
    assert "wants onnxruntime 99.1 or newer, here is" in done.stderr
    assert "pip install --upgrade onnxruntime" in done.stderr


def test_a_full_disk_ends_in_one_sentence(tiny, pictures):
    """A file-size limit in the place of a full disk: the old model stays."""
    output = tiny.with_name("out.tod")
    output.write_bytes(b"old")
    command = f"ulimit -f 4; exec {Path(sys.executable).with_name('net_runner')}"
    done = subprocess.run(
        ["sh", "-c", f"trap '' XFSZ; {command} -f {tiny} -d {pictures} -c 2 -o {output}"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 4, done.stderr
    assert "cannot be written: File too large" in done.stderr
    assert output.read_bytes() == b"old"
    assert sorted(p.name for p in output.parent.iterdir()) == ["out.tod", "tiny.tod"]


def test_debug_shows_the_traceback(tiny, tmp_path):
    done = runner(tiny, tmp_path / "none", "--debug")
    assert "Traceback" in done.stderr
    assert done.returncode == 1


@pytest.mark.parametrize("sink", ["| head -n 1", "> /dev/full"])
def test_an_output_that_closes_or_is_full_loses_nothing(tiny, pictures, sink):
    """Training ends with a checkpoint, one sentence, and exit 4."""
    command = f"{Path(sys.executable).with_name('net_runner')} -f {tiny} -d {pictures} -c 300000"
    done = subprocess.run(
        ["bash", "-c", f"{command} --target-accuracy 1 {sink}; exit ${{PIPESTATUS[0]}}"],
        capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert done.returncode == 4
    assert "error: the output cannot be written: " in done.stderr
    assert f"saved in {tiny.parent}" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert len(list(tiny.parent.glob("tiny_trained_*.tod"))) == 1


def test_on_a_terminal_the_view_is_live(tiny, pictures):
    """In a real terminal (tmux draws one in the same way): bars, and the accuracies as lines."""
    import pty

    reader, writer = pty.openpty()
    command = [Path(sys.executable).with_name("net_runner"), "-f", tiny, "-d", pictures, "-c", "40"]
    process = subprocess.Popen(
        command, stdout=writer, stderr=writer, env={**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    )
    os.close(writer)
    text = b""
    while True:
        try:
            chunk = os.read(reader, 65536)
        except OSError:
            break
        if not chunk:
            break
        text += chunk
    os.close(reader)
    assert process.wait() == 0
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text.decode())
    assert "accuracy on validation data = " in plain
    assert re.search(r"cycles .*━.*(40|20)/40.*loss [0-9.]+ min [0-9.]+", plain)
    assert "pictures" in plain
    assert "1: Loss is" not in plain
