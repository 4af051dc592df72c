"""A file is the old one or the new one, whatever happens while it is written."""

import os
import subprocess
import sys

import pytest

from tod.files import write_whole


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
        "import os, signal, sys; from pathlib import Path; from tod.files import write_whole\n"
        "os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "write_whole(Path(sys.argv[1]), b'new' * 1000)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(file)], check=False)
    assert done.returncode == -9
    assert file.read_bytes() == b"old" * 1000
    write_whole(file, b"newer")
    assert file.read_bytes() == b"newer"
