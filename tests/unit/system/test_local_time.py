"""Which time zones are known, and what the local time is said to be; held against the C library."""

import os
import subprocess
import time
import zoneinfo
from datetime import datetime
from pathlib import Path

import pytest

from package_tools.timezones import table
from tests.conftest import ROOT
from tod.system import local_time

TABLE = ROOT / "package_templates" / "lib" / "timezones"
ZONES = Path("/usr/share/zoneinfo")
RULES = [line.split()[0] for line in TABLE.read_text().splitlines()]


@pytest.fixture
def zone(monkeypatch):
    """Sets TZ for this process; what it was before comes back."""

    def set_to(name):
        monkeypatch.setenv("TZ", name)
        time.tzset()

    yield set_to
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("name", "moment", "wanted"),
    [
        ("CET-1CEST,M3.5.0,M10.5.0/3", 1_767_272_700, "14:05 CET (UTC+1)"),
        ("CET-1CEST,M3.5.0,M10.5.0/3", 1_782_907_500, "14:05 CEST (UTC+2)"),
        ("<+0330>-3:30", 0, "03:30 +0330 (UTC+3:30)"),
        ("NST3:30NDT,M3.2.0,M11.1.0", 0, "20:30 NST (UTC-3:30)"),
        ("<-02>2", 0, "22:00 -02 (UTC-2)"),
        ("<+1245>-12:45", 0, "12:45 +1245 (UTC+12:45)"),
        ("UTC", 0, "00:00 UTC (UTC+0)"),
        ("UTC+2", 0, "22:00 UTC (UTC-2)"),  # POSIX counts westward, which many forget
    ],
)
def test_the_clock_names_its_zone(zone, name, moment, wanted):
    zone(name)
    assert local_time.clock(time.localtime(moment)) == wanted


# Of each rule: whether it is one. The C library is asked the same below.
WRITTEN = {
    "CET-1CEST": True, "EST5EDT": True, "EST+5": True, "GMT0": True, "IST-2IDT,J60,J300": True,
    "AAA3BBB,59/2,299/-1": True, "<+05>-5": True, "XXX-24": True, "AAA5:30:15": True,
    "WET0WEST,M3.5.0/1,M10.5.0": True, "EET-2EEST,M3.4.4/50,M10.4.4/50": True,
    "Europe/Berln": False, "Mars/Base": False, "CETT": False, "+1": False, "CE-1": False,
    "CET-": False, "CET-1CEST,M13.5.0,M10.5.0": False, "CET-1CEST,M3.6.0,M10.5.0": False,
    "C3T-1": False, "CET 1": False, "<+05-5": False, "europe/berlin": False, "1": False,
}  # fmt: skip


@pytest.mark.parametrize(("text", "known"), WRITTEN.items())
def test_rules_and_what_is_none(tmp_path, text, known):
    for written in (text, f":{text}"):
        found = local_time.unknown_zone({"TZ": written}, tmp_path)
        assert found == (None if known else written)


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_of_the_table_is_one(tmp_path, rule):
    assert local_time.unknown_zone({"TZ": rule}, tmp_path) is None


@pytest.mark.parametrize(
    "text", [text for text, known in WRITTEN.items() if known and "0" not in text[:4]]
)
def test_the_c_library_takes_a_rule_for_one(text):
    """It is at UTC for what it does not know."""
    said = subprocess.run(["date", "+%z"], env={**os.environ, "TZ": text}, capture_output=True)
    assert said.stdout.strip() not in (b"+0000", b"")


def test_files_of_zones(tmp_path):
    folder = tmp_path / "usr/share/zoneinfo/Europe"
    folder.mkdir(parents=True)
    (folder / "Berlin").write_bytes(b"TZif2 and so on")
    (folder / "Paris").write_text("a page about Paris")
    own = tmp_path / "own"
    own.write_bytes(b"TZif3")

    def unknown(**environment):
        return local_time.unknown_zone(environment, tmp_path)

    assert unknown() is None
    for known in ("", "UTC", ":GMT", "Europe/Berlin", ":Europe/Berlin", str(own), f":{own}"):
        assert unknown(TZ=known) is None
    for name in ("Europe", "Europe/Paris", "Europe/Rome", str(folder), "a\0b", "x" * 5000):
        assert unknown(TZ=name) == name
    assert unknown(TZ="Berlin", TZDIR=str(folder)) is None
    assert unknown(TZ="Europe/Berlin", TZDIR=str(folder)) == "Europe/Berlin"


def test_androids_own_library_is_not_doubted(tmp_path, monkeypatch):
    assert local_time.unknown_zone({"TZ": "Europe/Rome"}, tmp_path) == "Europe/Rome"
    monkeypatch.setattr("tod.system.machine.libc", lambda: "bionic")
    assert local_time.unknown_zone({"TZ": "Europe/Rome"}, tmp_path) is None


def test_whether_anything_names_a_zone(tmp_path):
    assert not local_time.is_told({}, tmp_path)
    assert local_time.is_told({"TZ": "UTC"}, tmp_path)
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/localtime").symlink_to("nowhere")
    assert not local_time.is_told({}, tmp_path)
    (tmp_path / "etc/localtime").unlink()
    (tmp_path / "etc/localtime").write_bytes(b"TZif2")
    assert local_time.is_told({}, tmp_path)


def test_the_table_says_what_the_zones_say(zone):
    """For this year and the next, at every six hours; a few governments may have changed their
    minds since the one or the other was made."""
    if not (ZONES / "Europe/Berlin").is_file():
        pytest.skip(f"{ZONES} is not here: apt-get install tzdata")
    begin = int(time.time())
    moments = range(begin, begin + 2 * 365 * 86400, 6 * 3600)
    same = different = 0
    for line in TABLE.read_text().splitlines():
        rule, *names = line.split()
        zone(rule)
        by_rule = [time.localtime(moment)[:5] for moment in moments]
        for name in filter(lambda name: (ZONES / name).is_file(), names):
            info = zoneinfo.ZoneInfo(name)
            by_zone = [datetime.fromtimestamp(m, info).timetuple()[:5] for m in moments]
            same += by_zone == by_rule
            different += by_zone != by_rule
    assert same > 400
    assert different < 0.05 * same


def test_the_table_is_made_of_the_last_lines_of_zones(tmp_path):
    for name, data in {
        "Europe/Berlin": b"TZif2...\n\nCET-1CEST,M3.5.0,M10.5.0/3\n", "Zulu": b"TZif3\0\nUTC0\n",
        "Europe/Paris": b"TZif2..\nCET-1CEST,M3.5.0,M10.5.0/3\n", "old": b"TZif\0\0\nUTC0\n",
        "zone.tab": b"# a list\n", "posix/Zulu": b"TZif3\0\nUTC0\n", "no": b"TZif2\n\n",
    }.items():  # fmt: skip
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    rule = "CET-1CEST,M3.5.0,M10.5.0/3"
    assert table(tmp_path) == f"{rule} Europe/Berlin Europe/Paris\nUTC0 Zulu\n"
