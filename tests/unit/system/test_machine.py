"""What a machine says of itself, read from trees that are laid out like /proc and /sys."""

import os
import platform
from pathlib import Path

import numpy as np
import pytest

from tod.system import machine

EPYC = """processor\t: {n}
vendor_id\t: AuthenticAMD
cpu family\t: 25
model\t\t: 17
model name\t: AMD EPYC
stepping\t: 1
cpu MHz\t\t: 2596.152
"""
ARM = """processor\t: {n}
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm crc32 cpuid
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: {part}
CPU revision\t: 3
"""
KIND = "implementer 0x41, part {}, variant 0x0, revision 3"


def tree(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("files", "wanted"),
    [
        (
            {"proc/cpuinfo": EPYC.format(n=0) + "\n" + EPYC.format(n=1) + "\n"},
            "AMD EPYC, family 25, model 17, stepping 1",
        ),
        (
            {
                "proc/cpuinfo": "\n".join(ARM.format(n=n, part="0xd08") for n in range(4))
                + "\nRevision\t: c03111\nModel\t\t: Raspberry Pi 4 Model B Rev 1.1\n",
                "proc/device-tree/model": "Raspberry Pi 4 Model B Rev 1.1\0",
            },
            f"Raspberry Pi 4 Model B Rev 1.1, {KIND.format('0xd08')}",
        ),
        (
            {"proc/cpuinfo": ARM.format(n=0, part="0xd05") + "\n" + ARM.format(n=1, part="0xd0b")},
            f"{KIND.format('0xd05')} + {KIND.format('0xd0b')}",
        ),
    ],
    ids=["x86-64", "Raspberry Pi", "big and little cores"],
)
def test_processor(tmp_path, files, wanted):
    assert machine.processor(tree(tmp_path, files)) == f"{wanted} ({platform.machine()})"


def test_a_machine_without_any_of_it(tmp_path):
    assert machine.processor(tmp_path).endswith(f"({platform.machine()})")
    assert machine.governor(tmp_path) is None
    assert machine.temperature_celsius(tmp_path) is None


def test_governors_of_all_cores(tmp_path):
    place = "sys/devices/system/cpu/cpu{}/cpufreq/scaling_governor"
    tree(tmp_path, {place.format(0): "schedutil\n", place.format(1): "schedutil\n"})
    assert machine.governor(tmp_path) == "schedutil"
    tree(tmp_path, {place.format(4): "performance\n"})
    assert machine.governor(tmp_path) == "performance, schedutil"


def test_the_hottest_sensor_that_can_be_meant(tmp_path):
    place = "sys/class/thermal/thermal_zone{}/temp"
    texts = ["41500\n", "63250\n", "0\n", "-274000\n", "2147483647\n", "broken\n"]
    tree(tmp_path, {place.format(i): text for i, text in enumerate(texts)})
    assert machine.temperature_celsius(tmp_path) == 63.25


def test_a_sensor_that_fails_is_passed_over(tmp_path):
    """Some drivers answer with an error; a folder in the file's place does so too."""
    tree(tmp_path, {"sys/class/thermal/thermal_zone0/temp": "50000\n"})
    (tmp_path / "sys/class/thermal/thermal_zone1/temp").mkdir(parents=True)
    assert machine.temperature_celsius(tmp_path) == 50


AC = {"AC": {"type": "Mains", "online": "1"}}
NO_AC = {"AC": {"type": "Mains", "online": "0"}}
MOUSE = {"hid": {"type": "Battery", "scope": "Device", "status": "Discharging", "capacity": "9"}}


def battery(status, capacity="80", **more):
    return {"type": "Battery", "status": status, "capacity": capacity, **more}


