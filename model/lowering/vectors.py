"""Make the test vectors of an artifact: inputs of its graphs, and their outputs on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from model.lowering.examples import example_samples, step_inputs, targets
from model.train_wrap import TrainWrap
from tod.format.manifest import Manifest
from tod.runtime import verify as device
from tod.runtime.engine import Engine


def test_vectors(
    graphs: Mapping[str, bytes], wrap: TrainWrap, described: Manifest
) -> dict[str, NDArray[Any]]:
    """Return inputs and outputs of every graph, as `<graph>/in.<tensor>` and
    `<graph>/out.<tensor>`.

    Any machine can run the inputs again and compare (`tod verify`). The tensors that a step changes
    are not included, see `tod.runtime.verify.test_tensors`.
    """
    engine = Engine(graphs)
    rows = 4 if len(described.backbone.feature_shape) == 1 else 2
    spec = described.samples
    features = engine.features(example_samples(spec, rows))
    classes = described.class_count or 10
    tensors = device.test_tensors(described, classes)
    inputs = {
        **step_inputs(wrap, rows, classes),
        "features": features,
        "labels": targets(wrap.loss_fn, rows, classes),
    }
    feeds: dict[str, dict[str, NDArray[Any]]] = {
        "features.onnx": {spec.name: example_samples(spec, 1)},
        "train.onnx": inputs,
        "predict.onnx": {"features": features},
    }
    vectors: dict[str, NDArray[Any]] = {}
    for graph, given in feeds.items():
        vectors |= {f"{graph}/in.{name}": value for name, value in given.items()}
        outputs = engine.run(graph, given | device.graph_tensors(described, graph, tensors))
        vectors |= {f"{graph}/out.{n}": device.sample(value) for n, value in outputs.items()}
    return vectors
