"""The checkpoints of a run: written beside its output, found again, the oldest removed.

A checkpoint is `<stem>_trained_<cycle>.tod` if the trained model is `<stem>_trained.tod` or
`<stem>.tod`, so runs with different outputs do not touch each other's checkpoints. The newest
checkpoint is the one written last; if two were written in the same moment, the later cycle is
newer.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from tod.errors import ArtifactError, UsageError
from tod.format import artifact as artifacts
from tod.format import earlier
from tod.format.generations import Scores
from tod.format.manifest import GRAPHS, HistoryEntry, Manifest
from tod.system.files import remove_unfinished, sync
from tod.system.outputs import same_file
from tod.training.records import Evaluated, Notice, Record, Saved
from tod.training.session import TrainSession
from tod.training.settings import history_entry

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


def newest(
    model: str | Path, output: str | Path | None = None
) -> tuple[Path | None, tuple[str, ...]]:
    """Find the newest good checkpoint of a model.

    Args:
        model: the .tod file that training starts from, or one of its checkpoints.
        output: path of the trained model, whose checkpoints are beside it; None: `default_output`.

    Returns:
        The checkpoint or None, and notices for the user: which files were passed over and why, or
        that there is no checkpoint.

    Raises:
        ArtifactError: the model itself cannot be read.
    """
    model = Path(model)
    manifest = artifacts.read_manifest(model)
    output = default_output(model, manifest) if output is None else Path(output)
    notices: list[str] = []
    for path in reversed(_named(output)):
        try:
            # Opening a pipe would wait for someone to write into it.
            problem = "it is not a file" if not path.is_file() else None
            problem = problem or _stranger(artifacts.read(path).manifest, manifest)
        except ArtifactError as error:
            problem = error.problem.removeprefix(f"{path}: ")
        if problem is None:
            return path, tuple(notices)
        notices.append(f"{path} was passed over: {problem}")
    where = f"no good checkpoint of {model.name} in {output.parent.resolve()}"
    begins = "starts from its beginning" if manifest.kind == "model" else "goes on from that file"
    return None, (*notices, f"{where}: training {begins}")


class Checkpoints:
    """Save the checkpoints of one run, and its trained model at the end.

    Args:
        session: the session of the run.
        output: where the trained model is written; checkpoints go beside it. None saves nothing.
        keep: number of checkpoints that stay.
        overwrite: do not keep an earlier model at the output path.

    Attributes:
        last: the newest checkpoint of this run.

    Raises:
        UsageError: the output is a file that the session needs.
    """

    def __init__(
        self, session: TrainSession, output: Path | None, keep: int, *, overwrite: bool = False
    ) -> None:
        self._output = output
        self._keep = keep
        self._overwrite = overwrite
        self._source = session.artifact.path
        for needed in (session.artifact.path, session.artifact.source):
            if output is not None and needed is not None and same_file(output, needed):
                raise UsageError(
                    f"output {output} is the file that is trained from, {needed}",
                    hint="give the trained model a name of its own",
                )
        resumed = session.manifest.kind == "checkpoint"
        self.last: Path | None = session.artifact.path if resumed else None
        self._failure: ArtifactError | None = None

    def begin(self) -> None:
        """Remove the temporary files of earlier runs that were killed while they wrote.

        Raises:
            ArtifactError: an earlier model at the output path could not be kept.
        """
        if self._output is not None:
            if not self._overwrite:
                earlier.check(self._output)
            wanted = re.compile(f"{re.escape(self._output.name)}|{_pattern(self._output)}")
            remove_unfinished(self._output.parent, wanted.fullmatch)

    def save(self, session: TrainSession) -> Iterator[Record]:
        """Write a checkpoint of the present cycle, unless there is one already; then remove the
        oldest checkpoints beyond `keep`. If it cannot be written, give a notice, once for each
        reason, and keep the last checkpoint."""
        if self._output is None or self.has(session):
            return
        path = _path(self._output, session)
        try:
            _check_no_model(path)
            session.save_checkpoint(path)
        except ArtifactError as error:
            if self._failure is None or _reason(error) != _reason(self._failure):
                stays = f"the last one stays: {self.last}" if self.last else "there is none yet"
                text = f"{path}: the checkpoint cannot be written: {_reason(error)}; {stays}"
                yield Notice(text)
            self._failure = error
            return
        self.last, self._failure = path, None
        others = [other for other in _named(self._output) if other != path]
        _make_newest(path, others)
        if len(others) >= self._keep:
            ours = [other for other in others if _is_ours(other, session.manifest)]
            for other in ours[: max(0, len(ours) + 1 - self._keep)]:
                with contextlib.suppress(OSError):
                    other.unlink()
        yield Saved("checkpoint", str(path), session.run.cycle)

    def save_model(
        self, session: TrainSession, ending: TrainSession, score: Evaluated
    ) -> Iterator[Record]:
        """Write the trained model and keep an earlier model at its path. If it cannot be written,
        save a checkpoint of its run instead.

        Args:
            session: the session with the trained model.
            ending: the same session with its run still under way, as a checkpoint needs it.
            score: of the trained model on the validation split.

        Raises:
            ArtifactError: the model cannot be written; it says where the best state is.
        """
        if self._output is None:
            return
        last = session.manifest.history[-1]
        scores = Scores(
            accuracy=score.accuracy, served_accuracy=None, correct=score.correct,
            served_correct=None, total=score.total, metric=score.metric, margin=0,
            data_sha256=last.data_sha256,
        )  # fmt: skip
        try:
            before = earlier.write(
                self._output, session.packed(self._output), what="trained", source=self._source,
                scores=scores, overwrite=self._overwrite,
            )  # fmt: skip
        except ArtifactError as error:
            yield from self._save_at_any_price(ending)
            where = f"; the best state is{self.where(ending)}" if self.has(ending) else ""
            raise ArtifactError(
                f"{error.problem}{where or self.where(ending)}",
                hint="make room, then the same command with --resume goes on from the checkpoint"
                if self.last
                else "make room, or give another place with -o",
            ) from error
        if before is not None:
            yield from map(Notice, before.notices)
            yield Notice(_stays(self._output, before, last))
        yield Saved("model", str(self._output), ending.run.kept_cycle)

    def has(self, session: TrainSession) -> bool:
        """Tell whether the present cycle is in a checkpoint."""
        if self._output is None or self.last != (path := _path(self._output, session)):
            return False
        return path.is_file()

    def where(self, session: TrainSession) -> str:
        """Say where the present state is saved; the text is the end of a sentence."""
        if self._output is None:
            return ""
        if self.has(session):
            return f" in {self.last}"
        last = f", the last one is {self.last}" if self.last and self.last.is_file() else ""
        return f"; no checkpoint of it could be saved{last}"

    def _save_at_any_price(self, session: TrainSession) -> Iterator[Record]:
        """Save a checkpoint; if there is no room, remove older ones first. The last good one
        stays."""
        if self._output is None or self.has(session):
            return
        yield from self.save(session)
        path = _path(self._output, session)
        good = [p for p in _named(self._output) if _is_ours(p, session.manifest)]
        for older in [p for p in good[:-1] if p not in (path, self.last)]:
            if self._failure is None or _errno(self._failure) not in _NO_ROOM:
                return
            with contextlib.suppress(OSError):
                older.unlink()
                yield Notice(f"{older} was removed to make room")
            yield from self.save(session)


def _stays(output: Path, before: earlier.Earlier, new: HistoryEntry) -> str:
    """Say what happened to the earlier model at the output path."""
    text = (
        f"{output}: the model that was there stays as generation {before.generation}; "
        f"'tod rollback {output}' puts it back"
    )
    old = before.last
    if old is None or old.validation_accuracy is None or new.validation_accuracy is None:
        return text
    if old.data_sha256 != new.data_sha256 or old.validation_accuracy <= new.validation_accuracy:
        return text
    scores = f"{old.validation_accuracy:.6g} on the same validation pictures"
    return f"{text}: it was better, {scores}, this one has {new.validation_accuracy:.6g}"


def _check_no_model(path: Path) -> None:
    """Refuse to overwrite a whole model that has the name of a checkpoint.

    Raises:
        ArtifactError: there is one.
    """
    try:
        kind = artifacts.read_manifest(path).kind if path.is_file() else ""
    except ArtifactError:  # a damaged file may be overwritten
        return
    if kind == "model":
        raise ArtifactError("a whole model lies there, which has the name of a checkpoint")


def default_output(model: Path, manifest: Manifest) -> Path:
    """Return the default path of the trained model: `<stem>_trained.tod` beside the model or
    checkpoint that it is trained from."""
    name = re.fullmatch(r"(.+)_trained_[0-9]+", model.stem) if manifest.kind != "model" else None
    stem = name[1] if name else Path(manifest.base or model.name).stem
    return model.parent / f"{stem}_trained.tod"


def _stem(output: Path) -> str:
    return output.stem.removesuffix("_trained")


def _path(output: Path, session: TrainSession) -> Path:
    return output.parent / f"{_stem(output)}_trained_{session.run.cycle}.tod"


def _pattern(output: Path) -> str:
    return re.escape(f"{_stem(output)}_trained_") + r"([0-9]+)\.tod"


def _named(output: Path) -> list[Path]:
    """Return all files that are named like checkpoints of this output, the newest last."""
    found = []
    with contextlib.suppress(OSError):
        for path in output.parent.iterdir():
            if name := re.fullmatch(_pattern(output), path.name):
                with contextlib.suppress(OSError):  # it was removed meanwhile
                    found.append((path.lstat().st_mtime_ns, int(name[1]), path))
    return [path for _, _, path in sorted(found)]


def _stranger(found: Manifest, model: Manifest) -> str | None:
    """Say why a file with a checkpoint's name is not a checkpoint of this model; None if it is."""
    if found.kind != "checkpoint":
        return "it is a whole model, not a checkpoint"
    if any(found.members[name] != model.members[name] for name in GRAPHS):
        return "it is of another model: its graphs are others"
    if found.history != model.history:
        return "it is of another model with these graphs: it has been trained before in another way"
    if not artifacts.is_trained_from(found, model):
        return "it is of another model with these graphs: it was exported in another way"
    return None


