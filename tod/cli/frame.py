"""What every command line of TOD does the same way: errors, exit codes, requests to stop."""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tod.errors import ArtifactError, Interrupted, SettingError, TodError, UsageError
from tod.system.text import shown

EPILOG = (
    "Exit codes: 0 done, 2 usage, 3 data, 4 artifact, 5 this device cannot run it, "
    "6 training failed, 8 not now (conditions), 9 not promoted (not better), 130 interrupted."
)
KEY_VARIABLE = "TOD_REQUIRE_SIGNATURE"
_NO_OUTPUT = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EPIPE)


def cache_choice(cache_dir: Path | None, no_cache: bool) -> Path | bool:
    """What --cache-dir and --no-cache mean for `TrainSession.load`."""
    if cache_dir is not None and no_cache:
        raise UsageError("--cache-dir means nothing with --no-cache or --verbose")
    return cache_dir or not no_cache


def check_writable(*files: Path | None) -> None:
    """Find out before the work, not after it, that a result cannot be written."""
    for file in files:
        if file is None:
            continue
        if file.is_dir():
            raise ArtifactError(f"{file}: cannot be written: it is a folder", hint="name a file")
        if not file.parent.is_dir():
            raise ArtifactError(
                f"{file}: cannot be written: the folder does not exist",
                hint="make the folder, or give another place",
            )
        if not os.access(file.parent, os.W_OK | os.X_OK):
            raise ArtifactError(
                f"{file}: cannot be written: the folder is read-only",
                hint="give another place (-o for a model), or get permission to write there",
            )


@contextmanager
def stop_requests() -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C or SIGTERM into a request to stop; the second ends the program at once.

    Yields:
        A function that says whether to stop.
    """
    requested = False

    def handle(number: int, _frame: object) -> None:
        nonlocal requested
        if requested:
            # A live view had hidden the cursor.
            os.write(2, b"\033[?25h\n" * sys.stderr.isatty() + b"stopped at once\n")
            os._exit(Interrupted.exit_code)
        requested = True
        os.write(2, b"\nstopping at the next safe moment; once more to stop at once\n")

    earlier = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: requested
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)


def guarded(command: Callable[[], None]) -> None:
    """Run a command line; every error ends as one message and its exit code, never a traceback."""
    debug = "--debug" in sys.argv
    sys.argv = [argument for argument in sys.argv if argument != "--debug"]
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # paths that are not UTF-8
    # Pillow's remarks on odd pictures: those that cannot be read are named by us.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    try:
        if os.environ.get(KEY_VARIABLE) == "":
            raise UsageError(
                f"{KEY_VARIABLE} is empty, which would require no signature",
                hint="let it name a public key, or unset it",
            )
        command()
        sys.stdout.flush()
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
        if debug:
            raise
        if isinstance(error, OSError) and error.filename is None and error.errno in _NO_OUTPUT:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the rest goes nowhere
            _print_error(f"the output cannot be written: {error.strerror}", "")
            sys.exit(ArtifactError.exit_code)
        _print_error(
            f"internal error: {type(error).__name__}: {error}",
            "this is a fault in TOD; run it again with --debug and report what it prints",
        )
        sys.exit(1)


def _print_error(problem: str, hint: str) -> None:
    # Names of files and what a file says may come from anyone: they cannot steer the terminal.
    print(f"error: {shown(problem)}", file=sys.stderr)
    if hint:
        print(f"hint: {shown(hint)}", file=sys.stderr)
