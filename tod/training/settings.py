"""The settings of a training run: one table, and how each gets its value in a run.

`Settings` holds the given values. `settle` turns them into the `Run` that a checkpoint keeps: a
value that is not given comes from the checkpoint, else from the model, else it is the default. This
module imports nothing heavy, because the command line is built from the table.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from tod.errors import UsageError
from tod.format.manifest import HistoryEntry, Manifest, Run
from tod.format.manifest_checks import problems
from tod.format.schedule import EXAMPLES, parse
from tod.system.settings import flag, refused, rows, setting

if TYPE_CHECKING:
    from tod.data.dataset import Dataset

InitName = Literal["imprint", "ridge"]
_MODEL = "the model's"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings that a user can give; None means not given. `Run` holds what a checkpoint
    keeps."""

    panel: ClassVar = "Training"

    cycles: int | None = setting(
        "Training cycles in total; 0 only evaluates.", "-c", "-e", default=60,
        default_from="60; of net_runner 0", least=0,
    )  # fmt: skip
    save_every: int | None = setting(
        "Save a checkpoint beside the output every N cycles, 0 for none.", "-s",
        default=0, least=0,
    )  # fmt: skip
    keep: int | None = setting(
        "Number of checkpoints that stay; older ones are removed.", default=3, least=1, kept=False
    )
    batch_size: int | None = setting(
        "Pictures in a batch.", "-b", default_from=_MODEL, least=1, exact=True
    )
    eval_every: int | None = setting(
        "Cycles between evaluations on the test split, 0 for none.", default=20, least=0, exact=True
    )
    target_accuracy: float | None = setting(
        "Stop when the test accuracy is above this.", default=0.9, least=0, most=1
    )
    patience: int | None = setting(
        "Stop after K evaluations without a rise of the test accuracy; 0 never.", default=0, least=0
    )
    lr: float | None = setting("Learning rate.", default_from=_MODEL, above=0, exact=True)
    schedule: str | None = setting(
        f"Learning-rate schedule: {EXAMPLES}.", default_from=_MODEL, exact=True
    )
    accumulate: int | None = setting(
        "Batches in a cycle, whose mean gradient makes one step.", default_from=_MODEL, least=1,
        exact=True,
    )  # fmt: skip
    init: InitName | None = setting(
        "Set the head from the pictures before the first cycle, in closed form: imprint or ridge.",
        kept=False,
    )
    add_classes: bool = flag("Folders that the model does not know become new classes of it.")
    seed: int | None = setting(
        "Random seed for batches, new head and split.", default=0,
        default_from="the model's split, else 0", least=0, exact=True,
    )  # fmt: skip


def default(name: str) -> Any:
    """Return the default of a setting, for use if it is not given and not in checkpoint or
    model."""
    return rows(Settings)[name].default


def _of_model(manifest: Manifest) -> dict[str, Any]:
    """Return the settings whose defaults come from the model."""
    return {
        "batch_size": manifest.batch_size,
        "lr": manifest.optimizer.lr,
        "schedule": manifest.optimizer.schedule,
        "accumulate": manifest.accumulate or 1,
    }


def _kept(settings: Settings) -> dict[str, Any]:
    """Return the given settings that a checkpoint keeps, in the form that `Run` uses."""
    names = [name for name, row in rows(Settings).items() if row.kept]
    given = {n: value for n in names if (value := getattr(settings, n)) is not None}
    if "schedule" in given:
        given["schedule"] = parse(given["schedule"])
    return given


def settle(
    manifest: Manifest, earlier: Run | None, dataset: Dataset, settings: Settings
) -> tuple[Run, list[str]]:
    """Choose the value of every setting: given, or from the checkpoint, or the default.

    Args:
        manifest: the model's manifest.
        earlier: the run of the checkpoint that is continued.
        dataset: the dataset to train on.
        settings: the given settings.

    Returns:
        The run as it starts or continues, and notices for the user.

    Raises:
        UsageError: the model cannot do what was asked.
    """
    given = _kept(settings)
    run = earlier or _fresh(manifest)
    run = replace(run, **given, split_seed=dataset.seed, data_sha256=dataset.digest())
    # Check now, not after the work: a manifest that could not be read again must not be written.
    if wrong := problems(replace(manifest, run=run)):
        raise UsageError(f"what is trained here could not be saved: {'; '.join(wrong[:8])}")
    if earlier is not None and earlier.lr != run.lr:
        run = replace(run, halvings=0)  # use the new rate as given, without earlier halvings
    if run.accumulate > 1 and manifest.accumulate is None:
        raise refused(
            Settings, "accumulate", f"is {run.accumulate}, this model cannot add up batches",
            hint="export it with --accumulate N",
        )  # fmt: skip
    notices = _pointless(given, run, len(dataset.split("train")))
    if earlier is None:
        return run, notices
    exact = [name for name, row in rows(Settings).items() if row.exact]
    pairs = [(name, getattr(earlier, name), getattr(run, name)) for name in exact]
    changed = [f"{name} {old} -> {new}" for name, old, new in pairs if old != new]
    if changed:
        notices.append(f"other settings than the checkpoint's: {', '.join(changed)}")
    if run.cycles != earlier.cycles and run.schedule.follows_run:
        notices.append(
            f"the schedule {run.schedule} follows the whole run, which was {earlier.cycles} cycles "
            f"long and is {run.cycles} now"
        )
    if earlier.data_sha256 != run.data_sha256:
        notices.append("the pictures or their split are not those that the checkpoint has seen")
    return run, notices


def _pointless(given: dict[str, Any], run: Run, pictures: int) -> list[str]:
    """Return notices on given settings that have no effect, or not the expected one.

    Args:
        given: the given settings by name.
        pictures: the number of pictures in the train split.
    """
    options = {name: row.option for name, row in rows(Settings).items()}
    told = []
    if "batch_size" in given and run.batch_size > pictures:
        told.append(
            f"a batch of {run.batch_size} ({options['batch_size']}) is more than the {pictures} "
            "pictures of the train split: some stand in it more than once"
        )
    for name, what in (
        ("save_every", "checkpoint"),
        ("eval_every", "evaluation on the test split"),
    ):
        every = getattr(run, name)
        if name in given and every > run.cycles > 0:
            told.append(
                f"no {what} comes: one was asked for every {every} cycles ({options[name]}), and "
                f"the run has {run.cycles}"
            )
    return told


def history_entry(
    run: Run, *, stopped: str, validation_accuracy: float | None, runtime: str
) -> HistoryEntry:
    """Return the history entry of a run that ended; fields that `Run` and `HistoryEntry` share are
    copied."""
    shared = {f.name for f in fields(Run)} & {f.name for f in fields(HistoryEntry)}
    of_run = {name: getattr(run, name) for name in shared}
    return HistoryEntry(**of_run | {
        "cycles": run.cycle, "kept_cycle": run.kept_cycle, "schedule": str(run.schedule),
        "test_accuracy": run.best_accuracy, "stopped": stopped,
        "validation_accuracy": validation_accuracy, "runtime": runtime,
    })  # fmt: skip


def _fresh(manifest: Manifest) -> Run:
    """Return a new run in which no setting was given."""
    kept = {name: row.default for name, row in rows(Settings).items() if row.kept}
    empty: dict[str, Any] = {"split_seed": 0, "pictures": {}, "data_sha256": ""}
    return Run(**kept | _of_model(manifest) | empty)
