"""The ranges of a manifest hold when it is read, and for a record made in memory."""

import json
from dataclasses import replace

import pytest

from tests.conftest import FILES
from tests.support import hostile
from tod.errors import ArtifactError
from tod.format import manifest, manifest_checks
from tod.format.manifest import Run

RUN = Run(
    cycles=2, batch_size=1, lr=0.1, eval_every=0, target_accuracy=1, patience=0, save_every=1,
    seed=0, split_seed=0, pictures={}, data_sha256="", cycle=1,
)  # fmt: skip
OUTSIDE = {
    **dict.fromkeys(("cycles", "cycle", "best_cycle", "eval_every", "patience"), (-1, 10**9 + 1)),
    **dict.fromkeys(("save_every", "stale"), (-1, 10**9 + 1)),
    **dict.fromkeys(("seed", "split_seed"), (-1, 2**53 + 1)),
    **dict.fromkeys(("batch_size", "accumulate"), (0, -1, 2**20 + 1)),
    "lr": (-0.5,),
    "halvings": (-1, 65),
}
INSIDE = {"cycles": 10**9, "seed": 2**53, "batch_size": 2**20, "lr": 0.0, "halvings": 64}
WRONG = [(name, value) for name, values in OUTSIDE.items() for value in values]


@pytest.fixture(scope="module")
def good():
    data = hostile.members_of(FILES / "bound.tod")["manifest.json"]
    return replace(manifest_checks.decode(data, where="x"), run=RUN)


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_a_run_out_of_range_is_refused(good, name, value):
    wrong = replace(good, run=replace(RUN, **{name: value}))
    assert manifest_checks.problems(wrong)
    with pytest.raises(ArtifactError, match=r"^x: the manifest"):
        manifest_checks.decode(manifest.encode(wrong), where="x")


@pytest.mark.parametrize("name", INSIDE)
def test_the_last_good_value(good, name):
    right = replace(good, run=replace(RUN, **{name: INSIDE[name]}))
    assert manifest_checks.problems(right) == []
    assert manifest_checks.decode(manifest.encode(right), where="x") == right


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("step_bytes",), -1), (("optimizer", "lr"), -0.1), (("accumulate",), -1),
        (("batch_size",), 0), (("input", "size_px"), 0), (("input", "resize_px"), 4097),
        (("backbone", "feature_shape"), [0]), (("backbone", "feature_shape"), [1] * 9),
    ],
)  # fmt: skip
def test_other_numbers_out_of_range(good, place, value):
    made = json.loads(manifest.encode(good))
    inner = made
    for step in place[:-1]:
        inner = inner[step]
    inner[place[-1]] = value
    with pytest.raises(ArtifactError):
        manifest_checks.decode(json.dumps(made).encode(), where="x")


def test_too_many_tensors(good):
    many = replace(good, tensors=good.tensors[:1] * 20_001)
    assert manifest_checks.problems(many)
    with pytest.raises(ArtifactError, match="tensors"):
        manifest_checks.decode(manifest.encode(many), where="x")


TENSOR = {"shape": [3], "dtype": "float32", "mean": [0.0], "std": [1.0], "inputs": [], "target": []}


def of_tensors(good, **changes):
    made = json.loads(manifest.encode(good))
    return {**made, "schema": 2, "input": None, "tensor": {**TENSOR, **changes}}


def decoded(made):
    return manifest_checks.decode(json.dumps(made).encode(), where="x")


def test_samples_that_are_no_pictures(good):
    found = decoded(of_tensors(good, inputs=["a", "b", "c"]))
    assert found.samples.shape == (3,)
    assert manifest_checks.decode(manifest.encode(found), where="x") == found


@pytest.mark.parametrize(
    "changes",
    [
        {"shape": []}, {"shape": [0]}, {"shape": [-1]}, {"shape": [1] * 9},
        {"shape": [1 << 20, 1 << 20]}, {"dtype": "int64"}, {"mean": [0.0, 1.0]}, {"mean": []},
        {"std": [0.0]}, {"std": [-1.0]}, {"inputs": ["a", "a"]}, {"target": ["\x1b"]},
    ],
)  # fmt: skip
def test_samples_without_a_meaning_are_refused(good, changes):
    with pytest.raises(ArtifactError, match=r"^x: the manifest"):
        decoded(of_tensors(good, **changes))


@pytest.mark.parametrize("change", [{"tensor": None}, {"schema": 1}, {"input": "both"}])
def test_samples_are_of_one_kind(good, change):
    made = of_tensors(good) | change
    if change.get("input"):
        made["input"] = json.loads(manifest.encode(good))["input"]
    with pytest.raises(ArtifactError, match="contradicts itself"):
        decoded(made)
