"""The runner opens no connection, runs no other program, writes only what it was asked for."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.conftest import ROOT

# What changes a file, a folder or a name; the rest of what is traced must not happen at all.
CHANGES = "open openat creat mkdir mkdirat rename renameat renameat2 unlink unlinkat rmdir link " \
    "linkat symlink symlinkat truncate chmod fchmodat mknod mknodat"  # fmt: skip
PROGRAMS = "execve execveat fork vfork clone clone3"
WRITING = re.compile(r"O_WRONLY|O_RDWR|O_CREAT|O_TRUNC|O_APPEND")


@pytest.fixture
def job(tiny, pictures, tmp_path):
    """A model, pictures and an empty home; results, cache and log each have a folder."""
    data, home = tmp_path / "data", tmp_path / "home"
    shutil.copytree(pictures, data)
    places = {name: tmp_path / name for name in ("out", "cache", "log")}
    for folder in (home, *places.values()):
        folder.mkdir()
    common = ["-d", data, "--cache-dir", places["cache"], "--log", places["log"] / "records"]
    trained = places["out"] / "trained.tod"
    commands = [
        ["net_runner", "-f", tiny, *common, "-c", 10, "-s", 5, "--eval-every", 5, "-o", trained,
         "-i", places["out"] / "trained.onnx"],
        ["net_runner", "-f", trained, *common],
        ["tod", "predict", "-f", trained, data / "red" / "0.png"],
    ]  # fmt: skip
    search = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {"PATH": search, "HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1",
                   "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}  # fmt: skip
    return tmp_path, [[str(w) for w in c] for c in commands], environment, list(places.values())


def inside(path: str, allowed: Iterable[Path], cwd: Path) -> bool:
    place = Path(os.path.normpath(cwd / path))
    return place == Path("/dev/null") or any(place.is_relative_to(folder) for folder in allowed)


def audit(command: list[str], environment: dict[str, str], cwd: Path) -> list[list[str]]:
    """What Python's audit hook heard while a command ran."""
    report = cwd / "report"
    report.unlink(missing_ok=True)
    words = [sys.executable, "-m", "tests.support.audited", str(report), *command]
    done = subprocess.run(words, cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in report.read_text().splitlines()]


def complaints_of_audit(events: list[list[str]], allowed: list[Path], cwd: Path) -> list[str]:
    found = []
    for event, *arguments in events:
        # `ctypes` opens the program itself when NumPy imports it.
        if (event, arguments) == ("ctypes.dlopen", ["None"]):
            continue
        changes = event == "open" or event.startswith(("os.re", "os.mk", "os.un"))
        paths = arguments[: 2 if event == "os.rename" else 1]
        if not changes or not all(inside(path, allowed, cwd) for path in paths):
            found.append(f"{event} {' '.join(arguments)}")
    return found


def trace(command: list[str], environment: dict[str, str], cwd: Path) -> list[str]:
    """The system calls of a command and all its threads."""
    if shutil.which("strace") is None:
        pytest.skip("no strace: make device-test-tools")
    if subprocess.run(["strace", "-qq", "-o", "/dev/null", "true"], capture_output=True).returncode:
        pytest.skip("strace may not trace a process here")
    calls = ",".join(["%network", *PROGRAMS.split(), *CHANGES.split()])
    # A call that this processor does not have (open on arm64) is left out: "?".
    calls = re.sub(r"(^|,)(\w)", r"\1?\2", calls)
    report = cwd / "trace"
    words = ["strace", "-f", "-qq", "-s", "4096", "-o", str(report), "-e", f"trace={calls}"]
    done = subprocess.run([*words, *command], cwd=cwd, env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr
    lines = report.read_text(errors="replace").splitlines()
    assert "execve" in lines[0]
    return lines


def complaints_of_trace(lines: list[str], allowed: list[Path], cwd: Path) -> list[str]:
    """Every call but the start of the program itself, its threads, reading, and changes below the
    allowed folders."""
    found = []
    for line in lines:
        call = re.match(r"\d+ +(\w+)\((.*)", line)
        if call is None or line is lines[0]:  # a signal, the rest of a call, or the start
            continue
        name, rest = call.groups()
        if name in ("clone", "clone3") and "CLONE_THREAD" in rest:
            continue
        if name in ("open", "openat") and not WRITING.search(rest):
            continue
        paths = re.findall(r'"((?:[^"\\]|\\.)*)"', rest)
        if name not in CHANGES.split() or not all(inside(path, allowed, cwd) for path in paths):
            found.append(line)
    return found


PROMISE = "The runner opens no connection, runs no program, writes nothing else"


@pytest.mark.parametrize(
    ("listen", "complaints"),
    [
        pytest.param(audit, complaints_of_audit, id="python", marks=pytest.mark.promise(
            PROMISE, "Python's audit hook while it trains, evaluates and predicts")),
        pytest.param(trace, complaints_of_trace, id="native", marks=pytest.mark.promise(
            PROMISE, "strace of all its threads while it trains, evaluates and predicts")),
    ],
)  # fmt: skip
def test_the_runner_asks_for_nothing_else(job, trials, listen, complaints):
    cwd, commands, environment, allowed = job
    for index in trials(len(commands), soak=len(commands)):
        heard = listen(commands[index], environment, cwd)
        assert complaints(heard, allowed, cwd) == []
        # It hears: each run but the prediction writes its log.
        assert index == 2 or any(str(cwd / "log") in str(event) for event in heard)
    assert not list((cwd / "home").iterdir())


GUILTY = """
import ctypes, os, socket, subprocess, threading
libc = ctypes.CDLL("libc.so.6")
threading.Thread(target=lambda: libc.socket(2, 1, 0)).start()
socket.socket().connect_ex(("127.0.0.1", 9))
subprocess.run(["true"])
open("elsewhere", "w").close()
os.mkdir("folder")
"""


def test_both_would_notice(job):
    cwd, _, environment, allowed = job
    program = cwd / "guilty.py"
    program.write_text(GUILTY)
    heard = complaints_of_audit(audit([str(program)], environment, cwd), allowed, cwd)
    for event in ("ctypes.dlopen", "socket.__new__", "socket.connect", "subprocess.Popen", "open",
                  "os.mkdir"):  # fmt: skip
        assert any(line.startswith(event) for line in heard), event
    shutil.rmtree(cwd / "folder")
    lines = complaints_of_trace(
        trace([sys.executable, str(program)], environment, cwd), allowed, cwd
    )
    seen = {line.split(maxsplit=1)[1].split("(")[0] for line in lines}
    assert {"socket", "connect", "execve", "openat"} <= seen
    assert seen & {"mkdir", "mkdirat"}
    assert sum("socket(" in line for line in lines) == 2
