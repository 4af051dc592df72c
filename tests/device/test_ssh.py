"""push.sh, run.sh and pull.sh over ssh: the user's own client, a real sshd, busybox for tools."""

import os
import pwd
import re
import shlex
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import ROOT, run
from tests.support import jail
from tests.support.device_package import (
    LONG,
    QUICK,
    SHORT,
    content,
    failed,
    job,
    script,
    seal,
    start_script,
    succeeded,
)
from tests.support.ssh_device import SshDevice, free_port, link, ssh_device
from tests.support.waiting import wait_until


@pytest.fixture(scope="module")
def device(tmp_path_factory):
    with ssh_device(tmp_path_factory.mktemp("ssh")) as started:
        yield started


@pytest.fixture
def own_package(small_package, tmp_path):
    """A package of one's own, with a name that every shell along the way could trip over."""
    return shutil.copytree(small_package, tmp_path / 'it\'s a "$HOME" päckage')


@pytest.fixture
def place(tmp_path):
    """The package's folder on the device."""
    return tmp_path / "on the 'device'" / "package"


@dataclass(frozen=True)
class Desk:
    """Where somebody sits who has a package and a device."""

    device: SshDevice
    package: Path
    place: Path

    def arguments(self, *arguments, at=None, where=None):
        return [self.package, "-i", at or self.device.name, "-w", where or self.place, *arguments]

    def call(self, name, *arguments, at=None, where=None, **variables):
        arguments = self.arguments(*arguments, at=at, where=where)
        return script(name, *arguments, **{"TOD_SSH": self.device.client} | variables)

    def start(self, name, *arguments, at=None, where=None, **variables):
        arguments = self.arguments(*arguments, at=at, where=where)
        return start_script(name, *arguments, **{"TOD_SSH": self.device.client} | variables)


@pytest.fixture
def desk(device, own_package, place):
    """The job that a test leaves running ends with it."""
    yield Desk(device, own_package, place)
    if (place / "bin" / "job").exists():
        job(place, "stop")


def test_push_run_pull(desk):
    files = len(content(desk.package)) - 1
    assert f"sent {files} of {files} files" in succeeded(desk.call("push.sh"))
    assert content(desk.place) == content(desk.package)

    said = succeeded(desk.call("run.sh", *SHORT))
    untrained, *_, trained = map(float, re.findall(r"on validation data = ([\d.]+)", said))
    assert said.count("Loss is") == 3
    assert said.splitlines()[-1] == (
        f"untrained {untrained:.4f}  trained {trained:.4f}  difference {trained - untrained:+.4f}"
    )

    out = desk.package.parent / "it's pulled"
    assert "brought 3 files" in succeeded(desk.call("pull.sh", "-o", out))
    names = ("transfer_learning_trained.tod", "transfer_learning_trained_2.tod")
    for name in names:
        assert (out / "model" / name).read_bytes() == (desk.place / "model" / name).read_bytes()
    assert (out / "job" / "log").read_text() == (desk.place / "job" / "log").read_text()
    model = out / "model" / names[0]
    assert (
        f"= {trained:.6g}" in run("net_runner", "-f", model, "-d", desk.package / "dataset").stdout
    )

    (out / "model" / names[1]).write_bytes(b"half")
    assert "brought 1 files" in succeeded(desk.call("pull.sh", "-o", out))
    assert (out / "model" / names[1]).read_bytes() == (desk.place / "model" / names[1]).read_bytes()
    assert sorted(path.name for path in out.iterdir()) == ["earlier-1", "job", "model"]
    assert (out / "earlier-1" / "model" / names[1]).read_bytes() == b"half"


def test_only_what_changed_is_sent(desk):
    succeeded(desk.call("push.sh", at="local"))
    products = [
        desk.place / "model" / "x_trained.tod",
        desk.place / "dataset" / ".tod-cache" / "kept",
    ]
    for file in products:
        file.parent.mkdir(exist_ok=True)
        file.write_text("made on the device")
    untouched = desk.place / "model" / "transfer_learning.tod"
    before = untouched.stat()

    assert "sent 0 of" in succeeded(desk.call("push.sh", at="local"))
    (desk.package / "README.txt").write_text("one that is new\n")
    (desk.package / "dataset" / "red" / "0.png").write_bytes(b"another picture")
    shutil.rmtree(desk.package / "dataset" / "blue")
    shutil.rmtree(desk.package / "lib" / "one of 'them'")
    seal(desk.package)
    assert "sent 2 of" in succeeded(desk.call("push.sh", at="local"))
    for file in products:
        assert file.read_text() == "made on the device"
        file.unlink()
    assert content(desk.place) == content(desk.package)
    assert not (desk.place / "dataset" / "blue").exists()
    assert untouched.stat() == before


