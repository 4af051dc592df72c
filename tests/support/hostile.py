"""What an attacker, or a bad disk, makes of a .tod file; shared by the tests and the fuzzer.

`raw` changes bytes of the file. `deep` changes what is in a member and then makes hashes and
layout right again, so that the readers behind them see it.
"""

from __future__ import annotations

import hashlib
import json
import random
import zipfile
from pathlib import Path

from tod.format import container

ORDER = (
    "manifest.json", "features.onnx", "train.onnx", "predict.onnx", "vectors.safetensors",
    "state.safetensors",
)  # fmt: skip


def members_of(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def sealed(members: dict[str, bytes]) -> bytes:
    """A file with right layout and hashes, whatever the members are; a manifest that is no JSON
    stays as it is."""
    try:
        manifest = json.loads(members["manifest.json"])
        for name, data in members.items():
            if name != "manifest.json":
                sha256 = hashlib.sha256(data).hexdigest()
                manifest["members"][name] = {"bytes": len(data), "sha256": sha256}
        text = json.dumps(manifest, ensure_ascii=False, indent=1).encode() + b"\n"
        members = members | {"manifest.json": text}
    except (ValueError, TypeError, KeyError, RecursionError):
        pass
    return container.pack([(name, members[name]) for name in ORDER if name in members])


def raw(rng: random.Random, data: bytes, other: bytes) -> bytes:
    """A damaged copy of `data`; `other` is a second file that parts are taken from."""
    changed, kind = bytearray(data), rng.randrange(8)
    first, second = sorted(rng.randrange(len(data)) for _ in range(2))
    length = rng.randint(1, 1 + rng.randrange(4096))
    if kind == 0:
        changed[first] ^= 1 << rng.randrange(8)
    elif kind == 1:
        del changed[first:]
    elif kind == 2:
        changed[first:first] = rng.randbytes(length)
    elif kind == 3:
        del changed[first : first + length]
    elif kind == 4:  # two blocks change places
        one, two = changed[first : first + length], changed[second : second + length]
        changed[second : second + length], changed[first : first + length] = one, two
    elif kind == 5:
        changed[first : first + length] = other[first : first + length]
    elif kind == 6:  # the sector that was never written
        changed[first : first + 512] = bytes(len(changed[first : first + 512]))
    else:
        changed += rng.choice([b"\0", rng.randbytes(length), other])
    return bytes(changed)


def deep(rng: random.Random, members: dict[str, bytes]) -> bytes:
    """A file that is right on the outside, with one member damaged."""
    name = rng.choice(ORDER)
    data = bytearray(members[name])
    for _ in range(rng.choice([1, 1, 2, 5, 50])):
        place = rng.randrange(len(data))
        kind = rng.randrange(5)
        if kind == 0:
            data[place] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[place] = rng.choice([0, 1, 0x7F, 0x80, 0xFF])
        elif kind == 2:
            data[place : place + rng.randrange(16)] = b""
        elif kind == 3:
            start = rng.randrange(len(data))
            data[place:place] = data[start : start + rng.randrange(64)]
        elif name == "manifest.json":
            data[place:place] = rng.choice([b"0", b"-", b"9" * 20, b"[", b'"', b"null", b"1e999"])
    return sealed(members | {name: bytes(data)})
