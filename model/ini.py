"""nntrainer's INI files as what an export takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from model.export import Settings
from model.networks.nntrainer.load import Ini, load
from model.step.losses import LOSSES
from model.step.optimizers import OPTIMIZERS


def open_ini(path: Path, *, weights_file: Path | None, seed: int) -> Ini:
    """Read the file; see `model.networks.nntrainer.load.load`."""
    return load(path, weights_file=weights_file, seed=seed)


def settings(ini: Ini, **more: Any) -> Settings:
    """How its network trains.

    Args:
        ini: the file.
        more: fields of `Settings` that it does not say.
    """
    how = ini.recipe
    kinds: dict[str, Any] = OPTIMIZERS
    return Settings(
        kinds[how.optimizer](**how.settings),
        LOSSES[how.loss](),
        train_batch_norm=True,
        backbone_lr=1.0,
        decay_all=ini.decayed is None,
        decayed=ini.decayed,
        clip_norm=how.clip_norm,
        schedule=how.schedule,
        batch_size=how.batch_size,
        **more,
    )