def test_what_no_push_brought_stays(desk):
    """Also in a home that has a bin and a lib, and after a push without pictures."""
    succeeded(desk.call("push.sh", at="local"))
    own = [desk.place / name for name in ("bin/mine", "lib/mine/x.so", "dataset/mine/own.png")]
    for file in own:
        file.parent.mkdir(exist_ok=True)
        file.write_text("the device's own")
    shutil.move(desk.package / "dataset", desk.package.parent / "dataset")
    seal(desk.package)
    assert "device's own" not in desk.call("push.sh", at="local").stderr
    assert [path.name for path in (desk.place / "dataset").iterdir()] == ["mine"]
    shutil.move(desk.package.parent / "dataset", desk.package / "dataset")
    for index, kind in (("notes.txt", "trained on too"), ("dataset.json", "not trained on")):
        (desk.package / "dataset" / index).touch()
        seal(desk.package)
        pushed = desk.call("push.sh", at="local")
        succeeded(pushed)
        line = f"1 files in dataset/ are the device's own and stay; they are {kind}\n"
        assert line in pushed.stderr
    for file in own:
        assert file.read_text() == "the device's own"
        file.unlink()
    assert content(desk.place) == content(desk.package)


def test_what_a_cut_push_brought_goes_with_the_next(desk, tmp_path):
    first = shutil.copytree(desk.package, tmp_path / "first")
    (first / "bin" / "of the first").write_text("x")
    (first / "dataset" / "other").mkdir()
    shutil.copy(first / "dataset" / "red" / "0.png", first / "dataset" / "other")
    (first / "model" / "big").write_bytes(os.urandom(4_000_000))
    arrived = desk.place / "dataset" / "other" / "0.png"
    with link(desk.device, limit_bytes=1_000_000, silently=True) as through:
        pushed = Desk(desk.device, seal(first), desk.place).start(
            "push.sh", at=desk.device.at(through.port)
        )
        wait_until(arrived.exists)
        through.silent.wait(timeout=60)
        pushed.terminate()
        pushed.communicate(timeout=60)
    assert pushed.returncode == 130
    assert arrived.exists()
    succeeded(desk.call("push.sh", at="local"))
    assert content(desk.place) == content(desk.package)
    assert not (desk.place / "dataset" / "other").exists()


def test_two_pushes_to_one_folder(desk, tmp_path):
    """The first is held when it has begun, the second ends, and then the first goes on."""
    hold, go, sync = (tmp_path / name for name in ("hold", "go", "sync"))
    hold.touch()
    words = f"until [ -e '{go}' ]; do sleep 0.05; done"
    sync.write_text(f"#!/bin/sh\n! mv '{hold}' '{hold}ing' 2>/dev/null || {words}\n")
    sync.chmod(0o755)
    other = shutil.copytree(desk.package, tmp_path / "other")
    (other / "train.sh").write_text("# another\n")
    (other / "bin" / "more").touch()
    second = Desk(desk.device, seal(other), desk.place)

    first = desk.start("push.sh", at="local", PATH=f"{tmp_path}:{os.environ['PATH']}")
    wait_until(lambda: not hold.exists())
    assert (desk.place / "INCOMPLETE").exists()
    succeeded(second.call("push.sh", at="local"))
    assert content(desk.place) == content(other)
    go.touch()
    out, error = first.communicate(timeout=60)
    failed(subprocess.CompletedProcess([], first.returncode, out, error), 4, "another push")
    failed(second.call("run.sh", at="local"), 4, "not pushed completely", "push")
    succeeded(second.call("push.sh", at="local"))
    assert content(desk.place) == content(other)


