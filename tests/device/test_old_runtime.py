"""The same file in the oldest onnxruntime that devices have (the last for Python 3.10) and in the
newest: the same accuracy."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.conftest import FILES

ROOT = Path(__file__).resolve().parents[2]
RUNTIMES = {"old": ROOT / ".venv-old-runtime" / "bin", "new": ROOT / ".venv-device" / "bin"}


@pytest.fixture(scope="module", autouse=True)
def _runtimes():
    for bin_folder in RUNTIMES.values():
        if not (bin_folder / "net_runner").is_file():
            pytest.skip(f"no {bin_folder.parent.name}; `make test` makes it")


def result(runtime, program, *arguments):
    done = subprocess.run(
        [str(RUNTIMES[runtime] / program), *map(str, arguments)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_they_are_what_they_are_called():
    assert "onnxruntime 1.23.2" in result("old", "tod", "--version")
    assert result("old", "tod", "--version") != result("new", "tod", "--version")


def both(model, pictures, tmp_path, *options):
    """Test and validation accuracies of one training in each."""
    found = []
    for runtime in RUNTIMES:
        lines = result(
            runtime, "net_runner", "-f", model, "-d", pictures, "--json", *options,
            "-o", tmp_path / f"{runtime}.tod",
        )  # fmt: skip
        records = [json.loads(line) for line in lines.splitlines()]
        found.append([r["accuracy"] for r in records if r["record"] == "evaluated"])
    return found


def test_a_model_with_everything_on(pictures, tmp_path):
    model = FILES / "deep.tod"
    old, new = both(model, pictures, tmp_path, "-c", "20", "--target-accuracy", "1")
    assert old == pytest.approx(new, abs=0.09)  # one picture of 12 at a boundary
    assert all("difference" in result(r, "tod", "verify", model) for r in RUNTIMES)


def test_the_real_backbone(test_data, lite0_file, tmp_path):
    from benchmarks.data import subset

    old, new = both(lite0_file, subset("scenes", 20), tmp_path, "-c", "20")
    assert old == new
