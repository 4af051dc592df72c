"""The tests' phone: what the real adb client must see of it, before anything is built on it."""

import contextlib
import hashlib
import os
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support import jail
from tests.support.phone import Adb, Phone, missing
from tests.support.waiting import wait_until

DATA = "/data/local/tmp"
NAMES = [
    "with blank.txt",
    "it's",
    'say "x"',
    "größe äß",
    "$HOME `id`",
    "a;b&c|d*?",
    "-n",
    "comma,1",
]


@pytest.fixture(scope="module")
def adb(tmp_path_factory):
    if reason := missing():
        pytest.skip(f"no phone can be made here: {reason}")
    with Adb(tmp_path_factory.mktemp("adb")) as adb:
        yield adb


@pytest.fixture(scope="module")
def jail_root(tmp_path_factory, adb):
    return jail.build(tmp_path_factory.mktemp("phone") / "root")


@pytest.fixture(scope="module")
def phone(adb, jail_root):
    with Phone(adb, jail_root) as phone:
        yield phone


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def tree(folder: Path) -> dict[str, bytes]:
    files = (file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def test_a_device_is_listed_while_it_is_there(adb, jail_root):
    with Phone(adb, jail_root) as phone:
        assert adb.state(phone.serial) == "device"
    assert adb.state(phone.serial) == ""


def test_no_device(adb, tmp_path):
    with Adb(tmp_path) as alone:
        done = alone.run("shell", "true")
    assert done.returncode == 1
    assert "no devices" in done.stderr


def test_unauthorized(adb, jail_root):
    with Phone(adb, jail_root, "--unauthorized") as phone:
        assert adb.state(phone.serial) == "unauthorized"
        done = phone.run("shell", "true")
        assert done.returncode == 1
        assert "device unauthorized" in done.stderr


@pytest.mark.parametrize("code", [0, 1, 7, 130])
def test_exit_codes(phone, code):
    assert phone.run("shell", f"exit {code}").returncode == code


def test_a_signal_is_128_more(phone):
    assert phone.run("shell", "kill -TERM $$").returncode == 143


def test_stderr_apart(phone):
    done = phone.run("shell", "echo out; echo err >&2")
    assert (done.stdout, done.stderr) == ("out\n", "err\n")


def test_quotes_of_a_command(phone):
    done = phone.run("shell", "printf '%s|' \"it's\" '$HOME \"ü\"'; echo $TMPDIR")
    assert done.stdout == f'it\'s|$HOME "ü"|{DATA}\n'


def test_stdin(phone):
    data = os.urandom(3_000_000)
    done = phone.run("shell", "sha256sum", input=data, text=False)
    assert done.stdout.decode().split()[0] == sha256(data)


def test_much_output(phone):
    done = phone.run("shell", "yes x | head -c 5000000", text=False)
    assert done.stdout == b"x\n" * 2_500_000


def test_exec_out_is_raw(phone):
    assert phone.run("exec-out", r"printf 'a\nb\r\n\000'", text=False).stdout == b"a\nb\r\n\0"


def test_shells_run_at_the_same_time(phone):
    """Each waits for the next one: one after the other they would never end."""
    commands = [f"cat {DATA}/1; echo 0", f"cat {DATA}/2; echo 1 >{DATA}/1", f"echo 2 >{DATA}/2"]
    assert phone.run("shell", f"mkfifo {DATA}/1 {DATA}/2").returncode == 0
    with ThreadPoolExecutor() as pool:
        done = list(pool.map(lambda command: phone.run("shell", command), commands))
    assert [each.stdout for each in done] == ["1\n0\n", "2\n", ""]
    phone.run("shell", f"rm {DATA}/1 {DATA}/2")


def test_a_client_that_goes_ends_its_shell(phone):
    """By SIGHUP; what ignores it goes on, as on a phone."""
    command = f"(trap '' HUP; while [ ! -e {DATA}/stop ]; do sleep 0.05; done; >{DATA}/deaf) &"
    ended = f"trap 'echo HUP >{DATA}/ended; exit' HUP; echo ready; while :; do sleep 0.05; done"
    client = subprocess.Popen(
        ["adb", "-s", phone.serial, "shell", f"{command} {ended}"],
        env=phone.adb.environment,
        stdout=subprocess.PIPE,
    )
    assert client.stdout.readline() == b"ready\n"
    client.kill()
    client.communicate()
    data = phone.root / jail.DATA
    wait_until((data / "ended").exists)
    assert not (data / "deaf").exists()
    (data / "stop").touch()
    wait_until((data / "deaf").exists)


@pytest.mark.parametrize("size", [0, 1, 3_000_000])
def test_a_file_there_and_back(phone, tmp_path, size):
    sent, back = tmp_path / "sent", tmp_path / "back"
    sent.write_bytes(os.urandom(size))
    os.utime(sent, (1e9, 1e9))
    assert phone.run("push", sent, f"{DATA}/file").returncode == 0
    line = phone.run("shell", f"sha256sum {DATA}/file; stat -c %Y {DATA}/file").stdout.split()
    assert (line[0], line[2]) == (sha256(sent.read_bytes()), "1000000000")
    done = phone.run("pull", "-a", f"{DATA}/file", back)
    assert done.returncode == 0, done.stderr
    assert back.read_bytes() == sent.read_bytes()
    assert back.stat().st_mtime == 1e9


def test_a_folder_there_and_back(phone, tmp_path):
    """200 small files and hard names, in folders; programs stay programs."""
    sent = tmp_path / "sent"
    for number in range(200):
        file = sent / f"folder {number % 7}" / f"{number}.bin"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(os.urandom(number))
    for name in NAMES:
        (sent / name).write_text(name)
    program = sent / "program"
    program.write_text("echo it runs\n")
    program.chmod(0o755)
    target = f'{DATA}/it\'s a "target" ü'
    phone.run("shell", f"mkdir -p '{DATA}/it'\\''s a \"target\" ü'")
    done = phone.run("push", f"{sent}/.", f"{target}/")
    assert done.returncode == 0, done.stdout + done.stderr
    there = phone.root / target[1:]
    assert tree(there) == tree(sent)
    assert os.access(there / "program", os.X_OK)
    assert not (there / NAMES[0]).stat().st_mode & 0o111
    done = phone.run("pull", target, tmp_path / "back")
    assert done.returncode == 0, done.stdout + done.stderr
    assert tree(tmp_path / "back") == tree(sent)


def test_a_link(phone, tmp_path):
    (tmp_path / "link").symlink_to("elsewhere")
    # A link that is named is followed, one inside a folder is sent as it is.
    done = phone.run("push", f"{tmp_path}/.", f"{DATA}/links/")
    assert done.returncode == 0, done.stdout + done.stderr
    assert phone.run("shell", f"readlink {DATA}/links/link").stdout == "elsewhere\n"


def test_pull_of_a_missing_file(phone, tmp_path):
    done = phone.run("pull", f"{DATA}/none", tmp_path / "none")
    assert done.returncode == 1
    assert "No such file or directory" in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("data", "words"),
    [("size=2m", "No space left on device"), ("ro", "Read-only file system")],
)
def test_a_phone_that_takes_no_file(adb, jail_root, tmp_path, data, words):
    (tmp_path / "big").write_bytes(bytes(3_000_000))
    with Phone(adb, jail_root, data=data) as phone:
        for target in (f"{DATA}/big", f"{DATA}/new folder/big"):
            done = phone.run("push", tmp_path / "big", target)
            assert done.returncode == 1
            assert words in done.stdout + done.stderr
            assert phone.run("shell", f"test -e '{target}'").returncode == 1


