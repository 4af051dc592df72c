"""`--splits`: every command takes ready-made splits as they are, and says how to ask for that."""

import json
import shutil

import pytest

from tests.conftest import run


@pytest.fixture(scope="module")
def parted(pictures, tmp_path_factory):
    """Two folders of ten and ten pictures of each class, as another tool exports them."""
    root = tmp_path_factory.mktemp("parted") / "data"
    for name in ("train_set", "test_set"):
        shutil.copytree(pictures, root / name)
    for file in root.rglob("*.png"):
        if (int(file.stem) < 10) == (file.parts[-3] == "test_set"):
            file.unlink()
    return root


@pytest.fixture(scope="module")
def trained(parted, tiny_file, tmp_path_factory):
    out = tmp_path_factory.mktemp("trained") / "one.tod"
    done = run("net_runner", "-f", tiny_file, "-d", parted, "--splits", "-c", 3, "-o", out)
    assert done.returncode == 0, done.stderr
    return out


@pytest.mark.parametrize(
    "command",
    [
        "net_runner -f MODEL -d DATA -c 1 -o OUT.tod",
        "tod train -f MODEL -d DATA -c 1 -o OUT.tod",
        "tod eval -f MODEL -d DATA",
        "tod check DATA",
        "tod compare MODEL MODEL -d DATA",
        "tod promote MODEL OUT -d DATA",
        "tod prepare-dataset DATA OUT --size 16",
        "tod benchmark MODEL -d DATA --batch 1 --threads 1 --seconds 0.01 -c 1",
    ],
)
def test_every_command(command, parted, trained, tmp_path):
    places = {
        "MODEL": trained,
        "DATA": parted,
        "OUT": tmp_path / "out",
        "OUT.tod": tmp_path / "out.tod",
    }
    words = [places.get(word, word) for word in command.split()]
    refused = run(*words)
    assert refused.returncode == 3
    assert "ready-made splits (test_set, train_set), not classes" in refused.stderr
    assert "--splits" in refused.stderr
    done = run(*words, "--splits")
    assert done.returncode == 0, done.stderr


def test_the_score_is_that_of_the_folder(parted, trained):
    done = run("tod", "eval", "-f", trained, "-d", parted, "--splits", "--json")
    scored = [json.loads(line) for line in done.stdout.splitlines()][-1]
    assert scored["total"] == 30  # all of test_set, none of train_set
