"""OpenVINO computes what onnxruntime computes, for any number of pictures."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tests.conftest import FILES
from tod.runtime.delegates.openvino import OpenVinoRunner
from tod.runtime.delegates.runner import Graph
from tod.runtime.delegates.table import open_runner
from tod.runtime.model import Model

pytest.importorskip("openvino", reason="openvino is not installed")
PICTURES = np.random.default_rng(0).integers(0, 256, (9, 16, 16, 3), np.uint8)


@pytest.fixture(scope="module")
def graph():
    return Graph(Model.load(FILES / "bound.tod", cache=False).inference_graph(), "bound")


@pytest.fixture
def runner(graph):
    return OpenVinoRunner(graph.data, graph.name, 1, parallel=2)


def answers(runner, pictures):
    (values,) = runner.run({"pixels": pictures}).values()
    return values


def test_every_number_of_pictures(graph, runner):
    wanted = answers(open_runner(graph, threads=1), PICTURES)
    for count in (1, 2, 9, 5, 3, 8, 4):
        found = answers(runner, PICTURES[:count])
        assert found.shape == (count, 3)
        np.testing.assert_allclose(found, wanted[:count], atol=1e-5)


def test_a_smaller_last_batch_is_not_compiled_for(runner):
    sizes = []
    for count in (8, 8, 5, 4, 3):
        answers(runner, PICTURES[:count])
        sizes.append([shapes[0][0] for shapes in runner._compiled])
    assert sizes == [[8], [8], [8], [8], [8, 3]]


def test_several_threads_at_once(graph, runner):
    wanted = answers(open_runner(graph, threads=1), PICTURES)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda i: answers(runner, PICTURES[i : i + 1]), [*range(9)] * 4):
            assert np.abs(wanted - found).min(axis=0).max() < 1e-5
    assert len(runner._compiled) == 1
