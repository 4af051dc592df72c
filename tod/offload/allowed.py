"""What the owner of a receiver allows: which models, and how much of everything."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from tod.errors import DataError, UsageError
from tod.offload.job import Offer
from tod.system.files import sha256
from tod.system.settings import from_keywords
from tod.training.settings import Settings, default

_MAX_MODEL_BYTES = 4 << 30
_SAVE_EVERY = 200
_MAX_INDEX_BYTES = 1 << 28  # five million samples


@dataclass(frozen=True)
class Limits:
    """What the owner of the receiver allows.

    Attributes:
        models: the folder of the .tod files that may be trained.
        cycles, seconds, samples: of one job.
        spool_bytes: on disk, of all jobs.
        lease_seconds: after which a job whose sender is silent is given up.
    """

    models: Path
    cycles: int = 100_000
    seconds: float = 3600.0
    samples: int = 1_000_000
    spool_bytes: int = 4 << 30
    lease_seconds: float = 86_400.0


class Owner:
    """Decides on offers. A model is one of the owner's own files, found by its hash."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._models: dict[str, Path] = {}

    def refuses(self, offer: Offer) -> str:
        """Why an offer is not accepted, whoever makes it; empty if it is."""
        limits = self.limits
        try:
            settings = settings_of(offer)
        except UsageError as error:
            return f"its settings: {error.problem}"
        wants = (
            (settings.cycles or 0, limits.cycles, "cycles"),
            (offer.parts, limits.samples, "samples"),
            (offer.seconds or 0, limits.seconds, "seconds"),
            (offer.index_bytes, _MAX_INDEX_BYTES, "bytes of its list"),
        )
        for found, most, what in wants:
            if found > most:
                return f"{found:,} {what} are wanted, at most {most:,} are allowed"
        if self.model(offer) is None:
            return f"the model {offer.model_sha256[:16]} is not one that is trained here"
        return ""

    def model(self, offer: Offer) -> Path | None:
        """The owner's file with this hash; looked for again if it is not known."""
        known = self._models.get(offer.model_sha256)
        if known is None or not known.exists():
            self._models = {}
            for path in sorted(self.limits.models.glob("*.tod")):
                try:
                    self._models[sha256(path, limit_bytes=_MAX_MODEL_BYTES)] = path
                except OSError:
                    continue
        return self._models.get(offer.model_sha256)


def settings_of(offer: Offer) -> Settings:
    """The settings of a job's training. Its checkpoints are the receiver's business.

    Raises:
        UsageError: one that there is not, or a value that is not allowed.
    """
    given = from_keywords(Settings, offer.settings)
    cycles = default("cycles") if given.cycles is None else given.cycles
    return replace(given, cycles=cycles, save_every=_SAVE_EVERY, keep=1)


def check_models(folder: Path) -> None:
    """Refuse to start without a model to train.

    Raises:
        DataError: the folder has none.
    """
    if not any(folder.glob("*.tod")):
        raise DataError(
            f"{folder}: it holds no .tod file",
            hint="put the models there that may be trained: tod export -o FOLDER/my.tod",
        )