def test_a_target_that_is_a_folder_of_the_system(phone, tmp_path):
    if os.geteuid():
        pytest.skip("an ordinary user's jail belongs to that user, the system's folders too")
    (tmp_path / "file").write_text("x")
    done = phone.run("push", tmp_path / "file", "/system/bin/sh")
    assert done.returncode == 1
    assert "Permission denied" in done.stdout + done.stderr


def test_cuts(phone, tmp_path):
    """In the middle of a push, a pull and a shell; the phone is there again after each."""
    big, back = tmp_path / "big", tmp_path / "back"
    big.write_bytes(os.urandom(3_000_000))
    phone.cut("received", 1_000_000)
    assert phone.run("push", big, f"{DATA}/cut").returncode == 1
    assert phone.adb.state(phone.serial) == "offline"
    phone.connect()
    assert phone.run("shell", f"test -e {DATA}/cut").returncode == 1
    assert phone.run("push", big, f"{DATA}/cut").returncode == 0
    phone.cut("sent", 1_000_000)
    assert phone.run("pull", f"{DATA}/cut", back).returncode == 1
    phone.connect()
    phone.cut("sent", 1_000_000)
    done = phone.run("shell", "yes")
    # adb 29 takes the end of the connection for that of the command, a success; newer ones say 255.
    assert done.returncode in (0, 255)
    assert 0 < len(done.stdout) < 1_000_000
    phone.connect()
    assert phone.run("shell", "exit 7").returncode == 7


