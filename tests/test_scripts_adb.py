"""push.sh, run.sh and pull.sh over the real adb client, to a phone that holds only a shell.

The package's net_runner is a shell script with net_runner's lines and exit codes, which trains
until the test lets it end: tested here is the way to the device, the job on it, and the way back.
"""

import contextlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests import jail
from tests.device_package import content, failed, seal
from tests.phone import ROOT, Adb, Phone, missing

NAMES = ["plain.bin", "with blank.bin", 'it\'s "quoted".bin', "größe $HOME `id`.bin", "-n;&|*?.bin"]
NET_RUNNER = """
case $0 in */*) here=${0%/*} ;; *) here=. ;; esac
[ ! -e "$here/../INCOMPLETE" ] || exit 4
case " $* " in
  *' -c '*) ;;
  *_trained*) echo "accuracy on validation data = 0.95"; exit ;;
  *) echo "accuracy on validation data = 0.1"; exit ;;
esac
case " $* " in *' --fail '*) echo 'error: the loss is not a number' >&2; exit 6 ;; esac
trap 'stop=yes' TERM
cycle=0 stop=
until [ -e "$here/../../end" ] || [ "$stop" ]; do
  cycle=$((cycle + 1))
  echo "$cycle: Loss is 0.5"
  sleep 0.05 || :
done
head -c 1000000 /dev/urandom >model/transfer_learning_trained.tod
[ -z "$stop" ] || exit 130
"""


@pytest.fixture(scope="module")
def adb(tmp_path_factory):
    if reason := missing():
        pytest.skip(f"no phone can be made here: {reason}")
    with Adb(tmp_path_factory.mktemp("adb")) as adb:
        yield adb


@pytest.fixture
def root(tmp_path, adb):
    return jail.build(tmp_path / "root")


@pytest.fixture
def phone(adb, root):
    with Phone(adb, root) as phone:
        yield phone


@pytest.fixture
def package(tmp_path):
    """One with hard names, in a folder with a hard name."""
    folder = tmp_path / "my package's ü"
    shutil.copytree(ROOT / "package_templates", folder)
    (folder / "bin" / "net_runner").write_text(NET_RUNNER)
    for place in ("lib", "model", "dataset/a class"):
        (folder / place).mkdir(parents=True, exist_ok=True)
    (folder / "lib" / "TARGET").write_text(f"machine={os.uname().machine}\nruntime=bundled\n")
    (folder / "model" / "transfer_learning.tod").write_bytes(os.urandom(2_000_000))
    for number, name in enumerate(NAMES):
        (folder / "dataset" / "a class" / name).write_bytes(os.urandom(1000 * number))
    return seal(folder)


