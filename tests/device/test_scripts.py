"""The scripts on this machine: usage, the job, adb's failures, and the whole chain locally."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.support.device_package import (
    LONG,
    QUICK,
    SHORT,
    failed,
    job,
    script,
    seal,
    start_script,
    succeeded,
)
from tests.support.ssh_device import free_port
from tests.support.waiting import wait_until

SCRIPTS = sorted((ROOT / "scripts").glob("*.sh"))
TEMPLATES = [
    path
    for pattern in ("*.sh", "bin/*", "lib/*.sh")
    for path in sorted((ROOT / "package_templates").glob(pattern))
]
COMMANDS = ["prepare_and_run", "prepare_dataset", "prepare_model", "push", "run", "pull"]


@pytest.fixture
def own_package(small_package, tmp_path):
    """A package of one's own; its job ends with the test."""
    copy = shutil.copytree(small_package, tmp_path / "a package")
    yield copy
    job(copy, "stop")


def test_the_scripts_are_clean_and_portable():
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed (make device-test-tools)")
    command = ["shellcheck", "--external-sources", "--shell=sh", *SCRIPTS, *TEMPLATES]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("shell", ["dash", "busybox ash"])
def test_other_shells_can_read_them(shell):
    if shutil.which(shell.split()[0]) is None:
        pytest.skip(f"{shell} is not installed")
    for file in [*SCRIPTS, *TEMPLATES]:
        done = subprocess.run([*shell.split(), "-n", file], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, ""), file


@pytest.mark.parametrize("name", COMMANDS)
def test_every_help_has_an_example_and_every_option_is_known(name):
    said = succeeded(script(f"{name}.sh", "--help"))
    assert f"Example: scripts/{name}.sh " in said
    assert succeeded(script(f"{name}.sh", "-h")) == said
    failed(script(f"{name}.sh", "--no-such"), 2, "--no-such is no option")
    if name != "prepare_model":
        failed(script(f"{name}.sh"), 2, "is given")
    option = "-i" if name in ("push", "run") else "-o"
    failed(script(f"{name}.sh", option), 2, f"{option} wants a value")


# The job -----------------------------------------------------------------------------------------


def start_long_job(own_package):
    succeeded(job(own_package, "start", *LONG[1:]))
    log = own_package / "job" / "log"
    wait_until(lambda: "Loss is" in log.read_text())


def status(own_package):
    return succeeded(job(own_package, "status"))


def processes(own_package):
    """Of the supervisor and of what runs now."""
    words = (own_package / "job" / "lock").read_text().split()
    return int(words[0]), int(words[2])


def test_a_job_from_start_to_end(own_package):
    assert status(own_package) == "none\n"
    assert succeeded(job(own_package, "stop")) == "no job is running\n"
    failed(job(own_package, "follow"), 3, "no job was started")
    succeeded(job(own_package, "start", *SHORT[1:]))
    shown = succeeded(job(own_package, "follow"))
    assert shown == (own_package / "job" / "log").read_text()
    titles = [line for line in shown.splitlines() if line.startswith("== ")]
    assert [title.split()[1] for title in titles] == ["Evaluating", "Training", "Evaluating"]
    assert status(own_package) == "ended with code 0\n"
    assert sorted(path.name for path in (own_package / "job").iterdir()) == ["exit", "log"]


def test_a_job_whose_training_fails(own_package):
    (own_package / "model" / "transfer_learning.tod").write_bytes(b"no model")
    succeeded(job(own_package, "start"))
    done = job(own_package, "follow")
    assert done.returncode == 4
    assert "error: model/transfer_learning.tod" in done.stdout
    assert "== Training" not in done.stdout
    assert status(own_package) == "ended with code 4\n"


def test_stop_saves_a_checkpoint_and_the_job_can_start_again(own_package):
    start_long_job(own_package)
    assert int((own_package / "job" / "pid").read_text()) == processes(own_package)[1]
    failed(job(own_package, "start"), 2, "a job is running here already", "--attach", "--stop")
    stopped = [subprocess.Popen(["sh", own_package / "bin" / "job", "stop"]) for _ in range(2)]
    assert [process.wait(timeout=60) for process in stopped] == [0, 0]
    assert status(own_package) == "ended with code 130\n"
    assert list((own_package / "model").glob("*_trained_*.tod"))
    succeeded(job(own_package, "start", "--resume", *SHORT[1:]))
    assert "Loss is" not in succeeded(job(own_package, "follow"))  # three cycles were done
    assert (own_package / "model" / "transfer_learning_trained.tod").is_file()
    succeeded(job(own_package, "start", *SHORT[1:]))
    assert "2: Loss is" in succeeded(job(own_package, "follow"))


