"""All errors that a user can meet, and their exit codes.

TodError
├── UsageError      2    the command or the call was wrong
│   └── SettingError     settings that are not allowed
├── DataError       3    pictures, class folders, dataset.json
│   └── PictureError     one picture cannot be read
├── ArtifactError   4    a .tod file is damaged, foreign or cannot be written
├── DeviceError     5    this machine cannot run it: runtime too old, extra not installed
├── TrainingError   6    the training itself failed, e.g. the loss is not finite
├── NotNow          8    it does not suit now, and waiting was not wanted or would not help
├── NotPromoted     9    the new model is not better than the served one, which stays
├── ConvertedWorse 10    a converted file answers worse than allowed, and was not written
└── Interrupted   130    Ctrl-C, SIGTERM or SIGHUP

Exit code 0 is success; 1 is an error in TOD itself (please report it); 7 is that of scripts/ for a
device that cannot be reached. TodWarning is no error: it ends nothing.
"""

from __future__ import annotations

import functools


class TodError(Exception):
    """An error that a user can act on.

    Args:
        problem: what failed, where, what was wanted and what was found; one sentence.
        hint: what to do next; one sentence.
    """

    exit_code = 1

    def __init__(self, problem: str, *, hint: str = "") -> None:
        super().__init__(problem, hint)
        self.problem = problem
        self.hint = hint

    def __reduce__(self) -> tuple[object, ...]:
        # Otherwise pickling for another process would lose the keyword.
        return functools.partial(type(self), self.problem, hint=self.hint), ()

    def __str__(self) -> str:
        return f"{self.problem}\nhint: {self.hint}" if self.hint else self.problem


class TodWarning(UserWarning):
    """What a user should know, and what ends nothing."""


def first_line(error: Exception) -> str:
    """Return the first line of another library's message, for use in ours."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__


class UsageError(TodError):
    exit_code = 2


class SettingError(UsageError):
    """Settings that are not allowed.

    Args:
        wrong: name in Python, option on the command line, and what is wrong, as text that continues
            after the name.
        hint: what to do next.
    """

    def __init__(self, *wrong: tuple[str, str, str], hint: str = "") -> None:
        super().__init__("; ".join(f"{name} {text}" for name, _, text in wrong), hint=hint)
        self.wrong = wrong

    def __reduce__(self) -> tuple[object, ...]:
        return functools.partial(type(self), *self.wrong, hint=self.hint), ()

    @property
    def with_options(self) -> str:
        """The problem, with the options' names in place of the Python names."""
        return "; ".join(f"{option} {text}" for _, option, text in self.wrong)


class DataError(TodError):
    exit_code = 3


class PictureError(DataError):
    pass


class ArtifactError(TodError):
    exit_code = 4


class DeviceError(TodError):
    exit_code = 5


class TrainingError(TodError):
    exit_code = 6


class NotNow(TodError):  # noqa: N818 - nothing is wrong, another time is right
    exit_code = 8


class NotPromoted(TodError):  # noqa: N818 - an answer, not a fault
    exit_code = 9


class ConvertedWorse(TodError):  # noqa: N818 - an answer, not a fault
    exit_code = 10


class Interrupted(TodError):  # noqa: N818 - the request to stop is not a fault
    exit_code = 130
