"""Check whether a run may work now: power, battery, temperature, time of day, time used, memory.

`Conditions` says what is required, `Reading` what was measured, `Obstacle` why a run may not work.
`tod.training.watch` does the waiting.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from tod.system import machine
from tod.system.settings import check, flag, refused, setting
from tod.training.records import PauseReason

# After a pause, a value must be inside its limit by this margin; otherwise a run would stop and
# start again and again at the limit.
COOLER_CELSIUS = 5.0
FULLER_PERCENT = 5.0


@dataclass(frozen=True)
class Window:
    """A part of the day, in minutes after midnight. The end is excluded and may be on the next day.

    Raises:
        SettingError: start and end are equal, or are not times of a day.
    """

    start: int
    end: int

    def __post_init__(self) -> None:
        if not (0 <= self.start < 1440 and 0 <= self.end < 1440) or self.start == self.end:
            raise refused(
                Conditions, "between",
                f"is {self}, two different times from 00:00 to 23:59 are wanted",
                hint="e.g. 22:00-06:00; leave it out for the whole day",
            )  # fmt: skip

    @classmethod
    def parse(cls, text: str) -> Window:
        """Read "22:00-06:00".

        Raises:
            SettingError: the text has another form.
        """
        found = re.fullmatch(r"(\d\d?):(\d\d)-(\d\d?):(\d\d)", text, re.ASCII)
        if not found or int(found[2]) > 59 or int(found[4]) > 59:
            problem = f"is {text!r}, two times are wanted"
            raise refused(Conditions, "between", problem, hint="e.g. 22:00-06:00")
        hour, minute, end_hour, end_minute = map(int, found.groups())
        return cls(60 * hour + minute, 60 * end_hour + end_minute)

    def holds(self, minute: int) -> bool:
        """Tell whether a minute of the day is inside the window."""
        if self.start < self.end:
            return self.start <= minute < self.end
        return minute >= self.start or minute < self.end

    def __str__(self) -> str:
        return f"{_time(self.start)}-{_time(self.end)}"


@dataclass(frozen=True)
class Conditions:
    """When a run may work: a table of settings, and where the sensors are.

    Attributes:
        only_on_power: only while a socket or a charger feeds the device.
        min_battery_percent: only while the battery has at least this charge, on power or not; after
            a pause it needs 5 points more, at most 100.
        max_temperature_celsius: only while the hottest sensor shows at most this; after a pause it
            must show 5 C less.
        between: only at this time of the day, by the local clock; a text such as "22:00-06:00"
            becomes a `Window`.
        max_minutes: a run that has worked this long ends with its best state; waiting does not
            count.
        max_memory_mb: a run whose process has more resident memory, in units of 10^6 bytes, ends:
            waiting frees no memory.
        wait: wait until the conditions are met; False ends with `NotNow` instead.
        sensors: the folder that holds /sys.

    Raises:
        SettingError: a limit that is not allowed.
    """

    panel: ClassVar = "Conditions: when it may work"

    only_on_power: bool = flag("Work only while a socket or a charger feeds it.")
    min_battery_percent: float | None = setting(
        "Work only while the battery has at least this percentage.",
        option="--min-battery",
        above=0,
        most=100,
    )
    max_temperature_celsius: float | None = setting(
        "Work only while no sensor is hotter, in Celsius.", option="--max-temperature", above=0
    )
    between: Window | str | None = setting("Work only at this time of the day: 22:00-06:00.")
    max_minutes: float | None = setting(
        "End after this many minutes of work, with the best state so far.", above=0
    )
    max_memory_mb: float | None = setting(
        "End when the process holds more MB of memory.", option="--max-memory", above=0
    )
    wait: bool = setting(
        "End with code 8 instead of waiting until it suits; training saves a checkpoint.",
        option="--no-wait", unset=True,
    )  # fmt: skip
    sensors: Path = Path("/")

    @property
    def asked(self) -> bool:
        """True if any condition is set."""
        return self != Conditions(wait=self.wait, sensors=self.sensors)

    @property
    def window(self) -> Window | None:
        """`between` as a `Window`; None if it is not set."""
        return Window.parse(self.between) if isinstance(self.between, str) else self.between

    def __post_init__(self) -> None:
        check(self)
        # Store a Window, so that conditions with equal times are equal. The object is frozen, but
        # nobody else has it yet.
        object.__setattr__(self, "between", self.window)


@dataclass(frozen=True)
class Reading:
    """The values at one moment; None where this machine reports none.

    Attributes:
        minute: minute of the day, by the local clock.
        worked_s: how long the run has worked.
    """

    on_power: bool | None
    battery_percent: float | None
    temperature_celsius: float | None
    memory_mb: float | None
    minute: int
    worked_s: float


@dataclass(frozen=True)
class Obstacle:
    """Why a run may not work now. `until` says what it waits for; if waiting does not help, `until`
    is None and `hint` says what helps."""

    reason: PauseReason
    text: str
    until: str | None
    hint: str = ""


def read(sensors: Path, minute: int, worked_s: float) -> Reading:
    """Read every sensor once."""
    return Reading(
        machine.mains_online(sensors),
        machine.battery_percent(sensors),
        machine.temperature_celsius(sensors),
        machine.resident_memory_mb(),
        minute,
        worked_s,
    )


def why_not(
    conditions: Conditions, now: Reading, waiting: PauseReason | None = None
) -> Obstacle | None:
    """Say why a run may not work, or None if it may. A value that the machine does not report
    counts as allowed.

    Args:
        conditions: what is required.
        now: the measured values.
        waiting: why the run waits already; this value must come back further inside its limit.
    """
    minutes, memory = conditions.max_minutes, conditions.max_memory_mb
    if minutes is not None and now.worked_s >= 60 * minutes:
        text = f"its {minutes:g} minutes are used up (--max-minutes)"
        return Obstacle("time", text, None, "give it more time; what was looked at is kept")
    if memory is not None and now.memory_mb is not None and now.memory_mb > memory:
        text = f"it holds {now.memory_mb:.0f} MB of memory, at most {memory:g} MB are wanted"
        hint = "fewer --threads need less memory"
        return Obstacle("memory", f"{text} (--max-memory)", None, hint)
    window = conditions.window
    if window is not None and not window.holds(now.minute):
        text = f"it is {_time(now.minute)}, {window} is wanted (--between)"
        return Obstacle("hour", text, f"it waits for {_time(window.start)}")
    if conditions.only_on_power and now.on_power is False:
        text = "the device is not connected to power (--only-on-power)"
        return Obstacle("power", text, "it waits until it is")
    return _battery(conditions, now, waiting) or _temperature(conditions, now, waiting)


def _battery(conditions: Conditions, now: Reading, waiting: str | None) -> Obstacle | None:
    least, found = conditions.min_battery_percent, now.battery_percent
    if least is None or found is None:
        return None
    enough = min(100.0, least + FULLER_PERCENT)
    if found >= (enough if waiting == "battery" else least):
        return None
    text = f"the battery is at {found:g} %, at least {least:g} % is wanted (--min-battery)"
    return Obstacle("battery", text, f"it waits for {enough:g} %")


def _temperature(conditions: Conditions, now: Reading, waiting: str | None) -> Obstacle | None:
    most, found = conditions.max_temperature_celsius, now.temperature_celsius
    if most is None or found is None:
        return None
    cool = most - COOLER_CELSIUS
    if found <= (cool if waiting == "temperature" else most):
        return None
    text = f"the device has {found:g} C, at most {most:g} C is wanted (--max-temperature)"
    return Obstacle("temperature", text, f"it waits for {cool:g} C")


def absent(conditions: Conditions, now: Reading) -> list[str]:
    """Return a notice for each condition whose value cannot be read on this machine."""
    return [
        text
        for asked, found, text in (
            (conditions.only_on_power, now.on_power,
             "nothing here tells whether there is power: --only-on-power counts as met"),
            (conditions.min_battery_percent, now.battery_percent,
             "there is no battery here: --min-battery counts as met"),
            (conditions.max_temperature_celsius, now.temperature_celsius,
             "no temperature can be read here: --max-temperature counts as met"),
            (conditions.max_memory_mb, now.memory_mb,
             "this system does not say what memory is held: --max-memory cannot be kept"),
        )
        if asked and found is None
    ]  # fmt: skip


def _time(minute: int) -> str:
    return f"{minute // 60:02d}:{minute % 60:02d}"