def test_only_one_of_many_starts_wins(own_package):
    command = ["sh", str(own_package / "bin" / "job"), "start", *LONG[1:]]
    starts = [subprocess.Popen(command, stderr=subprocess.DEVNULL) for _ in range(8)]
    codes = sorted(process.wait(timeout=60) for process in starts)
    assert codes == [0] + [2] * 7


def test_a_job_that_is_killed_is_told_from_one_that_ended(own_package):
    start_long_job(own_package)
    supervisor, child = processes(own_package)
    os.kill(supervisor, signal.SIGKILL)
    assert status(own_package) == "running\n"  # the training itself still is
    failed(job(own_package, "start"), 2, "running")
    os.kill(child, signal.SIGKILL)
    wait_until(lambda: status(own_package) != "running\n")
    assert "cut off" in status(own_package)
    failed(job(own_package, "follow"), 6, "cut off", "again")
    start_long_job(own_package)


def test_a_process_id_that_another_process_has_now(own_package):
    """After a power cut: the lock is there, and its process ids belong to others."""
    (own_package / "job").mkdir()
    (own_package / "job" / "log").write_text("1: Loss is 1 [min=1]\n")
    (own_package / "job" / "pid").write_text(f"{os.getpid()}\n")
    (own_package / "job" / "lock").write_text(f"{os.getpid()} 1 {os.getpid()} 1\n")
    assert "cut off" in status(own_package)
    assert succeeded(job(own_package, "stop")) == "no job is running\n"
    start_long_job(own_package)


def test_a_push_that_never_ended_is_not_run(own_package):
    (own_package / "INCOMPLETE").touch()
    failed(job(own_package, "start"), 4, "not pushed completely", "push it again")
    assert status(own_package) == "none\n"


# Here, without any connection --------------------------------------------------------------------


def test_the_chain_on_this_machine(own_package):
    arguments = (own_package, "-i", "local")
    assert "nothing to send" in succeeded(script("push.sh", *arguments))
    assert "difference" in succeeded(script("run.sh", *arguments, *SHORT)).splitlines()[-1]
    assert "brought 3 files" in succeeded(script("pull.sh", *arguments))
    results = own_package.with_name("a package-results") / "local"
    assert (results / "model" / "transfer_learning_trained.tod").is_file()

    elsewhere = own_package.parent / "else where"
    assert "sent 73 of 73" in succeeded(script("push.sh", *arguments, "-w", elsewhere))
    (own_package / "lib" / "TARGET").write_bytes(b"machine=x")
    failed(script("push.sh", *arguments), 5, "the package is for x")
    failed(script("push.sh", *arguments, TOD_EMULATOR="qemu"), 4, "damaged: lib/TARGET")
    failed(script("run.sh", *arguments), 4, "damaged on the device: lib/TARGET")
    away = script("run.sh", "/no/such/package", "-i", "local")
    failed(away, 4, "there is no folder /no/such/package on local")
    (own_package / "SHA256SUMS").unlink()
    failed(script("push.sh", *arguments), 3, "is no package", "tod package")


def test_a_pull_to_a_full_disk(own_package, tmp_path):
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("a disk of one's own needs root and unshare")
    (own_package / "model" / "a_trained.tod").write_bytes(os.urandom(2_000_000))
    out = tmp_path / "out"
    out.mkdir()
    mount = 'mount -t tmpfs -o size=1m none "$0" && exec "$@"'
    inside = ["unshare", "--mount", "sh", "-c", mount, str(out)]
    done = script("pull.sh", own_package, "-i", "local", "-o", out, inside=inside)
    failed(done, 5, f"the disk of this computer is full: {out}", "choose another")


def test_terminating_run_detaches(own_package):
    shown = start_script("run.sh", own_package, "-i", "local", *LONG)
    for line in shown.stdout:
        if "Loss is" in line:
            break
    shown.terminate()
    assert "training goes on" in shown.communicate(timeout=60)[1]
    assert shown.returncode == 130
    assert status(own_package) == "running\n"


# adb ---------------------------------------------------------------------------------------------


def test_adb_without_a_device(own_package):
    """The real client with a server of its own."""
    if shutil.which("adb") is None:
        pytest.skip("adb is not installed (make device-test-tools)")
    port = free_port()
    own = {"ANDROID_ADB_SERVER_PORT": port, "ADB_MDNS": 0}
    try:
        failed(script("push.sh", own_package, **own), 7, "no device is connected", "USB debugging")
        failed(script("run.sh", own_package, "-i", "adb:abc", **own), 7, "abc is not here")
    finally:
        subprocess.run(["adb", "-P", str(port), "kill-server"], check=True, capture_output=True)
    failed(script("push.sh", own_package, TOD_ADB="/no/such/adb"), 7, "there is no adb here")


