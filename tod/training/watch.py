"""Check the conditions from time to time, and wait while they are not met.

Knows clocks and conditions; knows no training.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable

from tod.system import local_time as zones
from tod.system.settings import refused
from tod.training.conditions import Conditions, Obstacle, Reading, absent, read, why_not
from tod.training.records import Notice, Paused, PauseReason, Record, Resumed

_LOOK_S = 1.0  # reading the sensors takes 1 ms, as long as a cycle
_POLL_S = 2.0  # while it waits
_ASK_S = 0.2  # a stop request must not wait for the sensors
_FIRST_YEAR = 2020  # a clock with an earlier year was never set


class Watch:
    """Checks the conditions from time to time, and waits while they are not met.

    Args:
        conditions: what is required; or a function, called every time, that returns why work is not
            allowed, or None. None: work is always allowed.
        monotonic: returns seconds.
        local_time: returns the time of the wall clock.
        sleep: waits for a number of seconds.

    Raises:
        SettingError: `between` is set, and `TZ` names no time zone.
    """

    def __init__(
        self,
        conditions: Conditions | Callable[[], str | None] | None = None,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        local_time: Callable[[], time.struct_time] = time.localtime,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        nothing = isinstance(conditions, Conditions) and not conditions.asked
        self._conditions = None if nothing else conditions
        if isinstance(conditions, Conditions) and conditions.between is not None:
            _check_zone()
        self._monotonic, self._local_time, self._sleep = monotonic, local_time, sleep
        self._begun = monotonic()
        self._waited_s = 0.0
        self._looked: float | None = None

    def pause(
        self, save: Callable[[], Iterable[Record]], should_stop: Callable[[], bool]
    ) -> Generator[Record, None, Obstacle | None]:
        """Return at once if the conditions are met; else save, and wait for them or for a stop
        request.

        Args:
            save: writes a checkpoint.
            should_stop: called five times a second.

        Returns:
            None if the conditions are met; else why the run must end, or what it waited for when
            the stop was requested.
        """
        if isinstance(self._conditions, Conditions) and self._looked is None:
            yield from map(Notice, self._told(self._conditions))
        obstacle = self._look()
        if obstacle is None or should_stop():
            return obstacle
        yield from save()
        wait = not isinstance(self._conditions, Conditions) or self._conditions.wait
        begun = self._monotonic()
        while obstacle is not None and not should_stop():
            if not wait or obstacle.until is None:
                return obstacle
            yield Paused(obstacle.reason, f"{obstacle.text}; {obstacle.until}")
            obstacle = self._wait(obstacle, should_stop)
        waited_s = self._monotonic() - begun
        self._waited_s += waited_s
        if obstacle is None:
            yield Resumed(round(waited_s, 1))
        return obstacle

    def _wait(self, obstacle: Obstacle, should_stop: Callable[[], bool]) -> Obstacle | None:
        """Wait until the obstacle is gone, another one appears, or a stop is requested."""
        polled = self._monotonic()
        # Report only a new reason, not a new temperature.
        found: Obstacle | None = obstacle
        while found is not None and found.reason == obstacle.reason and not should_stop():
            self._sleep(_ASK_S)
            own = not isinstance(self._conditions, Conditions)
            if own or self._monotonic() - polled >= _POLL_S:
                found = self._look(obstacle.reason)
                polled = self._monotonic()
        return found

    def _look(self, waiting: PauseReason | None = None) -> Obstacle | None:
        if self._conditions is None:
            return None
        if not isinstance(self._conditions, Conditions):
            text = self._conditions()
            return None if text is None else Obstacle("other", text, "it waits until that is over")
        now = self._monotonic()
        if waiting is None and self._looked is not None and now - self._looked < _LOOK_S:
            return None
        self._looked = now
        return why_not(self._conditions, self._read(self._conditions, waiting is not None), waiting)

    def _read(self, conditions: Conditions, waiting: bool) -> Reading:
        local = self._local_time()
        # Waiting does not count as working time.
        worked_s = 0.0 if waiting else self._monotonic() - self._begun - self._waited_s
        return read(conditions.sensors, 60 * local.tm_hour + local.tm_min, worked_s)

    def _told(self, conditions: Conditions) -> list[str]:
        texts = absent(conditions, self._read(conditions, False))
        if conditions.between is None:
            return texts
        now = self._local_time()
        # If no time zone is set, the clock shows UTC as if that were local time.
        lacking = "" if zones.is_told() else "; nothing here names a time zone: set TZ"
        texts.append(f"local time is {zones.clock(now)}{lacking}")
        if now.tm_year < _FIRST_YEAR:
            texts.append(
                f"the clock was not set, it says {now.tm_year}: --between goes by it all the same"
            )
        return texts


def _check_zone() -> None:
    if (zone := zones.unknown_zone()) is not None:
        raise refused(
            Conditions, "between",
            f"goes by the local time, but TZ is {zone!r}, which is no time zone that is known here",
            hint="let TZ name one of /usr/share/zoneinfo, e.g. Europe/Berlin, or be a rule such as "
            "CET-1CEST,M3.5.0,M10.5.0/3; unset it for the system's own",
        )  # fmt: skip
