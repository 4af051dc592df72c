"""The tests themselves: which of them load torch, and that each can fail."""

import ast
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.unit.test_layers import imports

# Tests of what a device does; their models are files.
WITHOUT_TORCH = ("tests/unit", "tests/device", "tests/commands", "tests/promises")
# Besides `assert`, what fails by itself.
CHECKS = {"raises", "warns", "fail", "assert_allclose", "assert_array_equal", "assert_close"}


@pytest.mark.parametrize("folder", WITHOUT_TORCH)
def test_tests_of_the_device_import_no_torch(folder):
    users = {
        file.relative_to(ROOT).as_posix()
        for file in (ROOT / folder).rglob("*.py")
        if {"torch", "model"} & {name.split(".")[0] for name in imports(file, everywhere=True)}
    }
    assert not users


def test_collecting_the_tests_of_the_device_loads_no_torch():
    """Nor does what they import in turn. None in the place of a module: importing it fails."""
    code = (
        "import sys, pytest\n"
        "sys.modules.update(torch=None, model=None)\n"
        "options = ['--collect-only', '-qq', '-p', 'no:cacheprovider', '-n0', '-m', '']\n"
        f"sys.exit(pytest.main([*options, *{WITHOUT_TORCH}]))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]


def called(function: ast.FunctionDef) -> set[str]:
    """The last parts of the names that a function calls."""
    names = [node.func for node in ast.walk(function) if isinstance(node, ast.Call)]
    return {getattr(name, "attr", getattr(name, "id", "")) for name in names}


def checks(function: ast.FunctionDef) -> bool:
    asserts = any(isinstance(node, ast.Assert) for node in ast.walk(function))
    return asserts or bool(called(function) & CHECKS)


def test_every_test_asserts():
    """By itself, or in a function of the tests that it calls; of functions with one name all do."""
    found: dict[str, list[ast.FunctionDef]] = {}
    for file in (ROOT / "tests").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef) and node.name != "test_data":  # a fixture
                found.setdefault(node.name, []).append(node)
    helpers = {name for name, functions in found.items() if all(map(checks, functions))}
    idle = [
        f"{function.name}, line {function.lineno}"
        for name, functions in found.items()
        for function in functions
        if name.startswith("test_") and not checks(function) and not called(function) & helpers
    ]
    assert idle == []