def test_a_list_that_a_power_cut_emptied(desk):
    succeeded(desk.call("push.sh", at="local"))
    (desk.place / "SHA256SUMS").write_text("")
    failed(desk.call("run.sh", at="local"), 4, "files is empty", "push")
    assert "sent 0 of" in succeeded(desk.call("push.sh", at="local"))
    assert content(desk.place) == content(desk.package)


def test_a_folder_that_is_no_package_is_left_alone(desk):
    (desk.place / "bin").mkdir(parents=True)
    (desk.place / "bin" / "mine").write_text("keep")
    failed(desk.call("push.sh"), 2, "holds other files and no package")
    assert [path.name for path in desk.place.rglob("*")] == ["bin", "mine"]


def test_the_home_of_the_device(desk):
    """That of the tests' device: nothing is written in the real home of the login."""
    default = f"tod/{desk.package.name}"
    common = (desk.package, "-i", desk.device.name)
    more = {"TOD_SSH": desk.device.client}
    failed(script("run.sh", *common, **more), 4, f"there is no folder ./{default}", "push")
    succeeded(script("push.sh", *common, **more))
    assert content(desk.device.home / default) == content(desk.package)
    assert not (Path(pwd.getpwuid(os.getuid()).pw_dir) / default).exists()
    failed(desk.call("push.sh", where="~"), 2, "holds other files")
    shutil.rmtree(desk.device.home / "tod")
    succeeded(desk.call("push.sh", where="~"))
    assert content(desk.device.home) == content(desk.package)
    shutil.rmtree(desk.device.home)
    desk.device.home.mkdir()


def test_a_long_or_odd_tmpdir(desk, tmp_path):
    for name in ("long" * 20, "100% odd"):
        (tmp_path / name).mkdir()
        succeeded(desk.call("push.sh", TMPDIR=tmp_path / name))
        assert not list((tmp_path / name).iterdir())


def test_the_exit_code_of_the_device_comes_back(desk):
    shutil.rmtree(desk.package / "dataset")
    seal(desk.package)
    succeeded(desk.call("push.sh"))
    failed(desk.call("run.sh"), 3, "failed with exit code 3")
    assert (desk.place / "job" / "exit").read_text() == "3\n"


def test_status_attach_and_stop(desk):
    failed(desk.call("pull.sh"), 4, "there is no folder")
    succeeded(desk.call("push.sh"))
    assert succeeded(desk.call("run.sh", "--status")) == "none\n"
    assert succeeded(desk.call("run.sh", "--stop")) == "no job is running\n"
    failed(desk.call("run.sh", "--attach"), 3, "no job was started")
    failed(desk.call("pull.sh"), 3, "there is nothing to bring")
    failed(desk.call("run.sh", "--attach", *SHORT), 2, "no arguments")

    shown = desk.start("run.sh", *LONG)
    for line in shown.stdout:
        if "Loss is" in line:
            break
    assert succeeded(desk.call("run.sh", "--status")) == "running\n"
    failed(desk.call("run.sh"), 2, "a job is running here already", "--attach")
    failed(desk.call("push.sh"), 2, "a job is running", "--stop")
    shown.send_signal(signal.SIGINT)
    assert "training goes on" in shown.communicate(timeout=60)[1]
    assert shown.returncode == 130
    assert succeeded(desk.call("run.sh", "--status")) == "running\n"

    assert "has stopped" in succeeded(desk.call("run.sh", "--stop"))
    assert succeeded(desk.call("run.sh", "--status")) == "ended with code 130\n"
    attached = desk.call("run.sh", "--attach")
    failed(attached, 130, "was stopped", "pull.sh")
    assert "1: Loss is" in attached.stdout
    assert "saved checkpoint" in attached.stdout
    assert "brought 2 files" in succeeded(desk.call("pull.sh"))