@pytest.mark.parametrize(
    ("listed", "chosen", "words"),
    [
        ("A1\tdevice\nB2\tdevice", [], ["several devices are connected: A1 B2", "-i adb:SERIAL"]),
        ("A1\tunauthorized", [], ["adb:A1 does not trust this computer", "unlock it"]),
        ("A1\toffline", [], ["adb:A1 is not ready: its state is offline", "plug it in again"]),
        ("A1\tno permissions (user in plugdev group)", [], ["may not speak to adb:A1", "udev"]),
        ("A1\tdevice", ["-i", "adb:B2"], ["adb:B2 is not connected", "these are: A1"]),
    ],
)
def test_what_adb_lists(own_package, tmp_path, listed, chosen, words):
    """The client's answer is made up: such devices cannot be had here."""
    client = tmp_path / "adb"
    client.write_text(f"printf 'List of devices attached\\n%s\\n\\n' '{listed}'\n")
    failed(script("push.sh", own_package, *chosen, TOD_ADB=f"sh '{client}'"), 7, *words)


# Preparing ---------------------------------------------------------------------------------------


@pytest.fixture
def checkout(tmp_path):
    """A copy of what the scripts need of the repository: they write into its build folder."""
    root = tmp_path / "check out"
    for name in ("scripts", "package_templates", "tod", "model"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    return root


def program(folder: Path, name: str, text: str) -> str:
    """Put a program before all others; returns PATH."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)
    return f"{folder}:{Path(sys.executable).parent}:{os.environ['PATH']}"


def test_prepare_model_in_a_docker_image(checkout, tmp_path):
    """docker itself cannot be had here: what it is asked for is looked at."""
    asked = tmp_path / "asked"
    text = f'printf "%s\\n" "$@" >>"{asked}"; touch "{checkout}/build/transfer_learning.tod"'
    path = program(tmp_path / "bin", "docker", text)
    for arguments in (("-d", "an image"), ("-d", "an image"), ("-d", "an image", "--", "--seed=1")):
        succeeded(script("prepare_model.sh", *arguments, root=checkout, PATH=path))
    first, second = asked.read_text().split("run\n")[1:]  # one of the three changed nothing
    words = first.splitlines()
    assert words[:3] == ["--rm", "--user", f"{os.getuid()}:{os.getgid()}"]
    assert f"{checkout}:/tod:ro" in words
    assert f"{checkout}/build:/out" in words
    assert words[words.index("an image") + 1] == "python3"
    assert words[-3:] == ["export", "-o", "/out/transfer_learning.tod"]
    assert second.splitlines()[-1] == "--seed=1"


def test_prepare_dataset(checkout, pictures, tmp_path):
    path = program(tmp_path / "bin", "unused", "")
    arguments = ["prepare_dataset.sh", pictures, "--", "--size", "16"]
    made = succeeded(script(*arguments, root=checkout, PATH=path)).strip()
    assert (Path(made) / "dataset.json").is_file()
    assert succeeded(script("prepare_dataset.sh", made, root=checkout)).strip() == made
    failed(script("prepare_dataset.sh", tmp_path / "none", root=checkout), 3, "is no folder")


def test_prepare_dataset_into_the_same_folder(checkout, pictures, tmp_path):
    """What is there is up to date only for the same pictures and arguments."""
    path = program(tmp_path / "bin", "unused", "")

    def prepare(source, *arguments):
        words = ("prepare_dataset.sh", source, "-o", tmp_path / "out", "--", *arguments)
        return script(*words, root=checkout, PATH=path)

    succeeded(prepare(pictures, "--size", "16"))
    assert "is up to date" in prepare(pictures, "--size", "16").stderr
    other = shutil.copytree(pictures / "red", tmp_path / "other" / "red").parent
    shutil.copytree(pictures / "blue", other / "blue")
    done = prepare(other, "--size", "16")
    succeeded(done)
    assert "20 removed that are no longer in the source" in done.stderr


def test_prepare_and_run(checkout, own_package, tiny, pictures, tmp_path):
    """In one command, and again; `tod package` has tests of its own and is stood in for."""
    asked = tmp_path / "asked"
    real = Path(sys.executable).with_name("tod")
    text = f"""[ "$1" = package ] || exec '{real}' "$@"
        printf '%s\\n' "$@" >>'{asked}'
        while [ "$1" != -o ]; do shift; done
        rm -rf "$2"
        cp -R '{own_package}' "$2" """
    path = program(tmp_path / "bin", "tod", text)
    common = ("-t", "x86", "-m", tiny)

    def whole_job(*more):
        arguments = ["prepare_and_run.sh", "-D", data, *common, *more]
        return script(*arguments, root=checkout, PATH=path)

    data = succeeded(script("prepare_dataset.sh", pictures, root=checkout, PATH=path)).strip()
    said = succeeded(whole_job(*SHORT))
    assert "  difference " in said
    build = checkout / "build"
    trained = build / "package-x86_64-results" / "local" / "model" / "transfer_learning_trained.tod"
    assert trained.is_file()
    assert asked.read_text().splitlines() == [
        "package", str(tiny), data, "-o", str(build / "package-x86_64"), "--target", "x86_64",
        "--runtime", "bundled",
    ]  # fmt: skip
    asked.unlink()
    succeeded(whole_job("-o", tmp_path / "out", *SHORT))
    assert not asked.exists()
    assert (tmp_path / "out" / "model" / "transfer_learning_trained.tod").is_file()
    (tmp_path / "python.tar.gz").touch()
    away = "ssh:nobody@127.0.0.1:1"  # the package is all that is wanted
    failed(whole_job("-r", tmp_path / "python.tar.gz", "-i", away), 7, "cannot be reached")
    assert asked.read_text().splitlines()[-2:] == [
        "--python-archive", str(tmp_path / "python.tar.gz")
    ]  # fmt: skip
    asked.unlink()
    (tmp_path / "python.tar.gz").write_text("another, and older")
    os.utime(tmp_path / "python.tar.gz", (1e9, 1e9))
    failed(whole_job("-r", tmp_path / "python.tar.gz", "-i", away), 7, "cannot be reached")
    assert asked.exists()
    failed(whole_job("-t", "mips"), 2, "no target")
    failed(whole_job("-r", "none"), 2, "no file")


def test_two_calls_of_prepare_and_run(checkout, own_package, tiny, tmp_path):
    """The second changes nothing before the first has pushed."""
    real = Path(sys.executable).with_name("tod")
    made, hold = tmp_path / "made", tmp_path / "hold"
    wait = f"until [ -e '{tmp_path}/go on with'/\"$name\" ]; do sleep 0.05; done"
    text = f"""[ "$1" = package ] || exec '{real}' "$@"
        echo "$2" >>'{made}'
        name=${{2##*/}}; {wait}
        while [ "$1" != -o ]; do shift; done
        rm -rf "$2"
        cp -R '{own_package}' "$2" """
    program(tmp_path / "bin", "tod", text)
    text = f"""! mv '{hold}' '{hold}ing' 2>/dev/null || {{ name=push; {wait}; }}
        exec {shutil.which("sha256sum")} "$@" """
    path = program(tmp_path / "bin", "sha256sum", text)
    other = shutil.copy(tiny, tmp_path / "other.tod")
    go_on = tmp_path / "go on with"
    go_on.mkdir()
    (own_package / "bin" / "net_runner").write_text(QUICK)
    seal(own_package)
    (tmp_path / "prepared").mkdir()
    (tmp_path / "prepared" / "dataset.json").touch()
    hold.touch()
    lock = checkout / "build" / "prepare.lock"
    lock.parent.mkdir()
    lock.symlink_to(str(2**22 + 1))  # of a process that cannot be: it was killed

    def start(model):
        common = ("-D", tmp_path / "prepared", "-t", "x86", "-m", model)
        common += ("-w", tmp_path / f"of {model.name}")
        return start_script("prepare_and_run.sh", *common, root=checkout, PATH=path)

    def ended(process):
        out, error = process.communicate(timeout=60)
        return subprocess.CompletedProcess(process.args, process.returncode, out, error)

    first = start(tiny)
    wait_until(made.exists)
    second = start(other)
    assert f"waiting for process {first.pid}, which prepares" in second.stderr.readline()
    assert made.read_text() == f"{tiny}\n"
    (go_on / tiny.name).touch()
    wait_until(lambda: not hold.exists())  # in the middle of its push
    assert made.read_text() == f"{tiny}\n"
    for name in (other.name, "push"):
        (go_on / name).touch()
    for process in (first, second):
        assert "  difference " in succeeded(ended(process))
    assert made.read_text() == f"{tiny}\n{other}\n"
    assert not lock.is_symlink()
