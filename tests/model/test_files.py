"""The models of tests/files are those that the exporter makes."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tests.conftest import FILES
from tests.support import tiny_models
from tod.format import arrays, artifact


def same_numbers(kept, made):
    """Processors add in another order; a change of the exporter is larger than that."""
    assert {n: a.dtype for n, a in kept.items()} == {n: a.dtype for n, a in made.items()}
    for name, value in kept.items():
        np.testing.assert_allclose(made[name], value, rtol=1e-5, atol=1e-6, err_msg=name)


def parts(data):
    """A graph without its constants, and the constants by name."""
    model = onnx.load_from_string(data)
    constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    model.graph.ClearField("initializer")
    return model, constants


@pytest.mark.parametrize("name", tiny_models.MODELS)
def test_it_is_what_the_exporter_makes(tmp_path, name):
    """After a change that is meant: python -m tests.support.tiny_models"""
    kept = artifact.read(FILES / f"{name}.tod")
    made = artifact.read(tiny_models.make(name, tmp_path))
    described = replace(
        made.manifest, built_with=kept.manifest.built_with, members=kept.manifest.members
    )
    assert described == kept.manifest
    for graph, data in kept.graphs.items():
        (model, constants), (again, others) = parts(data), parts(made.graphs[graph])
        assert again == model, graph
        same_numbers(constants, others)
    same_numbers(kept.state, made.state)
    same_numbers(*(arrays.arrays_from_bytes(found.vectors, where="x") for found in (kept, made)))


def test_each_file_is_one_of_these():
    assert {file.stem for file in FILES.glob("*.tod")} == set(tiny_models.MODELS)