def test_a_stranger_and_a_changed_host_key_are_refused(desk):
    device = desk.device
    port = free_port()
    try:
        device.know()
        failed(desk.call("push.sh"), 7, "host key", "is not known here", "by hand")
        other = (device.folder / "user.pub").read_text()
        (device.folder / "known").write_text(f"[127.0.0.1]:{device.port} {other}")
        failed(desk.call("push.sh"), 7, "is not the one that is known", "listening in")
    finally:
        device.know(device.port)
    failed(desk.call("push.sh", at=device.at(port)), 7, "cannot be reached", "switched on")
    stranger = f"{device.client} -o IdentityFile=none -o PubkeyAuthentication=no"
    failed(desk.call("push.sh", TOD_SSH=stranger), 7, "refuses the login", "ssh-copy-id")
    failed(desk.call("push.sh", at="ssh:a@no-such-host.invalid"), 7, "knows no such host")
    failed(desk.call("push.sh", TOD_SSH="/no/such/ssh"), 7, "no ssh client")
    assert not desk.place.exists()


@pytest.mark.parametrize("name", ["ssh:", "ssh:-oProxyCommand=x", "ssh:a@", "ssh:a@b:x", "usb"])
def test_what_is_no_device(desk, name):
    failed(desk.call("push.sh", at=name), 2, f"{name} is no device")


def wanted_tools(kind="ssh"):
    """What device.sh looks for."""
    text = f". '{ROOT}/scripts/device.sh'; device_kind={kind}; device_tools"
    return set(subprocess.check_output(["sh", "-c", text], text=True).split())


def only(device, tools):
    """Leave the device these tools, and a shell that has none itself."""
    shutil.rmtree(device.tools)
    device.tools.mkdir()
    jail.add_tools(device.tools, " ".join(tools))
    (device.tools / "busybox").rename(device.folder / "busybox")
    for tool in tools:
        (device.tools / tool).unlink()
        (device.tools / tool).symlink_to(device.folder / "busybox")
    (device.tools / "sh").symlink_to(shutil.which("dash") or shutil.which("sh"))


def test_the_tools_that_are_looked_for_are_those_that_are_used():
    """The words where a command stands in what the device runs."""
    text = (ROOT / "scripts" / "on_device.sh").read_text()
    for file in (ROOT / "package_templates").rglob("*"):
        text += file.read_text() if file.suffix == ".sh" or file.parent.name == "bin" else ""
    sent = {"device.sh": "in_folder device_info ssh_put ssh_get", "push.sh": "inspect"}
    for name, functions in sent.items():
        for function in functions.split():
            source = (ROOT / "scripts" / name).read_text()
            text += re.search(rf"^{function}\(\) {{.*?^}}", source, re.M | re.S)[0]
    text = re.sub(r"^cat <<'EOF'.*?^EOF", "", text, flags=re.M | re.S)
    text = re.sub(r"(^|\s)#.*", "", text)
    before = r"(?:^|[;|&({!'\"]|\b(?:then|do|else|if|while|until|exec)\b)\s*(?:[A-Z_]+=\S*\s+)*"
    words = set(re.findall(before + r"([a-z0-9]+)\b(?![=(])", text, re.M))
    builtin = {"echo", "kill", "pwd", "read", "sh", "test", "true", "false", "wait"}
    assert words & set(jail.TOOLS.split()) - builtin - {"sync", "setsid"} == wanted_tools()
    assert wanted_tools() - wanted_tools("adb") == {"tar"}


def test_a_device_with_those_tools_only_that_greets(desk, tmp_path):
    """And a client whose configuration would run a command there."""
    (tmp_path / "ssh").mkdir()
    with ssh_device(tmp_path / "ssh") as device:
        only(device, wanted_tools() - {"sha256sum", "wc"})
        failed(Desk(device, desk.package, desk.place).call("push.sh"), 5, "has no sha256sum wc")
        assert not desk.place.exists()
        only(device, wanted_tools())
        (desk.package / "bin" / "net_runner").write_text(QUICK)
        seal(desk.package)
        bare = Desk(device, desk.package, desk.place)
        greeting = "printf 'wrong a\\ncomplete\\njob=running\\nWelcome'\n"
        (device.folder / "greeting").write_text(greeting)
        with open(device.folder / "client", "a") as config:
            config.write("  RemoteCommand false\n")
        assert "sent 73 of 73" in succeeded(bare.call("push.sh"))
        assert "difference" in succeeded(bare.call("run.sh")).splitlines()[-1]
        assert "brought 2 files" in succeeded(bare.call("pull.sh"))
        shutil.rmtree(desk.package / "dataset" / "red")
        seal(desk.package)
        succeeded(bare.call("push.sh"))
    assert not (desk.place / "dataset" / "red").exists()
    (results,) = desk.package.parent.glob("*-results/*")
    assert (results / "job" / "log").read_text() == (desk.place / "job" / "log").read_text()


