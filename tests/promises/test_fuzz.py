"""What the fuzzer ever found stays found; in the long run it looks for more."""

import importlib.util
import re
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.fuzz import targets
from tests.support.promises import SOAK

FOUND = sorted(file for file in (targets.HERE / "found").rglob("*") if file.is_file())


@pytest.mark.parametrize("target", targets.TARGETS)
def test_good_inputs_are_read(target):
    """A reader that refused everything would never fail: the inputs to start from are good."""
    inputs = targets.seed_inputs(target)
    assert all(inputs)
    for data in inputs:
        if target != "dataset_json":  # one picture for each class is too few
            targets.TARGETS[target](data)
        targets.once(target, data[: len(data) // 2])


def test_what_was_found_stays_mended():
    assert FOUND
    for file in FOUND:
        targets.once(file.parent.name, file.read_bytes())


# Not a test that is skipped: without atheris (Linux on x86-64, Python 3.11) what was found is
# replayed, no more.
if SOAK and importlib.util.find_spec("atheris"):

    @pytest.mark.promise(
        "Readers of files from elsewhere end well", "coverage-guided fuzzing, inputs tried"
    )
    @pytest.mark.parametrize("target", targets.TARGETS)
    def test_the_fuzzer_finds_nothing(target, request, trials):
        fuzzed(target, request.node, trials)


def fuzzed(target, node, trials):
    """One target for 150 seconds; each input is a trial."""
    for _ in trials(1, soak=1):
        # By way of a small shell: libFuzzer asks for the peak of its memory, and Linux counts that
        # of the process which a new one is a copy of.
        done = subprocess.run(
            ["sh", "-c", '"$@"; exit $?', "sh", sys.executable, "-m", "tests.fuzz", target, "150"],
            cwd=ROOT, capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-4000:]
    tried = int(re.search(r"number_of_executed_units: (\d+)", done.stderr).group(1))
    count = dict(node.user_properties)["promise"]
    count["begun"] += tried - 1
    count["kept"] += tried - 1