def test_an_old_phone(adb, jail_root, tmp_path):
    """Android 6 and older: checksums, small messages, neither exit codes nor a stderr apart."""
    (tmp_path / "file").write_bytes(os.urandom(100_000))
    with Phone(adb, jail_root, "--old") as phone:
        assert phone.run("push", tmp_path / "file", f"{DATA}/old folder/file").returncode == 0
        done = phone.run("shell", f"sha256sum '{DATA}/old folder/file'; echo err >&2; exit 7")
        assert done.stdout.split()[0] == sha256((tmp_path / "file").read_bytes())
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.endswith("err\n")
        assert phone.run("pull", f"{DATA}/old folder/file", tmp_path / "back").returncode == 0
    assert (tmp_path / "back").read_bytes() == (tmp_path / "file").read_bytes()


def test_nothing_is_left_running(adb, tmp_path):
    def inside() -> list[str]:
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it ended meanwhile, or is another user's
                found += [process.name] if os.path.samefile(process / "root", root) else []
        return found

    root = jail.build(tmp_path / "root")
    with Phone(adb, root) as phone:
        done = phone.run("shell", "(trap '' HUP TERM; setsid sleep 1000 >/dev/null 2>&1 &)")
        assert done.returncode == 0
        wait_until(lambda: "sleep" in phone.run("shell", "ps").stdout)
        assert len(inside()) >= 2
    wait_until(lambda: not inside())


def test_the_jail_holds_nothing_of_the_workstation(adb, tmp_path):
    root = jail.build(tmp_path / "root")

    def run(command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(jail.shell(root, command), capture_output=True, text=True)

    assert run("ls /").stdout.split() == ["data", "dev", "proc", "system"]
    assert run(f"printf '#!/bin/sh\\n' >{DATA}/x; chmod +x {DATA}/x; {DATA}/x").returncode == 127
    for name in ("python3", "mktemp -d", "vi", "cd /tmp"):
        assert run(name).returncode != 0, name
    tools = "setsid sha256sum find tar df sort sed head tail uname kill sleep"
    assert run(f"which {tools}").stdout.count("\n") == len(tools.split())
    assert run("df -k /data/local/tmp | tail -n 1").stdout.split()[-1] == "/"
    assert len(run("ps").stdout.splitlines()) <= 4


def test_a_jail_of_another_architecture(adb, tmp_path):
    if not (emulator := Path("/usr/bin/qemu-aarch64-static")).is_file():
        pytest.skip("qemu-aarch64-static is not installed (apt-get install qemu-user-static)")
    root = jail.build(tmp_path / "root", emulator)
    command = jail.shell(root, "uname -m; qemu-aarch64-static --version")
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert re.match(r"aarch64\nqemu-aarch64 version ", done.stdout)
