"""Take in a trained model that came back: score it on our own held-out samples, then write it."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tod.data.dataset import Dataset
from tod.format import earlier
from tod.runtime.model import Model
from tod.runtime.scoring import Evaluation


def take_in(
    data: bytes, path: Path, sent: Model, dataset: Dataset, *, overwrite: bool = False
) -> Evaluation:
    """Score a model and write it. A model that is there already stays as a generation.

    Args:
        data: the trained .tod file, whole.
        path: where it goes.
        sent: the model that was sent out; its features are those of the trained one.
        dataset: opened for it; its validation split was never trained on.
        overwrite: do not keep the earlier model.

    Raises:
        ArtifactError: it is damaged, or cannot be written.
        DataError: no validation sample can be read.
    """
    with tempfile.TemporaryDirectory(prefix="tod-arrived-") as folder:
        file = Path(folder, "trained.tod")
        file.write_bytes(data)
        trained = Model.load(file, cache=False)
        trained.store = sent.store
        score = trained.evaluate(dataset)
    earlier.write(path, data, what="trained", source=sent.artifact.path, overwrite=overwrite)
    return score
