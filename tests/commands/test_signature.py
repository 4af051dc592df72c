"""A required signature lets nothing in but what the holder of the key has signed, as it was."""

import base64
import random
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
import typer
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization as ser
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

import tod
from tests.conftest import FILES, ROOT, run
from tests.promises.test_mutations import COMMANDS
from tod.cli.app import app
from tod.errors import ArtifactError, DeviceError, UsageError
from tod.format import artifact, signature
from tod.promotion.promote import promote, rollback
from tod.training.session import TrainSession

# RFC 8032, section 7.1: secret key, public key, message, signature.
RFC_8032 = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
        "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
        "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
    (
        "833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42",
        "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
        "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"
        "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
        "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b589"
        "09351fc9ac90b3ecfdfbc7c66431e0303dca179c138ac17ad9bef1177331a704",
    ),
]


def write_pair(key, file: Path, form: ser.PrivateFormat = ser.PrivateFormat.PKCS8) -> Path:
    """A private key and, beside it, its public part; returns the private one."""
    none = ser.NoEncryption()
    file.write_bytes(key.private_bytes(ser.Encoding.PEM, form, none))
    public = key.public_key().public_bytes(ser.Encoding.OpenSSH, ser.PublicFormat.OpenSSH)
    Path(f"{file}.pub").write_bytes(public + b" a comment\n")
    return file


@pytest.fixture
def key(tmp_path) -> Path:
    return write_pair(ed25519.Ed25519PrivateKey.generate(), tmp_path / "key")


@pytest.fixture
def public(key) -> Path:
    return Path(f"{key}.pub")


@pytest.fixture
def bound(tiny) -> Path:
    """A model that holds weights of its own: the tiny one has none before its classes are known."""
    session = TrainSession.load(tiny)
    session.bind(["blue", "green", "red"])
    session.save(tiny)
    return tiny


def set_signature(path: Path, member: bytes | None) -> Path:
    """The same file with another `signature.json`, or none."""
    with zipfile.ZipFile(path) as archive:
        members = {i.filename: archive.read(i) for i in archive.infolist()}
    members.pop(artifact.SIGNATURE, None)
    if member is not None:
        members[artifact.SIGNATURE] = member
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, data in members.items():
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.create_system, entry.external_attr = 3, 0o644 << 16
            archive.writestr(entry, data)
    return path


def get_signature(path: Path) -> bytes:
    return zipfile.ZipFile(path).read(artifact.SIGNATURE)


@pytest.mark.parametrize(("secret", "public", "message", "wanted"), RFC_8032)
def test_the_library_computes_rfc_8032(secret, public, message, wanted):
    key = ed25519.Ed25519PrivateKey.from_private_bytes(bytes.fromhex(secret))
    assert key.public_key().public_bytes_raw().hex() == public
    assert key.sign(bytes.fromhex(message)).hex() == wanted
    key.public_key().verify(bytes.fromhex(wanted), bytes.fromhex(message))
    with pytest.raises(InvalidSignature):
        key.public_key().verify(bytes.fromhex(wanted), bytes.fromhex(message) + b"x")


def make_with_ssh(file: Path) -> None:
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(file)]
    subprocess.run(command, check=True)


def make_with_openssl(file: Path) -> None:
    command = ["openssl", "genpkey", "-algorithm", "ed25519", "-out", str(file)]
    subprocess.run(command, check=True)
    command = ["openssl", "pkey", "-in", str(file), "-pubout", "-out", f"{file}.pub"]
    subprocess.run(command, check=True)


@pytest.mark.parametrize("tool", ["ssh-keygen", "openssl"])
def test_keys_of_common_tools_sign_and_check(tiny, tmp_path, tool):
    if shutil.which(tool) is None:
        pytest.skip(f"no {tool}")
    file = tmp_path / "a key"
    {"ssh-keygen": make_with_ssh, "openssl": make_with_openssl}[tool](file)
    made = artifact.sign(tiny, file, tiny)
    assert artifact.read(tiny, require_signature=Path(f"{file}.pub")).signature == made
    if tool == "ssh-keygen":
        shown = subprocess.run([tool, "-l", "-f", file], capture_output=True, text=True, check=True)
        assert shown.stdout.split()[1] == made.key


def test_signing_adds_one_member_and_signing_twice_replaces_it(tiny, key, tmp_path):
    plain = tiny.read_bytes()
    first = artifact.sign(tiny, key, tiny.with_name("signed.tod"))
    assert tiny.read_bytes() == plain
    signed = tiny.with_name("signed.tod").read_bytes()
    names = zipfile.ZipFile(tiny.with_name("signed.tod")).namelist()
    assert names == [*zipfile.ZipFile(tiny).namelist(), artifact.SIGNATURE]
    artifact.sign(tiny, key, tiny)
    assert tiny.read_bytes() == signed
    other = write_pair(ed25519.Ed25519PrivateKey.generate(), tmp_path / "other")
    second = artifact.sign(tiny, other, tiny)
    assert second.key != first.key
    assert zipfile.ZipFile(tiny).namelist() == names
    set_signature(tiny, None)
    assert artifact.read(tiny).signature is None