@pytest.mark.parametrize(
    ("supplies", "online", "percent"),
    [
        ({}, None, None),
        (AC, True, None),
        (NO_AC, False, None),
        (AC | {"BAT0": battery("Not charging")}, True, 80),
        (AC | {"BAT0": battery("Discharging")}, True, 80),  # a charger that is too weak
        (NO_AC | {"BAT0": battery("Full", "100")}, False, 100),
        ({"BAT0": battery("Discharging", "41")}, False, 41),
        ({"BAT0": battery("Charging")}, True, 80),
        ({"BAT0": battery("Full", "103")}, True, 100),
        ({"BAT0": battery("Not charging")}, True, 80),
        ({"BAT0": battery("Unknown", "")}, None, None),
        ({"BAT0": battery("Unknown", present="0")}, None, None),
        ({"BAT0": battery("Discharging", "10"), "BAT1": battery("Unknown", "90")}, False, 50),
        ({"usb": {"type": "USB", "online": "0"}, "bms": battery("Discharging")}, False, 80),
        ({"usb": {"type": "USB", "online": "1"}, "bms": battery("Not charging")}, True, 80),
        ({"pad": {"type": "Wireless", "online": "1"}, "bms": battery("Unknown")}, True, 80),
        ({"ucsi": {"type": "USB", "online": "0"}}, None, None),  # a desktop's port
        (MOUSE, None, None),
        (AC | MOUSE, True, None),
        ({"UPS": {"type": "UPS", "status": "Discharging", "capacity": "55"}}, False, 55),
    ],
    ids=str,
)
def test_power(tmp_path, supplies, online, percent):
    files = {
        f"sys/class/power_supply/{name}/{key}": f"{value}\n"
        for name, supply in supplies.items()
        for key, value in supply.items()
    }
    assert machine.mains_online(tree(tmp_path, files)) is online
    assert machine.battery_percent(tmp_path) == percent


def test_memory_and_its_limits(tmp_path):
    assert machine.memory_mb(tmp_path) is None
    assert machine.memory_limit_mb(tmp_path) is None
    assert machine.cores_limit(tmp_path) is None
    meminfo = "MemTotal:  4000000 kB\nMemFree:  9 kB\nMemAvailable:  1000000 kB\n"
    group = "sys/fs/cgroup"
    files = {
        "proc/meminfo": meminfo,
        "proc/self/cgroup": "0::/system.slice/tod.service\n",
        f"{group}/memory.max": "max\n",
        f"{group}/cpu.max": "max 100000\n",
        f"{group}/system.slice/memory.max": "2000000000\n",
        f"{group}/system.slice/cpu.max": "150000 100000\n",
        f"{group}/system.slice/tod.service/memory.max": "3000000000\n",
    }
    tree(tmp_path, files)
    assert machine.memory_mb(tmp_path) == (4096, 1024)
    assert machine.memory_limit_mb(tmp_path) == 2000
    assert machine.cores_limit(tmp_path) == 1.5
    # A container that does not see its place; version 1, where no limit is a huge number.
    old = {
        "proc/self/cgroup": "5:memory:/docker/1\n",
        f"{group}/memory/memory.limit_in_bytes": "9223372036854771712\n",
        f"{group}/cpu/cpu.cfs_quota_us": "50000\n",
        f"{group}/cpu/cpu.cfs_period_us": "100000\n",
    }
    assert machine.memory_limit_mb(tree(tmp_path / "old", old)) is None
    assert machine.cores_limit(tmp_path / "old") == 0.5
    tree(tmp_path / "old", {f"{group}/cpu/cpu.cfs_quota_us": "-1\n"})
    assert machine.cores_limit(tmp_path / "old") is None


GROUP = "sys/fs/cgroup"


