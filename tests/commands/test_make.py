"""`make` on a machine whose Python is too old says so before anything else."""

import os
import shutil
import subprocess
import sys

import pytest

from tests.conftest import ROOT

OLD = """#!{python}
import sys
sys.version, sys.version_info = "3.9.2 (default)", (3, 9, 2)
exec(sys.argv[2])
"""


@pytest.mark.parametrize("target", ["demo", "test", "test-old-runtime"])
def test_an_old_python_is_named_first(tmp_path, target):
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    old = tmp_path / "python3.9"
    old.write_text(OLD.format(python=sys.executable))
    old.chmod(0o755)
    # Run below `make test`, make would take over its flags and print the folder it enters.
    env = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run(
        ["make", target, f"PYTHON={old}"], cwd=tmp_path, env=env,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    first = (done.stdout + done.stderr).splitlines()[0]
    assert first == (f"TOD needs Python 3.10 or newer, {old} is 3.9.2: make ... PYTHON=python3.12")
    assert not list(tmp_path.glob(".venv*"))