def test_another_architecture(desk):
    (desk.package / "lib" / "TARGET").write_text("machine=riscv64\nruntime=system\n")
    seal(desk.package)
    failed(desk.call("push.sh"), 5, "the package is for riscv64", "--target")
    assert not desk.place.exists()
    succeeded(desk.call("push.sh", TOD_EMULATOR="qemu-riscv64"))


def test_a_folder_under_a_file(desk, tmp_path):
    (tmp_path / "file").write_text("")
    where = tmp_path / "file" / "package"
    failed(desk.call("push.sh", where=where), 5, "cannot be written", "-w")


def test_full_and_read_only_disks(tmp_path, desk):
    """tmpfs in a mount namespace of the sshd: too small, read-only, and full before it says so."""
    folder = tmp_path / "ssh"
    disks = {name: tmp_path / name for name in ("small", "fixed", "full")}
    for disk in (folder, *disks.values()):
        disk.mkdir()
    mount = "mount -t tmpfs -o {} none {}"
    options = {"small": "size=900k", "fixed": "ro", "full": "nr_inodes=30"}
    around = "; ".join(mount.format(options[n], shlex.quote(str(d))) for n, d in disks.items())
    with ssh_device(folder, f"set -e; {around}") as device:
        there = Desk(device, desk.package, desk.place)
        small = there.call("push.sh", where=disks["small"] / "p")
        failed(small, 5, "too little room: 1 MB are needed and 0 MB free")
        failed(there.call("push.sh", where=disks["fixed"] / "p"), 5, "cannot be written")
        failed(there.call("push.sh", where=disks["full"] / "p"), 5, "is full", "make room")
        failed(there.call("run.sh", where=disks["full"] / "p"), 4, "not pushed completely")


def test_a_push_that_is_cut_is_never_run_and_can_be_finished(desk):
    big = desk.package / "lib" / "big"
    big.write_bytes(bytes(range(256)) * 4000)
    seal(desk.package)
    with link(desk.device, limit_bytes=500_000) as through:
        cut = desk.call("push.sh", at=desk.device.at(through.port))
    failed(cut, 7, "was lost", "repeat")
    assert (desk.place / "INCOMPLETE").exists()
    failed(desk.call("run.sh"), 4, "not pushed completely", "push")
    failed(job(desk.place, "start"), 4, "not pushed completely")
    said = succeeded(desk.call("push.sh"))
    sent, of = map(int, re.search(r"sent (\d+) of (\d+) files", said).groups())
    assert 0 < sent < of
    assert content(desk.place) == content(desk.package)


def test_an_interruption_is_heard_while_nothing_moves(desk):
    (desk.package / "lib" / "big").write_bytes(bytes(range(256)) * 4000)
    seal(desk.package)
    with link(desk.device, limit_bytes=500_000, silently=True) as through:
        pushed = desk.start("push.sh", at=desk.device.at(through.port))
        through.silent.wait(timeout=60)
        pushed.send_signal(signal.SIGTERM)
        said = pushed.communicate(timeout=60)[1]
    assert pushed.returncode == 130
    assert "error: interrupted\nhint: repeat the command" in said
    assert (desk.place / "INCOMPLETE").exists()


def test_a_damaged_file_is_never_run_and_is_sent_again(desk):
    succeeded(desk.call("push.sh", at="local"))
    (desk.place / "dataset" / "red" / "3.png").write_bytes(b"damaged")
    failed(desk.call("run.sh", at="local"), 4, "damaged on the device: dataset/red/3.png", "push")
    assert not (desk.place / "job").exists()
    assert "sent 1 of" in succeeded(desk.call("push.sh", at="local"))
    assert content(desk.place) == content(desk.package)
    # What is damaged here is not sent there.
    (desk.package / "train.sh").unlink()
    assert "sent 0 of" in succeeded(desk.call("push.sh", at="local"))
    (desk.place / "train.sh").write_bytes(b"damaged")
    failed(desk.call("push.sh", at="local"), 4, "is damaged: train.sh", "tod package")
    assert (desk.place / "train.sh").read_bytes() == b"damaged"
    failed(desk.call("run.sh", at="local"), 4, "damaged on the device: train.sh", "push")


