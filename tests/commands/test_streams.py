"""A run needs nobody to look on: closed, read-only and vanishing streams, and hanging up."""

import json
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import make_pictures
from tests.support.waiting import wait_until

HERE = Path(sys.executable).parent
LONG = ["-c", 1_000_000, "--target-accuracy", 1, "--eval-every", 0, "-s", 100_000]


def shell(redirections, program, *arguments, before="", **more):
    """What a shell makes of a command that ends in some redirections."""
    words = shlex.join([str(HERE / program), *map(str, arguments)])
    return subprocess.Popen(["sh", "-c", f"{before} exec {words} {redirections}"], **more)


def ended(process) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


PIPES = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}


@pytest.mark.parametrize("how", ["plain", "json", "log", "quiet"])
@pytest.mark.parametrize(
    "redirections",
    [">&-", "2>&-", "<&-", ">&- 2>&- <&-", ">&- 2>&-", "2>&- <&-", ">&- <&-"],
)
def test_without_a_stream_it_trains_as_with_it(tiny, pictures, redirections, how):
    log = tiny.with_name("log.jsonl")
    more = {"plain": [], "json": ["--json"], "log": ["--log", log], "quiet": ["-q"]}[how]
    inference = tiny.with_name("all.onnx")
    process = shell(
        redirections, "net_runner", "-f", tiny, "-d", pictures, "-c", 5, "-i", inference, *more,
        **PIPES,
    )  # fmt: skip
    code, out, err = ended(process)
    assert code == 0, err
    assert "error" not in err
    assert tiny.with_name("tiny_trained.tod").is_file()
    assert inference.stat().st_size > 100
    if ">&-" not in redirections.replace("2>&-", ""):
        assert "accuracy" in out
    if how == "log":
        kinds = [json.loads(line)["record"] for line in log.read_text().splitlines()]
        kinds = [kind for kind in kinds if kind != "pictures_read"]  # of a slow machine
        assert kinds[0] == "started"
        assert kinds[-1] == "saved"


