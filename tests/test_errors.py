"""Exit codes are those that are documented, and no error class is left out of the table."""

import re

import pytest

from tod import errors
from tod.command_line import EPILOG


def classes():
    return [c for c in vars(errors).values() if isinstance(c, type)]


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
