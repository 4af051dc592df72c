"""Exit codes are those that are documented, and no error class is left out of the table."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tod import errors
from tod.cli.frame import EPILOG, KEY_VARIABLE, guarded


def classes():
    found = [c for c in vars(errors).values() if isinstance(c, type)]
    return [c for c in found if issubclass(c, errors.TodError)]


@pytest.mark.parametrize("error", classes(), ids=lambda c: c.__name__)
def test_every_error_is_in_the_table(error):
    assert error.__name__ in errors.__doc__
    if error is not errors.TodError:
        row = next(line for line in errors.__doc__.splitlines() if error.__name__ in line)
        code = re.search(r"\s(\d+)\s", row)
        assert code is None or int(code[1]) == error.exit_code


def test_help_lists_the_exit_codes():
    codes = {error.exit_code for error in classes()} - {1}
    assert codes <= {int(code) for code in re.findall(r"\d+", EPILOG)}


def test_the_hint_follows_the_problem():
    assert str(errors.DataError("what", hint="do this")) == "what\nhint: do this"
    assert str(errors.DataError("what")) == "what"


def test_a_full_disk_behind_stdout_is_no_fault_of_tod():
    """What is printed at the end fails as well: Python writes it when it closes its files."""
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [Path(sys.executable).with_name("tod"), "--version"], stdout=full,
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
    assert done.returncode == 4
    assert done.stderr == "error: the output cannot be written: No space left on device\n"


def test_an_empty_variable_is_no_missing_one(monkeypatch, capsys):
    monkeypatch.setenv(KEY_VARIABLE, "")
    with pytest.raises(SystemExit) as stopped:
        guarded(lambda **_: None)
    assert stopped.value.code == 2
    assert "TOD_REQUIRE_SIGNATURE is empty" in capsys.readouterr().err


def test_a_second_request_to_stop_ends_at_once():
    source = (
        "import os, signal; from tod.cli.frame import stop_requests\n"
        "with stop_requests():\n"
        "    for _ in range(2): os.kill(os.getpid(), signal.SIGINT)\n"
        "    print('not reached')"
    )
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr.endswith("once more to stop at once\nstopped at once\n")