def test_what_is_trained_from_a_signed_model_is_not_signed(tiny, key, public, pictures):
    artifact.sign(tiny, key, tiny)
    done = run("net_runner", "-f", tiny, "-d", pictures, "-c", 4, "-s", 2, "--require-signature",
               public)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert f"notice: {tiny} is signed; what is trained from it here is not" in done.stderr
    trained, checkpoint = (tiny.with_name(f"tiny_trained{n}.tod") for n in ("", "_2"))
    for file in (trained, checkpoint):
        assert artifact.read(file).signature is None
        with pytest.raises(ArtifactError, match="not signed"):
            artifact.read(file, require_signature=public)
    artifact.sign(checkpoint, key, checkpoint)
    assert TrainSession.load(checkpoint, require_signature=public).run.cycle == 2


def test_a_device_goes_on_from_its_own_checkpoint_of_a_signed_model(tiny, key, public, pictures):
    artifact.sign(tiny, key, tiny)
    run("net_runner", "-f", tiny, "-d", pictures, "-c", 4, "-s", 2)
    slim = tiny.with_name("tiny_trained_2.tod")
    required = {"require_signature": public, "continues": tiny}
    assert TrainSession.load(slim, **required).run.cycle == 2
    found = artifact.read(slim)
    other = replace(found.manifest.input, colour="bgr")
    artifact.write(replace(found, manifest=replace(found.manifest, input=other)))
    with pytest.raises(
        ArtifactError, match=r"it is not signed, and not what .*tiny\.tod, which is"
    ):
        TrainSession.load(slim, **required)
    artifact.write(found)  # whole
    assert TrainSession.load(slim, **required).run.cycle == 2
    set_signature(tiny, None)
    with pytest.raises(ArtifactError, match=r"tiny\.tod: it is not signed"):
        TrainSession.load(slim, **required)


def encoded(fields: dict[str, str]) -> bytes:
    """`signature.json` as it is written."""
    return msgspec.json.format(msgspec.json.encode(fields), indent=1) + b"\n"


def alter_state(path: Path, seed: int) -> Path:
    """Another number in the weights, every hash right again, and the signature of before."""
    kept, found = get_signature(path), artifact.read(path)
    state = {name: array.copy() for name, array in found.state.items()}
    name = sorted(n for n, a in state.items() if a.dtype == np.float32 and a.size)[0]
    state[name].flat[seed % state[name].size] += 1
    artifact.write(replace(found, state=state))
    return set_signature(path, kept)


def alter_manifest(path: Path, seed: int) -> Path:
    kept, found = get_signature(path), artifact.read(path)
    artifact.write(replace(found, manifest=replace(found.manifest, head=f"head {seed}")))
    return set_signature(path, kept)


