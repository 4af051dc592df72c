"""A file is the old one or the new one, whatever happens while it is written."""

import errno
import fcntl
import os
import subprocess
import sys

import pytest

from tod.system import files
from tod.system.files import remove_unfinished, write_whole


def test_replaces_and_leaves_nothing_else(tmp_path):
    file = tmp_path / "a.tod"
    for data in (b"old", b"new"):
        write_whole(file, data)
        assert file.read_bytes() == data
    assert os.listdir(tmp_path) == ["a.tod"]


def test_mode_is_that_of_any_new_file(tmp_path):
    write_whole(tmp_path / "a", b"")
    (tmp_path / "b").write_bytes(b"")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


def test_a_failed_write_leaves_the_old_file_and_no_rest(tmp_path, monkeypatch):
    file = tmp_path / "a.tod"
    write_whole(file, b"old")
    for call in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, call, lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
            with pytest.raises(OSError, match="No space left"):
                write_whole(file, b"new")
        assert file.read_bytes() == b"old"
        assert os.listdir(tmp_path) == ["a.tod"]


def test_killed_while_writing(tmp_path):
    """SIGKILL before the rename: the old file is whole, and the next write works."""
    file = tmp_path / "a.tod"
    write_whole(file, b"old" * 1000)
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "from tod.system.files import write_whole\n"
        "os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "write_whole(Path(sys.argv[1]), b'new' * 1000)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(file)], check=False)
    assert done.returncode == -9
    assert file.read_bytes() == b"old" * 1000
    write_whole(file, b"newer")
    assert file.read_bytes() == b"newer"


def test_a_file_is_locked_while_it_is_written(tmp_path, monkeypatch):
    """Whoever cleans up at any moment takes nothing from a living writer."""
    honest = {name: getattr(os, name) for name in ("fsync", "replace")}
    for name, call in honest.items():
        monkeypatch.setattr(
            os, name, lambda *a, call=call: (remove_unfinished(tmp_path, str), call(*a))
        )
    write_whole(tmp_path / "a.tod", b"data")
    assert (tmp_path / "a.tod").read_bytes() == b"data"


def test_a_new_file_that_was_cleaned_up_before_its_lock_is_made_again(tmp_path, monkeypatch):
    class Late:
        LOCK_EX, LOCK_NB = fcntl.LOCK_EX, fcntl.LOCK_NB
        calls = 0

        @classmethod
        def flock(cls, file, how):
            cls.calls += 1
            if cls.calls == 1:
                os.unlink(file.name)
            fcntl.flock(file, how)

    monkeypatch.setattr(files, "fcntl", Late)
    write_whole(tmp_path / "a.tod", b"data")
    assert Late.calls == 2
    assert os.listdir(tmp_path) == ["a.tod"]


@pytest.mark.parametrize("locks", [None, "refused"])
def test_without_locks_files_are_written_and_nothing_is_removed(tmp_path, monkeypatch, locks):
    class Refused:
        LOCK_EX, LOCK_NB = fcntl.LOCK_EX, fcntl.LOCK_NB

        @staticmethod
        def flock(*_):
            raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(files, "fcntl", Refused if locks else None)
    left = tmp_path / ".a.tod.0123abcd.part"
    left.write_bytes(b"half")
    write_whole(tmp_path / "a.tod", b"data")
    remove_unfinished(tmp_path, str)
    assert (tmp_path / "a.tod").read_bytes() == b"data"
    assert left.exists()