def test_training_goes_on_when_the_connection_is_cut(desk):
    succeeded(desk.call("push.sh"))
    with link(desk.device) as through:
        shown = desk.start("run.sh", *LONG, at=desk.device.at(through.port))
        for line in shown.stdout:
            if "Loss is" in line:
                break
        through.cut()
        said = shown.communicate(timeout=60)[1]
    assert shown.returncode == 7
    assert "was lost" in said
    assert "training goes on" in said
    assert "--attach" in said
    assert job(desk.place, "status").stdout == "running\n"
    log = desk.place / "job" / "log"
    size = log.stat().st_size
    wait_until(lambda: log.stat().st_size > size)
    succeeded(desk.call("run.sh", "--stop"))
    assert "1: Loss is" in desk.call("run.sh", "--attach").stdout


def test_a_pull_that_is_cut_leaves_no_half_file(desk):
    succeeded(desk.call("push.sh"))
    products = {"a_trained_20.tod": b"small", "b_trained.tod": bytes(range(256)) * 8000}
    for name, data in products.items():
        (desk.place / "model" / name).write_bytes(data)
    out = desk.package.parent / "out"
    with link(desk.device, limit_bytes=500_000) as through:
        cut = desk.call("pull.sh", "-o", out, at=desk.device.at(through.port))
    failed(cut, 7, "was lost", "repeat")
    assert [str(p.relative_to(out)) for p in out.rglob("*.tod")] == ["model/a_trained_20.tod"]
    assert not list(out.glob(".incoming*"))
    assert "brought 1 files" in succeeded(desk.call("pull.sh", "-o", out))
    for name, data in products.items():
        assert (out / "model" / name).read_bytes() == data


def test_several_devices_side_by_side(desk, tmp_path):
    """Two that work, each with its own disk in the same place, and one that is switched off."""
    device, folder, disk = desk.device, tmp_path / "ssh", tmp_path / "disk"
    folder.mkdir()
    disk.mkdir()
    bad = device.at(free_port())
    with ssh_device(folder, f"mount -t tmpfs none {shlex.quote(str(disk))}") as second:
        # One known_hosts for both.
        with open(device.folder / "known", "a") as known:
            known.write((folder / "known").read_text())
        with open(device.folder / "user.pub") as key:
            (folder / "user.pub").write_text(key.read())
        more = ["-i", second.name, "-i", bad]
        done = desk.call("push.sh", *more, where=disk / "p")
        ran = desk.call("run.sh", *more[:2], *SHORT, where=disk / "p")
        shown = desk.start("run.sh", *more[:2], *LONG, where=disk / "p")
        training = set()
        for line in shown.stdout:
            training |= {line.split("]")[0]} if "Loss is" in line else set()
            if len(training) == 2:
                break
        shown.terminate()
        left = shown.communicate(timeout=60)[0]
        stopped = desk.call("run.sh", *more[:2], "--stop", where=disk / "p")
        device.know(device.port)
    assert done.returncode == 7
    assert len(re.findall(r"^ssh:.*: done: sent \d+ of", done.stdout, re.M)) == 2
    assert re.search(rf"^{bad}: exit code 7: error: .* cannot be reached", done.stdout, re.M)
    assert f"[{device.name}] sent" in done.stdout
    assert content(disk / "p").keys() >= content(desk.package).keys()
    assert len(re.findall(r"^ssh:.*: done: untrained [\d.]+  trained", succeeded(ran), re.M)) == 2
    assert (shown.returncode, left.count("training goes on")) == (130, 2)
    assert succeeded(stopped).count("done: the job has stopped") == 2
    results = desk.package.with_name(desk.package.name + "-results")
    logs = [path.read_text() for path in results.glob("*/push.log")]
    assert sorted("sent" in text for text in logs) == [False, True, True]
    failed(desk.call("push.sh", "-i", device.name), 2, "given twice")
