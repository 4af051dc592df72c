"""push.sh, run.sh and pull.sh over the real adb client, to a phone that holds only a shell.

The package's net_runner is a shell script with net_runner's lines and exit codes, which trains
until the test lets it end: tested here is the way to the device, the job on it, and the way back.
"""

import contextlib
import os
import subprocess
from pathlib import Path

import pytest

from tests.support import jail
from tests.support.device_package import (
    content,
    failed,
    make_package,
    script,
    seal,
    start_script,
    succeeded,
)
from tests.support.phone import Adb, Phone, missing

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
def own_package(tmp_path):
    """One with hard names, in a folder with a hard name."""
    pictures, model = tmp_path / "pictures", tmp_path / "model.tod"
    (pictures / "a class").mkdir(parents=True)
    for number, name in enumerate(NAMES):
        (pictures / "a class" / name).write_bytes(os.urandom(1000 * number))
    model.write_bytes(os.urandom(2_000_000))
    return make_package(tmp_path / "my package's ü", model, pictures, NET_RUNNER)


def call(adb: Adb, name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return script(name, *arguments, **adb.environment)


def there(phone: Phone, package: Path) -> Path:
    return phone.root / jail.DATA / package.name


@contextlib.contextmanager
def training(phone: Phone, package: Path, *arguments: object):
    """run.sh at work, its job in the middle of its training."""
    with start_script("run.sh", package, *arguments, **phone.adb.environment) as running:
        for line in running.stdout:
            if line.startswith("3: Loss"):
                break
        yield running


def end_training(phone: Phone) -> None:
    (phone.root / jail.DATA / "end").touch()


def test_push_sends_what_is_not_there(phone, own_package):
    done = call(phone.adb, "push.sh", own_package)
    assert done.returncode == 0, done.stderr
    assert content(there(phone, own_package)) == content(own_package)
    again = call(phone.adb, "push.sh", own_package)
    assert (again.returncode, again.stdout[:7]) == (0, "sent 0 ")
    (there(phone, own_package) / "dataset" / "a class" / NAMES[3]).write_text("damaged")
    (own_package / "dataset" / "a class" / NAMES[1]).unlink()
    seal(own_package)
    assert call(phone.adb, "run.sh", own_package).returncode == 4
    repaired = call(phone.adb, "push.sh", own_package)
    assert (repaired.returncode, repaired.stdout[:7]) == (0, "sent 1 ")
    assert content(there(phone, own_package)) == content(own_package)


def test_the_whole_job(phone, own_package, tmp_path):
    assert call(phone.adb, "push.sh", own_package).returncode == 0
    end_training(phone)
    done = call(phone.adb, "run.sh", own_package, "--", "-c", 5)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("untrained 0.1000  trained 0.9500  difference +0.8500\n")
    results = tmp_path / "results' ü"
    pulled = call(phone.adb, "pull.sh", own_package, "-o", results)
    assert pulled.returncode == 0, pulled.stderr
    trained = "model/transfer_learning_trained.tod"
    assert (results / trained).read_bytes() == (there(phone, own_package) / trained).read_bytes()
    assert "0.95" in (results / "job" / "log").read_text()
    assert "sent 0 " in call(phone.adb, "push.sh", own_package).stdout
    assert (there(phone, own_package) / trained).exists()


def test_the_device_s_exit_code(phone, own_package):
    assert call(phone.adb, "push.sh", own_package).returncode == 0
    done = call(phone.adb, "run.sh", own_package, "--", "--fail")
    assert done.returncode == 6
    assert "the loss is not a number" in done.stdout
    assert "failed with exit code 6" in done.stderr


def test_stop(phone, own_package):
    assert call(phone.adb, "push.sh", own_package).returncode == 0
    with training(phone, own_package) as running:
        assert call(phone.adb, "run.sh", own_package).returncode == 2
        assert call(phone.adb, "push.sh", own_package).returncode == 2
        assert call(phone.adb, "run.sh", own_package, "--status").stdout == "running\n"
        assert call(phone.adb, "run.sh", own_package, "--stop").returncode == 0
        assert running.wait() == 130
    assert call(phone.adb, "run.sh", own_package, "--status").stdout == "ended with code 130\n"
    assert (there(phone, own_package) / "model" / "transfer_learning_trained.tod").exists()


@pytest.mark.parametrize("after_bytes", [0, 3_000, 10_000, 1_000_000])
def test_a_push_that_is_cut(phone, own_package, after_bytes):
    phone.cut("received", after_bytes)
    failed(call(phone.adb, "push.sh", own_package), 7, "was lost")
    phone.connect()
    assert not (there(phone, own_package) / "SHA256SUMS").exists()
    assert call(phone.adb, "run.sh", own_package).returncode == 4
    sent = [file for file in there(phone, own_package).rglob("*") if file.name == "net_runner"]
    if sent:
        command = f"sh '{jail.DATA}/my package'\\''s ü/bin/net_runner'"
        assert phone.run("shell", f"cd / && {command}").returncode == 4
    again = call(phone.adb, "push.sh", own_package)
    assert again.returncode == 0, again.stderr
    assert content(there(phone, own_package)) == content(own_package)


@pytest.mark.parametrize("setsid", [True, False])
def test_a_run_that_is_cut(phone, own_package, setsid):
    """The job goes on; --attach shows all of it."""
    if not setsid:
        (phone.root / "system" / "bin" / "setsid").unlink()
    assert call(phone.adb, "push.sh", own_package).returncode == 0
    with training(phone, own_package) as running:
        phone.cut("sent", 500)
        assert running.wait() == 7
        words = running.stderr.read()
        assert "was lost" in words
        assert "--attach" in words
    phone.connect()
    assert call(phone.adb, "run.sh", own_package, "--status").stdout == "running\n"
    end_training(phone)
    done = call(phone.adb, "run.sh", own_package, "--attach")
    assert done.returncode == 0, done.stderr
    assert "\n1: Loss is 0.5\n2: Loss" in done.stdout
    assert "difference +0.8500" in done.stdout


def test_a_phone_that_is_switched_off(adb, root, own_package):
    with Phone(adb, root) as phone:
        assert call(adb, "push.sh", own_package).returncode == 0
        with training(phone, own_package) as running:
            phone.switch_off()
            assert running.wait() == 7
    with Phone(adb, root) as phone:
        done = call(adb, "run.sh", own_package, "--attach")
        assert done.returncode == 6
        assert "was cut off" in done.stderr
        end_training(phone)
        assert call(adb, "run.sh", own_package).returncode == 0


def test_a_pull_that_is_cut(phone, own_package, tmp_path):
    assert call(phone.adb, "push.sh", own_package).returncode == 0
    end_training(phone)
    assert call(phone.adb, "run.sh", own_package).returncode == 0
    phone.cut("sent", 500_000)
    failed(call(phone.adb, "pull.sh", own_package, "-o", tmp_path / "results"), 7, "was lost")
    assert not list((tmp_path / "results").rglob("*.tod"))
    phone.connect()
    assert call(phone.adb, "pull.sh", own_package, "-o", tmp_path / "results").returncode == 0
    assert len(list((tmp_path / "results").rglob("*_trained.tod"))) == 1


@pytest.mark.parametrize(("data", "words"), [("size=1m", "too little room"), ("ro", "written")])
def test_no_room(adb, root, own_package, data, words):
    with Phone(adb, root, data=data):
        failed(call(adb, "push.sh", own_package), 5, words)


def test_a_disk_that_is_full_before_it_said_so(adb, root, own_package):
    """Files fit by their bytes, but not by their number: folders and names take room as well."""
    for number in range(300):
        (own_package / "dataset" / "a class" / f"{number}.bin").write_bytes(b"x")
    seal(own_package)
    with Phone(adb, root, data="size=8m,nr_inodes=100") as phone:
        failed(call(adb, "push.sh", own_package), 5, "is full")
        assert call(adb, "run.sh", own_package).returncode == 4
        ls = phone.run("shell", f"ls {jail.DATA}/my*/INCOMPLETE")
        assert ls.returncode == 0


def test_another_architecture(phone, own_package):
    (own_package / "lib" / "TARGET").write_text("machine=riscv64\nruntime=bundled\n")
    failed(call(phone.adb, "push.sh", seal(own_package)), 5, "riscv64")
    assert not there(phone, own_package).exists()


def test_who_cannot_be_reached(adb, root, tmp_path, own_package):
    failed(call(adb, "push.sh", own_package), 7, "no device is connected")
    with Phone(adb, root) as phone:
        failed(call(adb, "push.sh", own_package, "-i", "adb:another"), 7, "not connected")
        with Phone(adb, jail.build(tmp_path / "second")) as second:
            failed(call(adb, "push.sh", own_package), 7, "several devices")
            done = call(adb, "push.sh", own_package, "-i", f"adb:{second.serial}")
            assert done.returncode == 0
            assert not there(phone, own_package).exists()
    with Phone(adb, root, "--unauthorized"):
        failed(call(adb, "push.sh", own_package), 7, "does not trust this computer")


def test_two_phones_side_by_side(adb, root, tmp_path, own_package):
    """Push, job and pull, each with its own lines, results and last line."""
    second_root = jail.build(tmp_path / "second")
    with Phone(adb, root) as phone, Phone(adb, second_root) as second:
        both = (phone, second)
        devices = [word for each in both for word in ("-i", f"adb:{each.serial}")]
        pushed = succeeded(call(adb, "push.sh", own_package, *devices))
        assert pushed.count(": done: sent ") == 2
        for each in both:
            assert content(there(each, own_package)) == content(own_package)
            end_training(each)
        ran = succeeded(call(adb, "run.sh", own_package, *devices, "--", "-c", 5))
        assert ran.count(": done: untrained 0.1000  trained 0.9500  difference +0.8500") == 2
        results = tmp_path / "results"
        succeeded(call(adb, "pull.sh", own_package, *devices, "-o", results))
        trained = "model/transfer_learning_trained.tod"
        for each in both:
            assert f"[adb:{each.serial}] == Training on this device" in ran
            pulled = results / each.serial.replace(":", "-") / trained
            assert pulled.read_bytes() == (there(each, own_package) / trained).read_bytes()


def test_a_phone_that_gives_no_exit_codes(adb, root, own_package):
    with Phone(adb, root, "--old"):
        failed(call(adb, "push.sh", own_package), 5, "too old")
