"""What tests of exports share. Each export costs seconds, most of them torch's own."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

import onnx
import pytest
from torch.onnx._internal.exporter._registration import ONNXRegistry

from model.lowering import lowering
from tests.conftest import FILES
from tod.format import artifact


@pytest.fixture(scope="session", autouse=True)
def _operators_once() -> Iterator[None]:
    """torch makes its table of operators anew for every graph, which is a third of a small export;
    it only reads it."""
    with pytest.MonkeyPatch.context() as patch:
        once = staticmethod(functools.cache(ONNXRegistry.from_torchlib))
        patch.setattr(ONNXRegistry, "from_torchlib", once)
        yield


@pytest.fixture
def lowered(monkeypatch) -> Callable[[str], None]:
    """`lowered("tiny")`: in this test an export takes the graphs of tests/files/tiny.tod, which
    test_files compares with what it would make. For what is about the steps after it."""

    def take(name: str) -> None:
        graphs = artifact.read(FILES / f"{name}.tod").graphs
        made = {graph: onnx.load_from_string(data) for graph, data in graphs.items()}
        monkeypatch.setattr(lowering, "all_graphs", lambda *_: made)

    return take