@pytest.mark.parametrize(
    ("groups", "files", "cores", "limit"),
    [
        ("", {}, 8, None),
        ("0::/\n", {"cpu.max": "max 100000\n"}, 8, None),
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 2, 1.5),
        ("0::/\n", {"cpu.max": "5000 100000\n"}, 1, 0.05),
        ("0::/\n", {"cpu.max": "1600000 100000\n"}, 8, 16),
        ("0::/\n", {"cpu.max": "300000 100000\n"}, 3, 3),
        ("0::/\n", {"cpu.max": "broken\n"}, 8, None),
        # The least of a group and those above it counts.
        ("0::/user.slice/run.scope\n", {"user.slice/cpu.max": "250000 100000\n",
         "user.slice/run.scope/cpu.max": "max 100000\n"}, 3, 2.5),
        ("0::/a/b\n", {"a/cpu.max": "400000 100000", "a/b/cpu.max": "200000 100000"}, 2, 2),
        ("0::/a\n", {"b/cpu.max": "100000 100000"}, 8, None),  # another's
        ("0::/../../elsewhere\n", {"cpu.max": "200000 100000"}, 2, 2),
        # Version 1: its own folder, of a controller that shares it, under either name.
        ("3:cpu:/docker/1\n", {"cpu/docker/1/cpu.cfs_quota_us": "120000\n",
         "cpu/docker/1/cpu.cfs_period_us": "50000\n"}, 3, 2.4),
        ("3:cpu,cpuacct:/docker/1\n", {"cpu,cpuacct/docker/1/cpu.cfs_quota_us": "40000\n",
         "cpu,cpuacct/docker/1/cpu.cfs_period_us": "100000\n"}, 1, 0.4),
        ("3:cpuacct,cpu:/x\n", {"cpu/x/cpu.cfs_quota_us": "200000",
         "cpu/x/cpu.cfs_period_us": "100000"}, 2, 2),
        ("3:cpuacct:/x\n2:cpuset:/y\n", {"cpu/x/cpu.cfs_quota_us": "100000",
         "cpu/x/cpu.cfs_period_us": "100000"}, 8, None),
        ("3:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1\n",
         "cpu/cpu.cfs_period_us": "100000\n"}, 8, None),
        # Inside, a container sees its group as the root, and its place by the outer name.
        ("3:cpu:/docker/1\n", {"cpu/cpu.cfs_quota_us": "200000\n",
         "cpu/cpu.cfs_period_us": "100000\n"}, 2, 2),
        ("3:memory:/x\n0::/t:1\n", {"unified/t:1/cpu.max": "100000 100000"}, 1, 1),  # both
    ],
    ids=str,
)  # fmt: skip
def test_threads_follow_the_time_that_a_container_gets(
    tmp_path, monkeypatch, groups, files, cores, limit
):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)), raising=False)
    tree(tmp_path, {f"{GROUP}/{name}": text for name, text in files.items()})
    tree(tmp_path, {"proc/self/cgroup": groups})
    assert machine.cores_limit(tmp_path) == limit
    assert machine.available_cores(tmp_path) == cores
    assert machine.usable_cores() == 8


def test_few_cores_are_less_than_much_time(tmp_path, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {5}, raising=False)
    assert machine.available_cores(tree(tmp_path, {f"{GROUP}/cpu.max": "400000 100000"})) == 1
    monkeypatch.delattr("os.sched_getaffinity", raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: None)
    assert machine.available_cores(tmp_path) == 1


def test_memory_of_a_nested_group_of_version_1(tmp_path):
    files = {
        "proc/self/cgroup": "4:memory:/api/1\n0::/\n",
        f"{GROUP}/memory/memory.limit_in_bytes": "9223372036854771712\n",
        f"{GROUP}/memory/api/1/memory.limit_in_bytes": "750000000\n",
    }
    assert machine.memory_limit_mb(tree(tmp_path, files)) == 750


def test_the_c_library(tmp_path):
    assert machine.libc(tmp_path) == machine.libc() or machine.libc() == "musl"
    assert machine.libc().split()[0] in ("glibc", "musl", "bionic", "unknown")


def test_peak_memory_grows_with_what_is_held(tmp_path):
    status = tree(tmp_path, {"proc/self/status": "VmPeak:\t 9 kB\nVmHWM:\t  250000 kB\n"})
    assert machine.peak_memory_mb(status) == 256
    before = machine.peak_memory_mb()
    held = np.ones(int(before * 1e6) // 8 + (32 << 20))  # more than the peak so far
    assert machine.peak_memory_mb() >= held.nbytes / 1e6
    if os.name == "posix":
        # Without /proc the system call is asked: the same number.
        other = machine.peak_memory_mb(tmp_path / "nothing")
        assert other == pytest.approx(machine.peak_memory_mb(), rel=0.05)


def test_no_hint_leads_to_another_project_of_the_same_name():
    """`tod` is taken in the package index: what is installed comes from this source."""
    root = Path(__file__).resolve().parents[3]
    texts = [*root.glob("tod/**/*.py"), *root.glob("docs/*.md"), root / "README.md"]
    assert [file.name for file in texts if "install 'tod[" in file.read_text()] == []
    assert machine.install("heif").endswith("pip install -c constraints.txt '.[heif]'")
