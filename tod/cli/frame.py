"""The common frame of TOD's command lines: errors, exit codes, requests to stop."""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tod.errors import (
    ArtifactError,
    Interrupted,
    SettingError,
    TodError,
    TodWarning,
    UsageError,
)
from tod.system import streams
from tod.system.text import shown

if TYPE_CHECKING:
    from tod.runtime.delegates.table import Choice

EXIT_CODES = (
    "Exit codes: 0 done, 2 usage, 3 data, 4 artifact, 5 this device cannot run it, "
    "6 training failed, 8 not now (conditions), 9 not promoted (not better), "
    "10 not converted (worse), 130 interrupted."
)
EPILOG = f"{EXIT_CODES} --debug, with any command, shows the traceback of an error."
KEY_VARIABLE = "TOD_REQUIRE_SIGNATURE"
_INSISTING = (signal.SIGINT, signal.SIGTERM)
_NO_OUTPUT = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EPIPE, errno.EBADF)

_HINTS = {
    errno.EACCES: "the user who runs this needs permission for that file and for its folder",
    errno.EPERM: "the user who runs this needs permission for that file and for its folder",
    errno.EROFS: "that place is read-only: give another one",
    errno.ENOSPC: "make room there, or give another place",
    errno.EDQUOT: "make room there, or give another place",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.ELOOP: "its links lead in a circle: give the file itself",
    errno.ENOENT: "check the path",
    errno.ENOTDIR: "check the path: a part of it is a file, no folder",
    errno.EISDIR: "give a file, not a folder",
}


def cache_choice(cache_dir: Path | None, no_cache: bool) -> Path | bool:
    """Turn --cache-dir and --no-cache into the `cache` argument of `TrainSession.load`."""
    if cache_dir is not None and no_cache:
        raise UsageError("--cache-dir means nothing with --no-cache or --verbose")
    return cache_dir or not no_cache


def listed_names(text: str | None) -> tuple[str, ...]:
    """Turn the names of --inputs or --target into a tuple."""
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())


def engine_choice(engine: str | None, precision: str | None) -> Choice:
    """Turn --engine and --precision into the `engine` argument of `Model.load`.

    Raises:
        UsageError: no engine has this name.
        DeviceError: none of the engines is installed.
    """
    from tod.runtime.delegates.table import DEFAULT, Choice, installed, names_in

    if engine is None and precision in (None, "float32"):
        return DEFAULT
    return Choice(installed(names_in(engine or "")), bf16=precision == "bf16")


def hangup_is_ignored() -> bool:
    """Tell whether this program must outlive its terminal."""
    return not hasattr(signal, "SIGHUP") or signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


@contextmanager
def stop_requests() -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C or SIGTERM into a request to stop; the second ends the program at once.

    SIGHUP is a request, too, unless it is ignored when the program starts (nohup). It never counts
    as the second request: shells and the kernel both send it when a terminal is closed, and systemd
    sends it after SIGTERM.

    Yields:
        A function that returns True if a stop was requested.
    """
    requested = insisted = False

    def handle(number: int, _frame: object) -> None:
        nonlocal requested, insisted
        if number in _INSISTING and insisted:
            # Show the cursor again, which a live view hides.
            _tell(b"\033[?25h\n" * os.isatty(2) + b"stopped at once\n")
            os._exit(Interrupted.exit_code)
        first = not requested
        # Before anything is called: the second signal may come while the first is answered.
        requested, insisted = True, insisted or number in _INSISTING
        if first:
            _tell(b"\nstopping at the next safe moment; once more to stop at once\n")

    numbers = _INSISTING if hangup_is_ignored() else (*_INSISTING, signal.SIGHUP)
    earlier = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield lambda: requested
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)


def guarded(command: Callable[..., int | None]) -> None:
    """Run a command line; every error gives one message and an exit code, never a traceback.

    Args:
        command: an app of typer. It is asked not to show errors itself: that would be in another
            form than ours, and with words of the library that checks values.
    """
    streams.open_streams()
    debug = "--debug" in sys.argv
    sys.argv = [argument for argument in sys.argv if argument != "--debug"]
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # paths that are not UTF-8
    # Hide Pillow's remarks on odd pictures; TOD names the unreadable ones itself.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    warnings.simplefilter("default", TodWarning)
    warnings.showwarning = _notice_of(warnings.showwarning)
    try:
        if os.environ.get(KEY_VARIABLE) == "":
            raise UsageError(
                f"{KEY_VARIABLE} is empty, which would require no signature",
                hint="let it name a public key, or unset it",
            )
        code = command(standalone_mode=False)
        sys.stdout.flush()  # or what cannot be written would be found after this program's end
        if code:
            sys.exit(code)
    except TodError as error:
        if debug:
            raise
        problem = error.with_options if isinstance(error, SettingError) else error.problem
        _print_error(problem, error.hint)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        _print_error("interrupted", "")
        sys.exit(Interrupted.exit_code)
    except Exception as error:
        if hasattr(error, "format_message"):  # of typer, whose classes have moved between versions
            _print_wrong_call(error)
            sys.exit(UsageError.exit_code)
        if debug:
            raise
        if isinstance(error, OSError) and error.filename is None and error.errno in _NO_OUTPUT:
            streams.give_up_broken()
            _print_error(f"the output cannot be written: {error.strerror}", "")
            sys.exit(ArtifactError.exit_code)
        if isinstance(error, OSError) and error.filename is not None:
            _print_error(*_of_system(error))
            sys.exit(ArtifactError.exit_code)
        _print_error(
            f"internal error: {type(error).__name__}: {error}",
            "this is a fault in TOD; run it again with --debug and report what it prints",
        )
        sys.exit(1)
    finally:
        streams.give_up_broken()


def _notice_of(show: Callable[..., None]) -> Callable[..., None]:
    """Show our own warnings as every notice, and those of others as `show` does."""

    def shown_as(message: Warning | str, category: type[Warning], *rest: Any, **more: Any) -> None:
        if not issubclass(category, TodWarning):
            show(message, category, *rest, **more)
            return
        with suppress(OSError):
            print(f"notice: {shown(str(message))}", file=sys.stderr, flush=True)

    return shown_as


def _print_wrong_call(error: Any) -> None:
    """Show what typer says of a command line."""
    if context := getattr(error, "ctx", None):
        hint = f"{context.command_path} --help lists what there is"
    else:
        hint = ""
    if text := error.format_message():  # empty where the help was shown instead
        _print_error(text.replace(": Value error, ", ": "), hint)


def _of_system(error: OSError) -> tuple[str, str]:
    """Return problem and hint for an error of the system with a place, a name or a permission."""
    names = [
        os.fsdecode(n) for n in (error.filename, error.filename2) if isinstance(n, str | bytes)
    ]
    where = " -> ".join(names) or f"file {error.filename}"
    reason = error.strerror or type(error).__name__
    return f"{where}: {reason}", _HINTS.get(error.errno or 0, "")


def _tell(message: bytes) -> None:
    """Write from a signal handler; a terminal that is gone must not end the work."""
    with suppress(OSError):
        os.write(2, message)


def _print_error(problem: str, hint: str) -> None:
    # File names and file contents may come from anyone, so they must not control the terminal.
    with suppress(OSError):  # the exit code still reports the error
        print(f"error: {shown(problem)}", file=sys.stderr, flush=True)
        if hint:
            print(f"hint: {shown(hint)}", file=sys.stderr, flush=True)
