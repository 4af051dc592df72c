"""Damaged, mixed and forged .tod files: one sentence and exit 4, in every command."""

import json
import os
import random
import resource
import signal
from dataclasses import replace

import pytest
import typer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.conftest import ROOT, run
from tests.support import hostile
from tod.cli.app import app
from tod.errors import ArtifactError, TodError
from tod.format import artifact, container
from tod.format.manifest import Run
from tod.training.session import TrainSession

RUN = Run(
    cycles=2, batch_size=1, lr=0.1, eval_every=0, target_accuracy=1, patience=0, save_every=1,
    seed=0, split_seed=0, pictures={}, data_sha256="", cycle=1,
)  # fmt: skip
# How each command is given a .tod file; {data} is a folder of pictures, {good} a good file.
COMMANDS = {
    "train": "-f {bad} -d {data} -c 1",
    "eval": "-f {bad} -d {data}",
    "predict": "-f {bad} {data}/red/0.png",
    "compare": "{good} {bad} -d {data}",
    "convert": "{bad} --to onnx -o {folder}/x.onnx",
    "report": "{bad} -d {data} -o {folder}/report.html",
    "benchmark": "{bad} --seconds 0.01",
    "info": "{bad}",
    "verify": "{bad}",
    "merge": "{bad} -o {folder}/merged.tod",
    "promote": "{bad} {good} -d {data}",
    "rollback": "{bad}",
    "history": "{bad}",
    "doctor": "{bad}",
    "check": "{data} -f {bad}",
    "sign": "{bad} --key {folder}/key",
    "package": "{bad} {data} -o {folder}/package --target x86_64",
}
WITHOUT_A_MODEL = {"prepare-dataset", "export", "cache", "data", "offload"}


@pytest.fixture
def trained(tiny):
    """A model with classes, beside a slim checkpoint of it."""
    session = TrainSession.load(tiny)
    session.bind(["blue", "green", "red"])
    session.save(tiny.with_name("model.tod"))
    session.state = replace(session.state, run=RUN)
    session.save_checkpoint(tiny.with_name("slim.tod"))
    return tiny.with_name("model.tod")


def refused(path) -> str:
    with pytest.raises(ArtifactError) as caught:
        artifact.read(path)
    assert caught.value.exit_code == 4
    assert str(path) in caught.value.problem
    assert len(caught.value.problem) < 4000
    return caught.value.problem


@pytest.mark.promise(
    "A damaged .tod file is refused", "bits, blocks, lengths and parts of two files, at random"
)
def test_a_damaged_file_is_refused(trained, trials):
    whole, slim = trained.read_bytes(), trained.with_name("slim.tod").read_bytes()
    path = trained.with_name("bad.tod")
    for seed in trials(150, soak=18000):
        rng = random.Random(seed)
        good, other = rng.sample([whole, slim], 2)
        bad = hostile.raw(rng, good, other)
        if bad == good:
            continue
        path.write_bytes(bad)
        refused(path)


def test_every_bit_of_the_headers_counts(trained):
    """All bits outside the members' content, one by one."""
    data = trained.read_bytes()
    inside = bytearray(len(data))
    with container.opened(trained) as file:
        for entry in container.walk(file, hostile.ORDER, where="x"):
            inside[entry.offset : entry.offset + entry.size_bytes] = b"\1" * entry.size_bytes
    path = trained.with_name("bad.tod")
    outside = [place for place, mark in enumerate(inside) if not mark]
    assert 500 < len(outside) < 1000
    for place in outside:
        changed = bytearray(data)
        changed[place] ^= 1 << place % 8
        path.write_bytes(changed)
        refused(path)


@pytest.mark.promise(
    "A forged .tod file crashes nothing",
    "members damaged at random, hashes made right, run if accepted",
)
def test_a_forged_file_crashes_nothing(trained, trials):
    members = hostile.members_of(trained)
    path = trained.with_name("bad.tod")
    for seed in trials(150, soak=18000):
        path.write_bytes(hostile.deep(random.Random(seed), members))
        try:
            found = artifact.read(path)
        except ArtifactError:
            continue
        assert in_a_child(found) == "ended", f"seed {seed}"