def script(adb: Adb, name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = ["sh", str(ROOT / "scripts" / name), *map(str, arguments)]
    return subprocess.run(command, env=adb.environment, capture_output=True, text=True, timeout=60)


def there(phone: Phone, package: Path) -> Path:
    return phone.root / jail.DATA / package.name


@contextlib.contextmanager
def job(phone: Phone, package: Path, *arguments: object):
    """run.sh at work, its job in the middle of its training."""
    command = ["sh", ROOT / "scripts" / "run.sh", package, *arguments]
    with subprocess.Popen(
        command,
        env=phone.adb.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        for line in running.stdout:
            if line.startswith("3: Loss"):
                break
        yield running


def end_training(phone: Phone) -> None:
    (phone.root / jail.DATA / "end").touch()


def test_push_sends_what_is_not_there(phone, package):
    done = script(phone.adb, "push.sh", package)
    assert done.returncode == 0, done.stderr
    assert content(there(phone, package)) == content(package)
    again = script(phone.adb, "push.sh", package)
    assert (again.returncode, again.stdout[:7]) == (0, "sent 0 ")
    (there(phone, package) / "dataset" / "a class" / NAMES[3]).write_text("damaged")
    (package / "dataset" / "a class" / NAMES[1]).unlink()
    seal(package)
    assert script(phone.adb, "run.sh", package).returncode == 4
    repaired = script(phone.adb, "push.sh", package)
    assert (repaired.returncode, repaired.stdout[:7]) == (0, "sent 1 ")
    assert content(there(phone, package)) == content(package)


def test_the_whole_job(phone, package, tmp_path):
    assert script(phone.adb, "push.sh", package).returncode == 0
    end_training(phone)
    done = script(phone.adb, "run.sh", package, "--", "-c", 5)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("untrained 0.1000  trained 0.9500  difference +0.8500\n")
    results = tmp_path / "results' ü"
    pulled = script(phone.adb, "pull.sh", package, "-o", results)
    assert pulled.returncode == 0, pulled.stderr
    trained = "model/transfer_learning_trained.tod"
    assert (results / trained).read_bytes() == (there(phone, package) / trained).read_bytes()
    assert "0.95" in (results / "job" / "log").read_text()
    assert "sent 0 " in script(phone.adb, "push.sh", package).stdout
    assert (there(phone, package) / trained).exists()


def test_the_device_s_exit_code(phone, package):
    assert script(phone.adb, "push.sh", package).returncode == 0
    done = script(phone.adb, "run.sh", package, "--", "--fail")
    assert done.returncode == 6
    assert "the loss is not a number" in done.stdout
    assert "failed with exit code 6" in done.stderr


def test_stop(phone, package):
    assert script(phone.adb, "push.sh", package).returncode == 0
    with job(phone, package) as running:
        assert script(phone.adb, "run.sh", package).returncode == 2
        assert script(phone.adb, "push.sh", package).returncode == 2
        assert script(phone.adb, "run.sh", package, "--status").stdout == "running\n"
        assert script(phone.adb, "run.sh", package, "--stop").returncode == 0
        assert running.wait() == 130
    assert script(phone.adb, "run.sh", package, "--status").stdout == "ended with code 130\n"
    assert (there(phone, package) / "model" / "transfer_learning_trained.tod").exists()


@pytest.mark.parametrize("after_bytes", [0, 3_000, 10_000, 1_000_000])
def test_a_push_that_is_cut(phone, package, after_bytes):
    phone.cut("received", after_bytes)
    failed(script(phone.adb, "push.sh", package), 7, "was lost")
    phone.connect()
    assert not (there(phone, package) / "SHA256SUMS").exists()
    assert script(phone.adb, "run.sh", package).returncode == 4
    sent = [file for file in there(phone, package).rglob("*") if file.name == "net_runner"]
    if sent:
        command = f"sh '{jail.DATA}/my package'\\''s ü/bin/net_runner'"
        assert phone.run("shell", f"cd / && {command}").returncode == 4
    again = script(phone.adb, "push.sh", package)
    assert again.returncode == 0, again.stderr
    assert content(there(phone, package)) == content(package)


@pytest.mark.parametrize("setsid", [True, False])
def test_a_run_that_is_cut(phone, package, setsid):
    """The job goes on; --attach shows all of it."""
    if not setsid:
        (phone.root / "system" / "bin" / "setsid").unlink()
    assert script(phone.adb, "push.sh", package).returncode == 0
    with job(phone, package) as running:
        phone.cut("sent", 500)
        assert running.wait() == 7
        words = running.stderr.read()
        assert "was lost" in words
        assert "--attach" in words
    phone.connect()
    assert script(phone.adb, "run.sh", package, "--status").stdout == "running\n"
    end_training(phone)
    done = script(phone.adb, "run.sh", package, "--attach")
    assert done.returncode == 0, done.stderr
    assert "\n1: Loss is 0.5\n2: Loss" in done.stdout
    assert "difference +0.8500" in done.stdout


def test_a_phone_that_is_switched_off(adb, root, package):
    with Phone(adb, root) as phone:
        assert script(adb, "push.sh", package).returncode == 0
        with job(phone, package) as running:
            phone.switch_off()
            assert running.wait() == 7
    with Phone(adb, root) as phone:
        done = script(adb, "run.sh", package, "--attach")
        assert done.returncode == 6
        assert "was cut off" in done.stderr
        end_training(phone)
        assert script(adb, "run.sh", package).returncode == 0


def test_a_pull_that_is_cut(phone, package, tmp_path):
    assert script(phone.adb, "push.sh", package).returncode == 0
    end_training(phone)
    assert script(phone.adb, "run.sh", package).returncode == 0
    phone.cut("sent", 500_000)
    failed(script(phone.adb, "pull.sh", package, "-o", tmp_path / "results"), 7, "was lost")
    assert not list((tmp_path / "results").rglob("*.tod"))
    phone.connect()
    assert script(phone.adb, "pull.sh", package, "-o", tmp_path / "results").returncode == 0
    assert len(list((tmp_path / "results").rglob("*.tod"))) == 1


@pytest.mark.parametrize(("data", "words"), [("size=1m", "too little room"), ("ro", "written")])
def test_no_room(adb, root, package, data, words):
    with Phone(adb, root, data=data):
        failed(script(adb, "push.sh", package), 5, words)


def test_a_disk_that_is_full_before_it_said_so(adb, root, package):
    """Files fit by their bytes, but not by their number: folders and names take room as well."""
    for number in range(300):
        (package / "dataset" / "a class" / f"{number}.bin").write_bytes(b"x")
    seal(package)
    with Phone(adb, root, data="size=8m,nr_inodes=100") as phone:
        failed(script(adb, "push.sh", package), 5, "is full")
        assert script(adb, "run.sh", package).returncode == 4
        ls = phone.run("shell", f"ls {jail.DATA}/my*/INCOMPLETE")
        assert ls.returncode == 0


def test_another_architecture(phone, package):
    (package / "lib" / "TARGET").write_text("machine=riscv64\nruntime=bundled\n")
    failed(script(phone.adb, "push.sh", seal(package)), 5, "riscv64")
    assert not there(phone, package).exists()


def test_who_cannot_be_reached(adb, root, tmp_path, package):
    failed(script(adb, "push.sh", package), 7, "no device is connected")
    with Phone(adb, root) as phone:
        failed(script(adb, "push.sh", package, "-i", "adb:another"), 7, "not connected")
        with Phone(adb, jail.build(tmp_path / "second")) as second:
            failed(script(adb, "push.sh", package), 7, "several devices")
            done = script(adb, "push.sh", package, "-i", f"adb:{second.serial}")
            assert done.returncode == 0
            assert not there(phone, package).exists()
            both = [f"adb:{each.serial}" for each in (phone, second)]
            done = script(adb, "push.sh", package, "-i", both[0], "-i", both[1])
            assert done.returncode == 0, done.stdout
            assert [line.split(": done: sent")[0] for line in done.stdout.splitlines()[-2:]] == both
            assert content(there(phone, package)) == content(package)
    with Phone(adb, root, "--unauthorized"):
        failed(script(adb, "push.sh", package), 7, "does not trust this computer")


def test_a_phone_that_gives_no_exit_codes(adb, root, package):
    with Phone(adb, root, "--old"):
        failed(script(adb, "push.sh", package), 5, "too old")
