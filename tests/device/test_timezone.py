"""A package goes by the time zone of the device that it lies on, also where there are no zones."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT, run
from tests.support import jail

BERLIN = "CET-1CEST,M3.5.0,M10.5.0/3"
PLACE = f"{jail.DATA}/package"


def needs_jail():
    if reason := jail.missing():
        pytest.skip(reason)


def program(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"#!/system/bin/sh\n{text}\n")
    file.chmod(0o755)


@pytest.fixture
def phone(tmp_path) -> Path:
    """What a package's launchers see of a phone; its Python says what TZ is."""
    needs_jail()
    root = jail.build(tmp_path / "root")
    shutil.copytree(ROOT / "package_templates", root / PLACE)
    program(root / "system/bin/python3", 'echo "${TZ-none}"')
    return root


def launched(root: Path, before: str = "") -> str:
    command = f"{before} exec sh /{PLACE}/bin/net_runner -c 1"
    done = subprocess.run(jail.shell(root, command), capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.removesuffix("\n")


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ("Europe/Berlin", BERLIN), ("Asia/Kolkata", "IST-5:30"), ("UTC", "UTC0"),
        ("America/Argentina/Buenos_Aires", "<-03>3"), ("Etc/GMT+3", "<-03>3"), ("GMT", "GMT0"),
        ("GMT+01:00", "LOCAL-01:00"), ("GMT-03:30", "LOCAL+03:30"), ("", "none"),
        # What nobody knows is not UTC without a word: --between refuses it.
        ("Europe/Nowhere", "Europe/Nowhere"), ("Europe", "Europe"), ("*", "*"), ("#", "#"),
    ],
)  # fmt: skip
def test_the_zone_of_a_phone(phone, said, wanted):
    program(phone / "system/bin/getprop", f"[ \"$1\" != persist.sys.timezone ] || echo '{said}'")
    assert launched(phone) == wanted


def test_who_says_more_is_heard_first(phone):
    """TZ, then /etc/localtime, which the C library reads itself, getprop and /etc/timezone."""
    assert launched(phone) == "none"
    (phone / "etc").mkdir()
    (phone / "etc/timezone").write_text("Asia/Tokyo\n")
    assert launched(phone) == "JST-9"
    program(phone / "system/bin/getprop", "echo Europe/Paris")
    assert launched(phone) == BERLIN
    (phone / "etc/localtime").write_bytes(b"TZif2")
    assert launched(phone) == "none"
    assert launched(phone, "TZ=Asia/Seoul") == "KST-9"
    assert launched(phone, "TZ=") == ""
    for given in ("XYZ-3", "/etc/localtime", "Moon/Base"):
        assert launched(phone, f"TZ={given}") == given
        assert launched(phone, f"TZ=:{given}") == given


def test_zones_of_the_device_are_newer_than_the_table(phone):
    zone = phone / "usr/share/zoneinfo/Europe/Berlin"
    zone.parent.mkdir(parents=True)
    zone.write_bytes(b"TZif2")
    assert launched(phone, "TZ=Europe/Berlin") == "Europe/Berlin"
    assert launched(phone, "TZ=Europe/Rome") == BERLIN
    shutil.move(phone / "usr/share/zoneinfo", phone / "zones")
    assert launched(phone, "TZDIR=/zones TZ=Europe/Berlin") == "Europe/Berlin"


def test_a_whole_package_on_a_phone_says_its_local_time(package, tmp_path):
    """With its own Python and C library, which finds no zone there."""
    needs_jail()
    root = jail.build(tmp_path / "root")
    shutil.copytree(package, root / PLACE, symlinks=True, copy_function=os.link)
    for path in (root / PLACE, *(root / PLACE).rglob("*")):
        if path.is_dir() and os.geteuid() == 0:
            shutil.chown(path, jail.SHELL_ID, jail.SHELL_ID)

    def told(before: str = "", between: str = "00:00-23:59") -> tuple[int, str]:
        command = f"{before} exec sh /{PLACE}/eval_untrained.sh --no-cache --between {between}"
        command += " --no-wait"
        done = subprocess.run(jail.shell(root, command), capture_output=True, text=True)
        return done.returncode, done.stderr

    code, text = told()
    assert re.search(r"local time is \d\d:\d\d UTC \(UTC\+0\); nothing here names a time", text)
    program(root / "system/bin/getprop", "echo Asia/Kolkata")
    code, text = told()
    assert code in (0, 8), text  # 8 in the one minute that is not in it
    here = subprocess.run(
        ["date", "+%H:%M"], env={**os.environ, "TZ": "IST-5:30"}, capture_output=True, text=True
    )
    found = re.search(r"local time is (\d\d):(\d\d) IST \(UTC\+5:30\)$", text, re.M)
    minutes = 60 * int(found[1]) + int(found[2])
    hour, minute = map(int, here.stdout.split(":"))
    assert (60 * hour + minute - minutes) % 1440 <= 2
    code, text = told("TZ=Moon/Base")
    assert code == 2
    assert "error: --between goes by the local time, but TZ is 'Moon/Base'" in text
    # It works by that time, and not by the one of before, which was UTC's.
    begin, end = (f"{(minutes + shift) // 60 % 24:02d}:00" for shift in (-60, 120))
    assert told(between=f"{begin}-{end}")[0] == 0
    code, text = told("TZ=UTC", between=f"{begin}-{end}")
    assert code == 8, text
    assert "local time is" in text


def test_the_table_takes_little_room_and_is_in_every_package(package):
    file = package / "lib" / "timezones"
    assert file.read_bytes() == (ROOT / "package_templates/lib/timezones").read_bytes()
    assert file.stat().st_size < 12_000


@pytest.mark.parametrize("wrong", ["Mars/Base", "Europe/Berln", "CET-1CEST,M13.1.0,M10.5.0", ":x"])
def test_an_unknown_zone_is_refused_where_the_time_of_day_matters(tiny, pictures, wrong):
    environment = {**os.environ, "TZ": wrong}
    command = ["net_runner", "-f", tiny, "-d", pictures]
    done = run(*command, "--between", "00:00-23:59", env=environment)
    assert done.returncode == 2
    assert f"error: --between goes by the local time, but TZ is {wrong!r}" in done.stderr
    assert "hint: let TZ name one of /usr/share/zoneinfo" in done.stderr
    done = run(*command, "-c", 1, "--between", "00:00-23:59", env=environment)
    assert done.returncode == 2
    assert run(*command, "--max-minutes", 5, env=environment).returncode == 0