def in_a_child(found) -> str:
    """Run a file's test vectors in another process, which it may take down: how that ended."""
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        code = 1
        try:
            from tod.runtime.verify import run_vectors

            run_vectors(found)
            code = 0
        except TodError:
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return signal.Signals(os.WTERMSIG(status)).name
    return "ended" if os.WEXITSTATUS(status) == 0 else "another error"


def test_members_of_another_file_are_noticed(trained, tiny):
    """Whole members change places between two files of the same kind, with good ZIP layout."""
    one, two = hostile.members_of(trained), hostile.members_of(tiny)
    path = trained.with_name("bad.tod")
    different = [name for name in hostile.ORDER if one[name] != two[name]]
    assert different == ["manifest.json", "state.safetensors"]
    for name in different:
        swapped = one | {name: two[name]}
        path.write_bytes(container.pack([(n, swapped[n]) for n in hostile.ORDER]))
        assert "is not what the manifest describes" in refused(path)


def test_hostile_neighbours_neither_stop_nor_hang_a_checkpoint(trained, tiny):
    """Its base is found among files that are anything; none is read as a base that is not."""
    folder = trained.parent
    tiny.rename(folder / "zz.tod")
    os.mkfifo(folder / "a.tod")
    (folder / "b.tod").mkdir()
    (folder / "c.tod").symlink_to(folder / "c.tod")
    (folder / "d.tod").write_bytes(trained.read_bytes()[:-1])
    os.symlink("/dev/zero", folder / "e.tod")
    with open(folder / "f.tod", "wb") as file:
        file.truncate(3 << 30)
    trained.unlink()
    assert artifact.read(folder / "slim.tod").source in {folder / "zz.tod"}


@pytest.mark.parametrize("name", ["../other.tod", "..", ".", "a\\b.tod", "/etc/passwd", "x\0y"])
def test_a_base_outside_the_folder_is_refused(trained, name):
    members = hostile.members_of(trained.with_name("slim.tod"))
    manifest = json.loads(members["manifest.json"])
    members["manifest.json"] = json.dumps(manifest | {"base": name}).encode()
    path = trained.with_name("bad.tod")
    path.write_bytes(container.pack(list(members.items())))
    assert "base" in refused(path)


def test_the_list_of_commands_is_whole():
    group = typer.main.get_command(app)
    assert set(group.commands) == set(COMMANDS) | WITHOUT_A_MODEL


@pytest.mark.parametrize("command", ["net_runner", *COMMANDS])
@pytest.mark.parametrize("damage", ["flip", "cut", "pipe", "forged"])
def test_every_command_refuses_it(command, damage, trained, pictures, call):
    path = trained.with_name("bad.tod")
    data = bytearray(trained.read_bytes())
    if damage == "flip":
        data[len(data) // 2] ^= 4
    elif damage == "cut":
        del data[len(data) // 2 :]
    elif damage == "forged":
        members = hostile.members_of(trained)
        graph = members["predict.onnx"].replace(b"Gemm", b"Loop")
        data = bytearray(hostile.sealed(members | {"predict.onnx": graph}))
    if damage == "pipe":
        os.mkfifo(path)
    else:
        path.write_bytes(data)
    key = Ed25519PrivateKey.generate()
    pem = (Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    trained.with_name("key").write_bytes(key.private_bytes(*pem))
    words = (COMMANDS.get(command) or COMMANDS["eval"]).format(
        bad=path, good=trained, data=pictures, folder=trained.parent
    )
    program = ["net_runner"] if command == "net_runner" else ["tod", command]
    before = sorted(trained.parent.iterdir())
    done = call(*program, *words.split(), cwd=trained.parent)
    assert done.returncode == 4, done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert str(path) in errors[0]
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert sorted(trained.parent.iterdir()) == before


def test_a_pipe_and_a_forged_graph_through_the_real_command(trained, pictures):
    os.mkfifo(trained.with_name("pipe.tod"))
    done = run("net_runner", "-f", trained.with_name("pipe.tod"), "-d", pictures, cwd=ROOT)
    assert done.returncode == 4
    assert done.stderr.startswith("error: ")
    assert "pipe" in done.stderr