@pytest.mark.parametrize("redirections", ["2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_what_a_signal_says_goes_into_no_file(tiny, pictures, redirections, number):
    log = tiny.with_name("log.jsonl")
    process = shell(
        redirections, "net_runner", "-f", tiny, "-d", pictures, *LONG, "--log", log, **PIPES
    )
    wait_until(lambda: log.exists() and b"cycle_done" in log.read_bytes())
    process.send_signal(number)
    code, _, _ = ended(process)
    assert code == 130
    records = [json.loads(line) for line in log.read_text().splitlines()]
    assert [record["record"] for record in records[-2:]] == ["saved", "stopped"]
    assert Path(records[-2]["path"]).is_file()
    for file in tiny.parent.iterdir():
        assert b"stopping at the next safe moment" not in file.read_bytes(), file


@pytest.mark.parametrize("program", ["tod", "net_runner"])
@pytest.mark.parametrize("redirections", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_mistakes_and_answers_keep_their_codes(tiny, program, redirections):
    for arguments, wanted in (
        (["--help"], 0), (["-f", tiny], 2), (["--nothing"], 2),
    ):  # fmt: skip
        code, _, err = ended(shell(redirections, program, *arguments, **PIPES))
        assert (code, "Traceback" in err) == (wanted, False), arguments
    code, _, _ = ended(shell(redirections, "tod", "info", tiny.with_name("none.tod"), **PIPES))
    assert code == 4


@pytest.mark.parametrize(
    ("redirections", "arguments", "wanted"),
    [
        ("</dev/null >&0", ["info"], 4),  # a stream that can only be read
        (">/dev/full", ["info"], 4),
        (">/dev/full", ["--version"], 4),
        (">/dev/full 2>/dev/full", ["info"], 4),
        ("2>/dev/full", ["info"], 0),
        ("</dev/null 2>&0", ["info"], 0),
        ("</dev/null 2>&0", ["nothing"], 2),
    ],
)
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_what_cannot_be_written_is_said_or_told_by_the_code(
    tiny, redirections, arguments, wanted, unbuffered
):
    words = [*arguments, tiny] if arguments == ["info"] else arguments
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    code, _, err = ended(shell(redirections, "tod", *words, env=environment, **PIPES))
    assert code == wanted
    assert "Traceback" not in err
    assert "Exception" not in err
    if wanted == 4 and "2>" not in redirections:
        assert err.startswith("error: the output cannot be written: ")


def test_hanging_up_saves_what_a_stop_request_saves(tiny, pictures):
    """Also twice, and after SIGTERM: a shell and the kernel both say so, and systemd does."""
    for signals in (
        [signal.SIGHUP], [signal.SIGHUP] * 3, [signal.SIGTERM, signal.SIGHUP],
        [signal.SIGHUP, signal.SIGTERM],
    ):  # fmt: skip
        process = shell("", "net_runner", "-f", tiny, "-d", pictures, *LONG, **PIPES)
        for line in process.stdout:
            if line.startswith("20:"):
                break
        for number in signals:
            process.send_signal(number)
        code, _, err = ended(process)
        assert code == 130, err
        assert "hint: the same command with --resume goes on" in err
        saved = re.search(r"saved checkpoint of cycle \d+: (.*)", err)
        assert Path(saved[1]).is_file()
        assert err.count("stopping at the next safe moment") == 1


@pytest.mark.parametrize("program", ["net_runner", "tod"])
def test_hanging_up_is_ignored_where_it_was_ignored_at_the_start(tiny, pictures, program):
    log = tiny.with_name("log.jsonl")
    arguments = ["train"] * (program == "tod") + ["-f", tiny, "-d", pictures, *LONG, "--log", log]
    process = shell("", program, *arguments, "-q", before="trap '' HUP;", **PIPES)
    wait_until(log.exists)
    process.send_signal(signal.SIGHUP)
    cycles = log.stat().st_size
    wait_until(lambda: log.stat().st_size > cycles + 10_000)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    code, _, err = ended(process)
    assert code == 130, err


def on_a_terminal(ignored, *arguments) -> tuple[int, int]:
    """Start net_runner as the leader of a terminal; its process id and the other end."""
    child, other_end = pty.fork()
    if child == 0:
        if ignored:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
        program = str(HERE / "net_runner")
        os.execv(program, [program, *map(str, arguments)])
    return child, other_end


def read_until(descriptor, text: bytes) -> None:
    found = b""
    while text not in found:
        found += os.read(descriptor, 65536)


@pytest.mark.parametrize("more", [["--eval-every", 100], ["-q"], ["--json"]], ids=str)
def test_a_terminal_that_goes_away_stops_it_with_a_checkpoint(tiny, pictures, more):
    log = tiny.with_name("log.jsonl")
    child, terminal = on_a_terminal(
        False, "-f", tiny, "-d", pictures, *LONG, "--log", log, *more
    )  # fmt: skip
    if "-q" not in more:
        read_until(terminal, b"ycle")
    wait_until(lambda: log.exists() and b"cycle_done" in log.read_bytes())
    os.close(terminal)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code == 130
    records = [json.loads(line) for line in log.read_text().splitlines()]
    assert records[-1]["record"] in ("saved", "stopped")
    (checkpoint,) = tiny.parent.glob("tiny_trained_*.tod")
    assert checkpoint.stat().st_size > 1000


@pytest.mark.parametrize("more", [["--eval-every", 100], ["-q"], ["--json"]], ids=str)
def test_a_terminal_that_goes_away_and_is_to_be_outlived(tiny, pictures, more):
    """As `trap '' HUP` in a login: the log goes on, and the model is saved at the end."""
    log = tiny.with_name("log.jsonl")
    child, terminal = on_a_terminal(
        True, "-f", tiny, "-d", pictures, "-c", 8_000, "--target-accuracy", 1,
        "--log", log, *more,
    )  # fmt: skip
    if "-q" not in more:
        read_until(terminal, b"ycle")
    wait_until(lambda: log.exists() and b"cycle_done" in log.read_bytes())
    os.close(terminal)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code == 0
    records = [json.loads(line) for line in log.read_text().splitlines()]
    assert sum(record["record"] == "cycle_done" for record in records) == 8_000
    assert records[-1]["kind"] == "model"
    assert tiny.with_name("tiny_trained.tod").is_file()


def test_hanging_up_while_pictures_are_looked_at(tiny, tmp_path):
    tree = make_pictures(tmp_path / "big", per_class=20, side_px=500)
    process = shell("", "net_runner", "-f", tiny, "-d", tree, *LONG, **PIPES)
    process.stderr.readline()  # what is about to happen
    process.send_signal(signal.SIGHUP)
    code, _, err = ended(process)
    assert code == 130, err
    assert "Traceback" not in err
