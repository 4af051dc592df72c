"""Promotions and rollbacks that are killed anywhere; run by test_promotion.py in a process of its
own, where a fork is safe. Reads a seed from each line of stdin, answers with a line."""

import os
import random
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import tod.system.files
from tod.errors import NotPromoted
from tod.format.generations import look
from tod.promotion.promote import promote, rollback

STEPS = 24  # a change has fewer: later ones kill nothing


class Torn:
    """A file that is killed in the middle of a write."""

    def __init__(self, file, step):
        self._file, self._step = file, step

    def write(self, data):
        self._step(lambda: (self._file.write(data[: len(data) // 2]), self._file.flush()))
        return self._file.write(data)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._file.close()

    def __getattr__(self, name):
        return getattr(self._file, name)


def kill_at(number):
    """SIGKILL before the n-th write, fsync, rename or removal, a write half done."""
    count = 0

    def step(first=lambda: None):
        nonlocal count
        count += 1
        if count == number:
            first()
            os.kill(os.getpid(), signal.SIGKILL)

    for name in ("fsync", "replace", "unlink"):
        real = getattr(os, name)
        setattr(os, name, lambda *a, real=real, **k: (step(), real(*a, **k))[1])
    tod.system.files.open = lambda *arguments: Torn(open(*arguments), step)  # noqa: SIM115 - stays open


def in_child(change, number):
    """Whether a change came to its end."""
    child = os.fork()
    if child == 0:
        kill_at(number)
        try:
            list(change())
        except NotPromoted:
            os._exit(9)
        except BaseException as error:
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
            os._exit(1)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, 9, -signal.SIGKILL), code
    return code


def trial(seed, models, data, folder):
    """A life of four changes, each cut off at a random place; fails where something is lost."""
    choose = random.Random(seed)
    served = folder / "served.tod"
    if choose.random() < 0.5:
        shutil.copy(models[0], served)  # put there before the first promotion
    for _ in range(4):
        before = look(served)
        old = served.read_bytes() if served.exists() else None
        earlier = [number for number in before.earlier() if number in before.kept]
        if earlier and choose.random() < 0.4:
            wanted = before.kept[earlier[0]].read_bytes()

            def change():
                return rollback(served)
        else:
            model = choose.choice(models[1:])
            wanted = model.read_bytes()

            def change(model=model):
                return promote(model, served, data, keep=9, threads=1)

        code = in_child(change, choose.randrange(1, STEPS))
        now = served.read_bytes() if served.exists() else None
        assert now in (old, wanted), "served is neither the old nor the new one"
        assert code != 0 or now == wanted
        after = look(served)
        for number, path in before.kept.items():
            assert after.kept[number].read_bytes() == path.read_bytes(), "a generation is lost"
        if now == wanted != old:
            assert after.generation in after.kept, "what serves is no generation"
            assert after.sha256 == after.events[-1].sha256, "what serves is not what was done last"
    finish(served, models, data)


def finish(served, models, data):
    """The next commands work, and what was cut off is cleaned up."""
    assert in_child(lambda: promote(models[-1], served, data, threads=1), 0) in (0, 9)
    shelf = look(served)
    assert not [n for n in shelf.notices if "missing" in n]
    assert served.read_bytes() == models[-1].read_bytes()
    assert not list(served.parent.rglob("*.part"))
    assert not shelf.earlier() or in_child(lambda: rollback(served), 0) == 0


def main():
    data, *models = map(Path, sys.argv[1:])
    for line in sys.stdin:
        with tempfile.TemporaryDirectory(dir=models[0].parent) as folder:
            trial(int(line), models, data, Path(folder))
        print("kept", flush=True)


if __name__ == "__main__":
    main()
