"""Hashes of files: read once, and again whenever a file may be another."""

import os

from hypothesis import given, settings
from hypothesis import strategies as st

from tod.data.file_hashes import Contents


def test_a_file_is_read_once(tmp_path):
    (tmp_path / "a").write_bytes(b"one")
    os.utime(tmp_path / "a", (1e9, 1e9))
    contents = Contents(tmp_path, tmp_path)
    assert contents.known("a") is None
    first = contents.sha256("a")
    contents.save()
    again = Contents(tmp_path, tmp_path)
    assert again.known("a") == first
    (tmp_path / "a").write_bytes(b"two")
    assert again.known("a") is None
    os.utime(tmp_path / "a", (1e9 + 1, 1e9 + 1))
    assert again.known("a") is None
    assert again.sha256("a") != first


def test_a_file_that_has_just_changed_may_change_again(tmp_path):
    (tmp_path / "a").write_bytes(b"one")
    contents = Contents(tmp_path, tmp_path)
    contents.sha256("a")
    assert contents.known("a") is None


def test_files_that_change_places(tmp_path):
    """Equal in size and time, as unpacked pictures are."""
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
        os.utime(tmp_path / name, (1e9, 1e9))
    contents = Contents(tmp_path, tmp_path)
    first, second = contents.sha256("a"), contents.sha256("b")
    for old, new in (("a", "c"), ("b", "a"), ("c", "b")):
        (tmp_path / old).rename(tmp_path / new)
    assert (contents.sha256("a"), contents.sha256("b")) == (second, first)


@settings(max_examples=50)
@given(st.data())
def test_a_damaged_table_of_hashes_is_forgotten_and_said(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("contents")
    (folder / "a").write_bytes(b"one")
    os.utime(folder / "a", (1e9, 1e9))
    contents = Contents(folder, folder)
    right = contents.sha256("a")
    contents.save()
    (path,) = folder.glob("contents-*.json")
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    else:
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    path.write_bytes(content)
    again = Contents(folder, folder)
    assert again.known("a") is None
    assert again.notices == [f"{path} is damaged; the files that it tells of are read again"]
    assert again.sha256("a") == right
