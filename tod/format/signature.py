"""Sign files with Ed25519, and check signatures. Knows keys and bytes; knows no ZIP.

The manifest is signed, because it holds the SHA-256 of everything else in the file. Keys come from
`ssh-keygen -t ed25519` or `openssl genpkey -algorithm ed25519`. The only user of `cryptography`, an
optional extra.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from tod.errors import ArtifactError, UsageError, first_line
from tod.system.machine import require

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

# This prefix makes sure that a signature made for another purpose with the same key is not valid
# for a .tod file.
_DOMAIN = b"tod-signature 1\0"
_MAX_KEY_BYTES = 1 << 16
_MAX_SIGNATURE_BYTES = 1 << 12
_MAKE_ONE = "ssh-keygen -t ed25519 -N '' -f tod-key makes a pair: tod-key signs, tod-key.pub checks"


@dataclass(frozen=True)
class Signature:
    """The content of `signature.json`. `key` is the signer's fingerprint, as `ssh-keygen -l` shows
    it; `signature` the 64 bytes in Base64."""

    algorithm: Literal["ed25519"]
    key: str
    signature: str


def read_public_key(path: Path) -> Ed25519PublicKey:
    """Read `tod-key.pub` (OpenSSH, one line) or a PEM file.

    Raises:
        DeviceError: `cryptography` is not installed.
        UsageError: it is not an Ed25519 public key.
    """
    require("cryptography", "sign")
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    data = _key_bytes(path)
    if b"PRIVATE KEY" in data:
        raise UsageError(
            f"{path}: it holds a private key, a public one is wanted",
            hint=f"give {path}.pub, or what 'openssl pkey -in {path} -pubout' prints; a private "
            "key stays on the workstation",
        )
    try:
        if data.lstrip().startswith(b"-----"):
            key = serialization.load_pem_public_key(data)
        else:
            key = serialization.load_ssh_public_key(data.strip())
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _no_key(path, "public", first_line(error)) from error
    if not isinstance(key, Ed25519PublicKey):
        raise _no_key(path, "public", "it is of another kind")
    return key


def read_private_key(path: Path) -> Ed25519PrivateKey:
    """Read an OpenSSH or PEM private key without a passphrase.

    Raises:
        DeviceError: `cryptography` is not installed.
        UsageError: it is not an Ed25519 private key, or it is locked by a passphrase.
    """
    require("cryptography", "sign")
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    data = _key_bytes(path)
    if b"PRIVATE KEY" not in data:
        raise _no_key(path, "private", "it is not in the format of OpenSSH or PEM")
    openssh = b"BEGIN OPENSSH PRIVATE KEY" in data
    load = serialization.load_ssh_private_key if openssh else serialization.load_pem_private_key
    try:
        key = load(data, password=None)
    except TypeError as error:  # raised by the library if the passphrase is missing
        change = "ssh-keygen -p -N '' -f" if openssh else "openssl pkey -out COPY -in"
        raise UsageError(
            f"{path}: the key is locked by a passphrase, which is not asked for here",
            hint=f"sign with an unlocked copy and remove it afterwards: {change} "
            f"{'COPY' if openssh else path}",
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _no_key(path, "private", first_line(error)) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise _no_key(path, "private", "it is of another kind")
    return key


def fingerprint(key: Ed25519PublicKey) -> str:
    """Return the fingerprint that `ssh-keygen -l` shows."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    line = key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    digest = hashlib.sha256(base64.b64decode(line.split()[1])).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def sign(manifest: bytes, key: Ed25519PrivateKey) -> bytes:
    """Make the member `signature.json` for a file with this manifest; it is the same each time."""
    made = base64.b64encode(key.sign(_DOMAIN + manifest)).decode()
    return _encode(Signature("ed25519", fingerprint(key.public_key()), made))


def decode(member: bytes, *, where: str) -> Signature:
    """Read `signature.json`; `verify_signature` checks it.

    Raises:
        ArtifactError: it is not a signature.
    """
    try:
        if len(member) > _MAX_SIGNATURE_BYTES:
            raise ValueError(f"it has {len(member)} bytes, at most {_MAX_SIGNATURE_BYTES} are read")
        found = msgspec.json.decode(member, type=Signature)
        data = base64.b64decode(found.signature, validate=True)
        if len(data) != 64:
            raise ValueError("a signature has 64 bytes")
        # Base64 has unused bits and JSON has blanks; only one spelling of a signature is allowed.
        canonical = replace(found, signature=base64.b64encode(data).decode())
        if member != _encode(canonical):
            raise ValueError("it is not written as 'tod sign' writes it")
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise ArtifactError(
            f"{where}: its signature is not readable: {first_line(error)}",
            hint="copy the file again, or sign it again: tod sign FILE --key KEY",
        ) from error
    return found


def verify_signature(
    found: Signature | None, manifest: bytes, key: Ed25519PublicKey, *, where: str
) -> None:
    """Refuse a file that was not signed in its present form with `key`.

    Args:
        found: the file's signature, if it has one.
        manifest: the manifest's bytes, as they are in the file.
        key: the public key that is required.
        where: the file's name, for error messages.

    Raises:
        ArtifactError: unsigned, signed by another key, or altered since.
    """
    from cryptography.exceptions import InvalidSignature

    wanted = fingerprint(key)
    if found is None:
        raise ArtifactError(
            f"{where}: it is not signed; a signature of {wanted} is required",
            hint="sign it where the key is: tod sign FILE --key KEY",
        )
    if found.key != wanted:
        raise ArtifactError(
            f"{where}: it is signed by {found.key}, {wanted} is required",
            hint="get the file from whoever holds the required key, or have it signed anew",
        )
    try:
        key.verify(binascii.a2b_base64(found.signature), _DOMAIN + manifest)
    except InvalidSignature:
        raise ArtifactError(
            f"{where}: its signature is wrong: it was altered after {wanted} signed it, or the "
            "signature is of another file",
            hint="do not use it; get it again from whoever signed it",
        ) from None


def _encode(found: Signature) -> bytes:
    return msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n"


def _key_bytes(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:  # it may be a pipe from a password manager
            return file.read(_MAX_KEY_BYTES)
    except OSError as error:
        raise UsageError(
            f"{path}: the key cannot be read: {error.strerror or error}", hint=_MAKE_ONE
        ) from error


def _no_key(path: Path, kind: str, reason: str) -> UsageError:
    return UsageError(f"{path}: not an Ed25519 {kind} key: {reason}", hint=_MAKE_ONE)