def flip_signature(path: Path, seed: int) -> Path:
    found = msgspec.json.decode(get_signature(path))
    data = bytearray(base64.b64decode(found["signature"]))
    data[seed % 64] ^= 1 << (seed // 64) % 8
    found["signature"] = base64.b64encode(data).decode()
    return set_signature(path, encoded(found))


def break_signature(path: Path, seed: int) -> Path:
    text = bytearray(get_signature(path))
    text[seed * 7 % len(text)] ^= 1 << seed % 8
    return set_signature(path, bytes(text))


def sign_with_another_key(path: Path, seed: int) -> Path:
    other = ed25519.Ed25519PrivateKey.from_private_bytes(seed.to_bytes(32, "big"))
    artifact.sign(path, write_pair(other, path.with_name("other")), path)
    return path


def lie_about_the_key(path: Path, seed: int) -> Path:
    claimed = msgspec.json.decode(get_signature(path))["key"]
    found = msgspec.json.decode(get_signature(sign_with_another_key(path, seed)))
    return set_signature(path, encoded({**found, "key": claimed}))


def move_from_another_file(path: Path, seed: int) -> Path:
    donor = path.with_name("donor.tod")
    found = artifact.read(path)
    manifest = replace(found.manifest, trainable=f"donor {seed}")
    artifact.write(replace(found, path=donor, manifest=manifest))
    artifact.sign(donor, path.with_name("key"), donor)
    return set_signature(path, get_signature(donor))


def sign_for_another_purpose(path: Path, seed: int) -> Path:
    """The right key, over the manifest alone or with another prefix."""
    key = signature.read_private_key(path.with_name("key"))
    said = (b"", b"tod-signature 2\0", b"tod-signature 1")[seed % 3]
    made = key.sign(said + zipfile.ZipFile(path).read(artifact.MANIFEST))
    found = msgspec.json.decode(get_signature(path))
    found["signature"] = base64.b64encode(made).decode()
    return set_signature(path, encoded(found))


def remove(path: Path, seed: int) -> Path:
    return set_signature(path, None)


ATTACKS = [
    alter_state, alter_manifest, flip_signature, break_signature, sign_with_another_key,
    lie_about_the_key, move_from_another_file, sign_for_another_purpose, remove,
]  # fmt: skip


@pytest.mark.promise(
    "A required signature lets nothing in that its holder has not signed",
    "altered with all hashes right, moved, of another key, flipped, of another purpose, removed",
)
def test_nothing_but_the_signed_file_is_let_in(bound, tmp_path, trials):
    maker = random.Random(0)
    key = write_pair(ed25519.Ed25519PrivateKey.generate(), tmp_path / "key")
    signed, copy = tmp_path / "signed.tod", tmp_path / "copy.tod"
    artifact.sign(bound, key, signed)
    public = Path(f"{key}.pub")
    for seed in trials(4 * len(ATTACKS), soak=6000):
        shutil.copy(signed, copy)
        ATTACKS[seed % len(ATTACKS)](copy, maker.randrange(1 << 16))
        with pytest.raises(ArtifactError) as refused:
            artifact.read(copy, require_signature=public)
        assert refused.value.hint
        assert artifact.read(signed, require_signature=public).signature is not None


@pytest.mark.parametrize(
    ("attack", "sentence"),
    [
        (remove, "it is not signed; a signature of SHA256:"),
        (sign_with_another_key, "it is signed by SHA256:"),
        (alter_state, "it was altered after SHA256:"),
        (move_from_another_file, "or the signature is of another file"),
    ],
)
def test_every_refusal_has_its_sentence(bound, key, attack, sentence):
    signed = bound.with_name("signed.tod")
    shutil.copy(key, bound.with_name("key"))
    artifact.sign(bound, key, signed)
    done = run("tod", "info", attack(signed, 1), "--require-signature", f"{key}.pub")
    assert done.returncode == 4
    assert done.stdout == ""
    assert done.stderr.startswith(f"error: {signed}: ")
    assert sentence in done.stderr
    assert "\nhint: " in done.stderr


# sign is asked to vouch for the file, history shows what was put in place; rollback has its test.
@pytest.mark.parametrize("command", sorted({*COMMANDS} - {"sign", "history", "rollback"}))
def test_every_command_refuses_what_is_not_signed(bound, key, public, pictures, tmp_path, command):
    good = tmp_path / "good.tod"
    artifact.sign(bound, key, good)
    words = COMMANDS[command].format(bad=bound, good=good, data=pictures, folder=tmp_path).split()
    words += ["--require-signature", str(public)]
    before = sorted(p.name for p in (*bound.parent.iterdir(), *tmp_path.iterdir()))
    with pytest.raises(ArtifactError, match="it is not signed") as refused:
        app([command, *words], standalone_mode=False)
    assert str(bound) in refused.value.problem
    assert sorted(p.name for p in (*bound.parent.iterdir(), *tmp_path.iterdir())) == before
    parameters = typer.main.get_command(app).commands[command].params
    assert "TOD_REQUIRE_SIGNATURE" in [parameter.envvar for parameter in parameters]


def test_the_environment_can_require_it(bound, public, monkeypatch):
    monkeypatch.setenv("TOD_REQUIRE_SIGNATURE", str(public))
    with pytest.raises(ArtifactError, match="it is not signed"):
        app(["info", str(bound)], standalone_mode=False)


def test_promotion_and_rollback_put_only_signed_models_in_place(
    bound, key, public, pictures, tmp_path
):
    served, better = tmp_path / "served.tod", tmp_path / "better.tod"
    list(promote(bound, served, pictures))
    session = TrainSession.load(bound)
    list(tod.train(session, tod.Dataset.open(pictures), cycles=1, init="ridge", output=better))
    artifact.sign(better, key, better)
    required = {"require_signature": public}
    with pytest.raises(ArtifactError, match=r"served\.tod: it is not signed"):
        list(promote(better, served, pictures, **required))
    list(promote(better, served, pictures))
    put = served.read_bytes()
    with pytest.raises(ArtifactError, match=r"generations.*: it is not signed"):
        list(rollback(served, **required))
    assert served.read_bytes() == put
    list(rollback(served))
    list(rollback(served, to=2, **required))
    assert served.read_bytes() == put


def test_commands_say_whose_signature_it_is(tiny, key, public):
    done = run("tod", "sign", tiny, "--key", key)
    name = done.stdout.split()[-1]
    assert done.stdout == f"{tiny}: signed by {name}\n"
    assert name == signature.fingerprint(signature.read_public_key(public))
    assert name in run("tod", "info", tiny).stdout
    unchecked = run("tod", "verify", tiny).stdout.splitlines()[-1]
    assert unchecked.startswith(f"signature of {name}: not checked")
    checked = run("tod", "verify", tiny, "--require-signature", public).stdout.splitlines()[-1]
    assert checked == f"signature of {name}: right"


def test_locked_keys_are_named(tmp_path):
    key = ed25519.Ed25519PrivateKey.generate()
    lock = ser.BestAvailableEncryption(b"secret")
    file = tmp_path / "key"
    file.write_bytes(key.private_bytes(ser.Encoding.PEM, ser.PrivateFormat.PKCS8, lock))
    with pytest.raises(UsageError, match="locked by a passphrase") as refused:
        signature.read_private_key(file)
    assert "openssl pkey -out COPY" in refused.value.hint
    if shutil.which("ssh-keygen") is None:
        pytest.skip("no ssh-keygen, which locks a key in its own way")
    file.unlink()
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", str(file)]
    subprocess.run(command, check=True)
    with pytest.raises(UsageError, match="locked by a passphrase") as refused:
        signature.read_private_key(file)
    assert "ssh-keygen -p" in refused.value.hint


def test_wrong_and_damaged_key_files_are_named(tmp_path, key, public):
    with pytest.raises(UsageError, match="holds a private key, a public one is wanted"):
        signature.read_public_key(key)
    with pytest.raises(UsageError, match="not an Ed25519 private key"):
        signature.read_private_key(public)
    other = write_pair(rsa.generate_private_key(65537, 2048), tmp_path / "rsa")
    with pytest.raises(UsageError, match="not an Ed25519 private key: it is of another kind"):
        signature.read_private_key(other)
    with pytest.raises(UsageError, match="not an Ed25519 public key: it is of another kind"):
        signature.read_public_key(Path(f"{other}.pub"))
    with pytest.raises(UsageError, match="the key cannot be read: No such file") as missing:
        signature.read_public_key(tmp_path / "none")
    assert "ssh-keygen -t ed25519" in missing.value.hint
    text, line = key.read_bytes(), public.read_bytes()
    for cut in (0, 1, 30, 60, 90):
        key.write_bytes(text[:cut])
        public.write_bytes(line[: min(cut, 70)])
        with pytest.raises(UsageError, match="not an Ed25519 private key"):
            signature.read_private_key(key)
        with pytest.raises(UsageError, match="not an Ed25519 public key"):
            signature.read_public_key(public)


def test_without_the_library_its_extra_is_named(tiny, key, public, monkeypatch):
    monkeypatch.setitem(sys.modules, "cryptography", None)
    for call in (
        lambda: artifact.sign(tiny, key, tiny),
        lambda: artifact.read(tiny, require_signature=public),
    ):
        with pytest.raises(DeviceError, match="needs the package 'cryptography'") as missing:
            call()
        assert missing.value.hint.endswith("pip install -c constraints.txt '.[sign]'")
    assert 'sign = ["cryptography' in (ROOT / "pyproject.toml").read_text()


def test_a_signature_that_is_too_long_is_refused_before_it_is_read(tiny, key):
    artifact.sign(tiny, key, tiny)
    set_signature(tiny, b" " * 5000 + get_signature(tiny))
    with pytest.raises(ArtifactError, match=r"signature is not readable: it has 5\d{3} bytes"):
        artifact.read(tiny)


def test_a_signature_is_written_in_one_way(tiny, key):
    """Base64's unused bits and JSON's blanks could say the same in other bytes."""
    artifact.sign(tiny, key, tiny)
    right = get_signature(tiny)
    found = msgspec.json.decode(right)
    text, letters = found["signature"], map(chr, range(ord("A"), ord("z")))
    twins = [f"{text[:85]}{letter}==" for letter in letters if letter.isalpha()]
    twins = [t for t in twins if t != text and base64.b64decode(t) == base64.b64decode(text)]
    assert twins
    others = [encoded({**found, "signature": twin}) for twin in twins]
    for other in (b" " + right, right.rstrip(), msgspec.json.encode(found), *others):
        with pytest.raises(ArtifactError, match="not written as 'tod sign' writes it"):
            artifact.read(set_signature(tiny, other))


def test_compare_runs_no_model_that_is_not_signed(
    tiny, public, pictures, tmp_path, monkeypatch, call
):
    """Not even to see how fast it is."""
    ran = tmp_path / "ran"
    monkeypatch.setattr("tod.runtime.engine.Engine.load", lambda *_: ran.write_text(""))
    done = call(
        "tod", "compare", FILES / "bound.tod", tiny, "-d", pictures,
        "--require-signature", public, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 4, done.stderr
    assert "not signed" in done.stderr
    assert not ran.exists()
