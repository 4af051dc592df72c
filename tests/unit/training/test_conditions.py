"""A run works when it suits, waits or ends when it does not, and nothing else changes by it."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

import tod
from tests.conftest import run
from tod.cli.app import app
from tod.cli.net_runner import app as net_runner_app
from tod.errors import Interrupted, NotNow, UsageError
from tod.format.artifact import read
from tod.training.checkpoints import newest
from tod.training.conditions import COOLER_CELSIUS, Conditions, Reading, Window, absent, why_not
from tod.training.evaluation import evaluate
from tod.training.loop import train
from tod.training.records import CycleDone, FeaturesDone, Notice, Paused, Resumed, Saved, Stopped
from tod.training.watch import Watch

MINUTES = st.integers(0, 1439)
FINE = Reading(True, 80, 40, 500, 60 * 12, 0)


def never():
    return False


def plug(root: Path, online: bool, battery: int = 80) -> Path:
    """A tree like /sys, of a device with a charger and a battery."""
    for name, text in {
        "ac/type": "Mains", "ac/online": str(int(online)),
        "battery/type": "Battery", "battery/capacity": str(battery),
        "battery/status": "Charging" if online else "Discharging",
    }.items():  # fmt: skip
        file = root / "sys/class/power_supply" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")
    return root


def of(records, kind):
    return [record for record in records if isinstance(record, kind)]


@given(start=MINUTES, end=MINUTES, minute=MINUTES)
def test_a_window_and_its_reverse_share_out_the_day(start, end, minute):
    if start == end:
        with pytest.raises(UsageError, match="two different times"):
            Window(start, end)
        return
    window = Window(start, end)
    assert window.holds(minute) != Window(end, start).holds(minute)
    assert window.holds(minute) == ((minute - start) % 1440 < (end - start) % 1440)
    assert Window.parse(str(window)) == window


@pytest.mark.parametrize("text", ["22:00", "22-06", "24:00-06:00", "22:60-06:00", "6:00-6:00", ""])
def test_no_window(text):
    with pytest.raises(UsageError, match="between is"):
        Window.parse(text)


@pytest.mark.parametrize(
    ("conditions", "change", "reason", "text"),
    [
        ({"only_on_power": True}, {"on_power": False}, "power", "not connected to power"),
        ({"only_on_power": True}, {"on_power": None}, None, ""),
        ({"min_battery_percent": 80}, {}, None, ""),
        ({"min_battery_percent": 50}, {"battery_percent": 49.0}, "battery", "is at 49 %"),
        ({"min_battery_percent": 50}, {"battery_percent": None}, None, ""),
        ({"max_temperature_celsius": 40}, {}, None, ""),
        ({"max_temperature_celsius": 60}, {"temperature_celsius": 60.5}, "temperature", "60.5 C"),
        ({"max_temperature_celsius": 60}, {"temperature_celsius": None}, None, ""),
        ({"between": Window.parse("22:00-06:00")}, {}, "hour", "it is 12:00, 22:00-06:00"),
        ({"between": Window.parse("22:00-06:00")}, {"minute": 5 * 60 + 59}, None, ""),
        ({"max_minutes": 2}, {"worked_s": 119.9}, None, ""),
        ({"max_minutes": 2}, {"worked_s": 120.0}, "time", "2 minutes are used up"),
        ({"max_memory_mb": 500}, {}, None, ""),
        ({"max_memory_mb": 499}, {}, "memory", "it holds 500 MB of memory, at most 499 MB"),
    ],
)
def test_why_not(conditions, change, reason, text):
    obstacle = why_not(Conditions(**conditions), replace(FINE, **change))
    assert (obstacle and obstacle.reason) == reason
    assert text in (obstacle.text if obstacle else "")
    if obstacle:
        assert (obstacle.until is None) == (reason in ("time", "memory"))


@given(st.lists(st.floats(55.1, 64.9), min_size=1))
def test_a_temperature_around_the_limit_does_not_flutter(series):
    """Within 5 C below the limit a run that waits goes on waiting: it stops once at most."""
    conditions, waiting, pauses = Conditions(max_temperature_celsius=60), None, 0
    for celsius in series:
        found = why_not(conditions, replace(FINE, temperature_celsius=celsius), waiting)
        pauses += found is not None and waiting is None
        waiting = found.reason if found else None
    assert pauses == (max(series) > 60)
    cool = replace(FINE, temperature_celsius=60 - COOLER_CELSIUS)
    assert why_not(conditions, cool, "temperature") is None


def test_a_battery_has_to_fill_up_a_little():
    conditions = Conditions(min_battery_percent=50)
    for percent, goes_on in ((50, False), (54, False), (55, True)):
        now = replace(FINE, battery_percent=percent)
        assert (why_not(conditions, now, "battery") is None) == goes_on
    full = replace(FINE, battery_percent=100)
    assert why_not(Conditions(min_battery_percent=99), full, "battery") is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"min_battery_percent": 0}, {"min_battery_percent": 101}, {"max_minutes": 0},
        {"max_temperature_celsius": float("nan")}, {"max_memory_mb": -1},
    ],
)  # fmt: skip
def test_limits_that_cannot_be_meant(wrong):
    with pytest.raises(UsageError, match="is wanted"):
        Conditions(**wrong)


def test_absent_sensors_and_a_clock_that_was_not_set_are_said_once(tmp_path):
    conditions = Conditions(
        only_on_power=True, min_battery_percent=5, max_temperature_celsius=60, max_memory_mb=9999,
        between=Window(0, 1439), sensors=tmp_path,
    )  # fmt: skip
    watch = Watch(conditions, local_time=lambda: time.gmtime(0))
    texts = [notice.text for notice in watch.pause(tuple, never)]
    for option in ("only-on-power", "min-battery", "max-temperature", "between"):
        assert sum(f"--{option} " in text for text in texts) == 1, texts
    assert "it says 1970" in texts[-1]
    assert texts[-2].startswith("local time is 00:00 ")
    assert sum("local time" in text for text in texts) == 1
    assert list(watch.pause(tuple, never)) == []
    assert absent(conditions, FINE) == []
    (text,) = absent(conditions, replace(FINE, memory_mb=None))
    assert "--max-memory cannot be kept" in text


class Clock:
    """A clock that a test turns; sleeping is all that takes time."""

    def __init__(self):
        self.now = 0.0
        self.looks = 0

    def watch(self, conditions):
        return Watch(
            conditions, monotonic=lambda: self.now, local_time=self.local, sleep=self.sleep
        )

    def local(self):
        self.looks += 1
        return time.gmtime(1.7e9 + self.now)  # 22:13:20

    def sleep(self, seconds):
        self.now += seconds


def test_the_sensors_are_read_once_a_second(tmp_path):
    """Ten seconds of cycles of a millisecond."""
    clock = Clock()
    watch = clock.watch(Conditions(only_on_power=True, sensors=plug(tmp_path, True)))
    for _ in range(10_000):
        assert list(watch.pause(tuple, never)) == []
        clock.now += 0.001
    assert clock.looks <= 13


def test_waiting_for_the_hour_uses_no_time(tmp_path):
    """Three quarters of an hour until the window opens, with ten minutes to use."""
    clock = Clock()
    watch = clock.watch(Conditions(between=Window.parse("23:00-01:00"), max_minutes=10))
    zone, paused, resumed = watch.pause(tuple, never)
    assert zone.text.startswith("local time is 22:13 ")
    assert zone.text.split("; ")[0].endswith(" (UTC+0)")
    assert paused == Paused(
        "hour", "it is 22:13, 23:00-01:00 is wanted (--between); it waits for 23:00"
    )
    assert 46 * 60 < resumed.waited_seconds < 47 * 60
    clock.now += 9.9 * 60
    assert list(watch.pause(tuple, never)) == []
    clock.now += 0.2 * 60
    with pytest.raises(StopIteration) as end:
        next(watch.pause(tuple, never))
    assert end.value.value.reason == "time"


def test_the_zone_is_said_only_where_the_time_of_day_matters(tmp_path, monkeypatch):
    said = list(Clock().watch(Conditions(max_minutes=5, sensors=tmp_path)).pause(tuple, never))
    assert said == []
    monkeypatch.setattr("tod.system.local_time.is_told", lambda: False)
    (zone,) = Clock().watch(Conditions(between="22:00-23:00")).pause(tuple, never)
    assert zone.text.endswith("; nothing here names a time zone: set TZ")


def test_an_unknown_zone_is_refused_at_once(tiny, pictures, monkeypatch):
    monkeypatch.setenv("TZ", "Mars/Base")
    session, data = tod.TrainSession.load(tiny), tod.Dataset.open(pictures)
    with pytest.raises(UsageError, match="between goes by the local time, but TZ is 'Mars/Base'"):
        tod.train(session, data, conditions=Conditions(between="22:00-06:00"))
    tod.train(session, data, cycles=1, conditions=Conditions(max_minutes=5)).run()


def test_another_reason_to_wait_is_said_too(tmp_path):
    clock = Clock()
    plug(tmp_path, False, battery=20)
    watch = clock.watch(Conditions(only_on_power=True, min_battery_percent=50, sensors=tmp_path))
    said = watch.pause(lambda: [Notice("saved")], never)
    assert next(said) == Notice("saved")
    assert next(said).reason == "power"
    plug(tmp_path, True, battery=20)
    assert next(said).reason == "battery"
    plug(tmp_path, True, battery=54)
    clock.now += 100
    plug(tmp_path, True, battery=55)
    assert isinstance(next(said), Resumed)
    assert list(said) == []


def test_a_stop_request_ends_the_waiting(tmp_path):
    clock = Clock()
    watch = clock.watch(Conditions(only_on_power=True, sensors=plug(tmp_path, False)))
    (paused,) = watch.pause(tuple, lambda: clock.now > 100)
    assert paused.reason == "power"
    assert 100 < clock.now < 101


def reasons(*when):
    """A condition that is asked again and again, and not met at some of the times."""
    asked = iter(range(10_000))
    return lambda: "the kettle is on" if next(asked) in when else None


@pytest.mark.promise(
    "A run that pauses ends in the bytes of one that does not",
    "pauses at random moments of looking at pictures and of training",
)
def test_a_paused_run_ends_in_the_same_bytes(trials, tiny, pictures):
    settings = {"cycles": 12, "eval_every": 4, "target_accuracy": 1}

    def whole(name, conditions=None):
        output = tiny.with_name(name)
        session = tod.TrainSession.load(tiny, cache=False)
        data = tod.Dataset.open(pictures, cache=False)
        records = list(train(session, data, output=output, conditions=conditions, **settings))
        return output.read_bytes(), records

    wanted, plain = whole("plain.tod")
    for seed in trials(2, soak=300):
        moments = {seed % 31, 32 + (7 * seed) % 11}  # while it waits it is asked once more
        found, records = whole("paused.tod", reasons(*moments))
        assert found == wanted
        assert len(of(records, Paused)) == len(of(records, Resumed)) == 2
        assert of(records, Paused)[0] == Paused(
            "other", "the kettle is on; it waits until that is over"
        )
        first = records.index(of(records, Saved)[0])
        assert isinstance(records[first + 1], Paused)
        kinds = (Paused, Resumed, Saved)
        assert [r for r in records if not isinstance(r, kinds)] == [
            r for r in plain if not isinstance(r, kinds)
        ]


def test_without_waiting_it_ends_with_a_checkpoint_and_goes_on_from_it(tiny, pictures, tmp_path):
    """The plug is pulled while it trains."""
    sensors = plug(tmp_path / "root", True)
    conditions = Conditions(only_on_power=True, wait=False, sensors=sensors)
    session, data = tod.TrainSession.load(tiny), tod.Dataset.open(pictures)
    output = tiny.with_name("out.tod")
    settings = {"cycles": 10**6, "eval_every": 0, "output": output, "conditions": conditions}
    records = train(session, data, **settings)
    assert any(isinstance(record, CycleDone) and record.cycle == 3 for record in records)
    plug(sensors, False)
    with pytest.raises(NotNow, match="not connected to power") as ended:
        list(records)
    assert "--resume goes on" in ended.value.hint
    checkpoint, _ = newest(tiny, output)
    cycle = read(checkpoint).manifest.run.cycle
    assert f"after cycle {cycle} of 1000000 in {checkpoint}" in ended.value.problem
    again = tod.TrainSession.load(checkpoint)
    with pytest.raises(NotNow, match="before the first picture"):
        list(train(again, data, **settings))
    plug(sensors, True)
    records = train(again, data, **settings | {"cycles": cycle + 2})
    assert [r.cycle for r in of(records, CycleDone)] == [cycle + 1, cycle + 2]


def test_used_up_time_ends_like_a_finished_run(tiny, pictures):
    session, data = tod.TrainSession.load(tiny), tod.Dataset.open(pictures)
    output = tiny.with_name("out.tod")
    settings = {"cycles": 10**6, "target_accuracy": 1, "output": output}
    list(evaluate(session, data))  # the time is for training
    records = list(train(session, data, conditions=Conditions(max_minutes=0.02), **settings))
    (stopped,) = of(records, Stopped)
    assert stopped.reason == "time"
    assert 0 < stopped.cycle < 10**6
    assert [saved.kind for saved in of(records, Saved)] == ["checkpoint", "model"]
    last = read(output).manifest.history[-1]
    assert (last.stopped, last.cycles, last.validation_accuracy) == ("time", stopped.cycle, 1.0)
    checkpoint, _ = newest(tiny, output)
    again = train(tod.TrainSession.load(checkpoint), data, **settings)
    assert next(r for r in again if isinstance(r, CycleDone)).cycle == stopped.cycle + 1
    again.close()


@pytest.mark.parametrize(
    ("conditions", "text", "hint"),
    [
        ({"max_minutes": 1e-9}, "minutes are used up", "give it more time"),
        ({"max_memory_mb": 1}, "at most 1 MB", "fewer --threads"),
    ],
)
def test_what_waiting_does_not_bring_back_ends_at_once(tiny, pictures, conditions, text, hint):
    session, data = tod.TrainSession.load(tiny), tod.Dataset.open(pictures)
    for task in (train, evaluate):
        with pytest.raises(NotNow, match=text) as ended:
            list(task(session, data, conditions=Conditions(**conditions)))
        assert ended.value.hint.startswith(hint)


@pytest.mark.parametrize("saved", [True, False])
def test_memory_that_grows_in_training_ends_it_with_what_helps(tiny, pictures, monkeypatch, saved):
    session = tod.TrainSession.load(tiny)

    def held_mb():
        return 1e6 if session.state.run and session.run.cycle == 3 else 1.0

    monkeypatch.setattr("tod.training.watch._LOOK_S", 0)
    monkeypatch.setattr("tod.system.machine.resident_memory_mb", held_mb)
    run = train(
        session, tod.Dataset.open(pictures), cycles=9, conditions=Conditions(max_memory_mb=500),
        target_accuracy=1, output=tiny.with_name("out.tod") if saved else None,
    )  # fmt: skip
    with pytest.raises(NotNow, match="after cycle 3 of 9") as ended:
        list(run)
    assert ended.value.hint.startswith("fewer --threads need less memory")
    assert ended.value.hint.endswith("--resume goes on") is saved


def test_a_stop_request_while_pictures_wait(tiny, pictures):
    session = tod.TrainSession.load(tiny, cache=False)
    data = tod.Dataset.open(pictures, cache=False)
    asked = reasons(*range(5, 10_000))
    records = []
    stop = {"should_stop": lambda: bool(of(records, Paused))}
    with pytest.raises(Interrupted, match="after looking at 10 of 12 pictures"):
        records.extend(evaluate(session, data, conditions=asked, **stop))
    assert isinstance(records[-1], Paused)
    assert of(records, FeaturesDone)


def test_mistakes_are_named_as_their_user_wrote_them(tiny, pictures, call):
    for keyword, option, value in (
        ("between", "--between", "22"),
        ("min_battery_percent", "--min-battery", 200.0),
        ("max_minutes", "--max-minutes", -1.0),
    ):
        with pytest.raises(UsageError, match=f"^{keyword} is "):
            Conditions(**{keyword: value})
        done = call("net_runner", "-f", tiny, "-d", pictures, option, value, cwd=tiny.parent)
        assert done.returncode == 2
        assert f"{option} is " in done.stderr


def test_tod_eval_waits_and_ends_by_the_same_options(tiny, pictures, tmp_path):
    environment = {**os.environ, "TOD_SENSORS_ROOT": str(plug(tmp_path / "root", False))}
    arguments = ["-f", tiny, "-d", pictures, "--no-wait", "--nice"]
    for program in (["tod", "eval"], ["net_runner"]):
        done = run(*program, *arguments, "--only-on-power", env=environment)
        assert done.returncode == 8, done.stderr
        assert "error: stopped before the first picture: the device is not connected" in done.stderr
    met = ["--min-battery", 5, "--max-memory", 9000, "--max-minutes", 60]
    assert run("tod", "eval", *arguments, *met, env=environment).returncode == 0
    limited = run("tod", "eval", *arguments, "--max-memory", 1, env=environment)
    assert limited.returncode == 8, limited.stderr  # its memory is read, wherever sensors are
    options = {p.name for p in typer.main.get_command(app).commands["eval"].params}
    assert options < {p.name for p in typer.main.get_command(net_runner_app).params}


def test_the_command_waits_for_power_and_can_be_stopped(tiny, pictures, tmp_path):
    """Unplugged when it starts, plugged in, unplugged, and SIGTERM while it waits."""
    sensors = plug(tmp_path / "root", False)
    environment = {**os.environ, "TOD_SENSORS_ROOT": str(sensors)}
    arguments = ["-f", tiny, "-d", pictures, "-c", "1000000", "--target-accuracy", "1", "--json"]
    done = run("net_runner", *arguments, "--only-on-power", "--no-wait", env=environment)
    assert done.returncode == 8, done.stderr
    assert "error: stopped before the first picture: the device is not connected" in done.stderr
    assert "hint: the same command goes on from there" in done.stderr
    process = subprocess.Popen(
        [Path(sys.executable).with_name("net_runner"), *arguments, "--only-on-power", "--nice"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip
    seen = []
    for line in process.stdout:
        record = json.loads(line)
        kind = record["record"]
        if kind == "cycle_done" and record["cycle"] == 10:
            plug(sensors, False)
        elif kind == "paused" and "resumed" not in seen:
            assert os.getpriority(os.PRIO_PROCESS, process.pid) == min(19, os.nice(0) + 10)
            plug(sensors, True)
        elif kind == "paused":
            assert seen[-1] == "saved"
            process.send_signal(signal.SIGTERM)
        seen.append(kind)
    errors = process.communicate(timeout=60)[1]
    assert process.returncode == 130, errors
    assert seen.index("paused") < seen.index("resumed") < seen.index("cycle_done")
    assert "hint: the same command with --resume goes on" in errors