def _is_ours(path: Path, model: Manifest) -> bool:
    """Tell whether a file may be removed: a damaged file or one of another model may not."""
    try:
        found = artifacts.read_manifest(path) if path.is_file() else None
    except ArtifactError:
        return False
    return found is not None and (_stranger(found, model) is None or _is_behind(found, model))


def _is_behind(found: Manifest, model: Manifest) -> bool:
    """Tell whether a checkpoint is of a finished run in the model's history. Otherwise a model that
    is trained every night would leave some checkpoints of each night."""
    before, run = len(found.history), found.run
    if run is None or before >= len(model.history) or found.history != model.history[:before]:
        return False
    then = model.history[before]
    same = history_entry(
        run, stopped=then.stopped, validation_accuracy=then.validation_accuracy,
        runtime=then.runtime,
    )  # fmt: skip
    progress = ("cycles", "kept_cycle", "test_accuracy", "halvings")
    same = replace(same, **{name: getattr(then, name) for name in progress})
    return same == then and run.cycle <= then.cycles and artifacts.is_trained_from(found, model)


def _make_newest(path: Path, others: list[Path]) -> None:
    """Give a checkpoint the latest file time of all. It could look older than the others if the
    clock was set back, as happens at every start of a board without a battery."""
    with contextlib.suppress(OSError):
        latest = max((other.lstat().st_mtime_ns for other in others), default=0)
        if path.stat().st_mtime_ns <= latest:
            os.utime(path, ns=(latest + 1, latest + 1))
            sync(path)


def _errno(error: ArtifactError) -> int | None:
    return error.__cause__.errno if isinstance(error.__cause__, OSError) else None


def _reason(error: ArtifactError) -> str:
    cause = error.__cause__
    return (cause.strerror if isinstance(cause, OSError) else None) or error.problem
