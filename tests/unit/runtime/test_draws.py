"""Draws are pure functions with the promised shares, and what docs/format.md says of them is
enough to draw the same numbers without NumPy.

`python -m tests.unit.runtime.test_draws` writes tests/files/draws.json anew.
"""

import hashlib
import json
import math
import struct
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tod.data.splits import assign_splits
from tod.format.manifest import Init, Tensor
from tod.runtime.draws import batch_rows, uniform_noise
from tod.runtime.verify import test_tensors as tensors_by_rule

seeds = st.integers(0, 2**32)
FILE = Path(__file__).resolve().parents[2] / "files" / "draws.json"


@given(seeds, st.integers(1, 40), st.integers(1, 40), st.integers(1, 8))
def test_rows_are_dealt_evenly(seed, batch_size, rows, cycles):
    dealt = [
        row
        for cycle in range(1, cycles + 1)
        for row in batch_rows(seed=seed, cycle=cycle, batch_size=batch_size, rows=rows)
    ]
    assert len(dealt) == batch_size * cycles
    counts = Counter(dealt)
    assert set(counts) <= set(range(rows))
    times = [counts[row] for row in range(rows)]
    assert max(times) - min(times) <= 1


def test_batches_are_the_same_in_every_numpy_version():
    """Recorded with NumPy 2.2.6 and 2.5.5: a run can be resumed after an upgrade."""
    batch = batch_rows(seed=7, cycle=3, batch_size=6, rows=10)
    assert batch.tolist() == [6, 1, 4, 8, 3, 2]


@pytest.mark.parametrize("rows", [1, 5])
def test_a_batch_larger_than_the_data_is_full(rows):
    batch = batch_rows(seed=0, cycle=1, batch_size=32, rows=rows)
    assert batch.dtype == np.int64
    assert batch.shape == (32,)


def vectors():
    """The numbers of tests/files/draws.json, as TOD draws them."""
    streams = [
        {"entropy": [0], "spawned": None}, {"entropy": [7, 1], "spawned": None},
        {"entropy": [2**53, 3, 0, 2**32 + 9], "spawned": None}, {"entropy": [5], "spawned": 0},
        {"entropy": [2**40], "spawned": 3},
    ]  # fmt: skip
    batches = [
        {"seed": 7, "cycle": 3, "batch_size": 6, "rows": 10},
        {"seed": 0, "cycle": 1, "batch_size": 9, "rows": 4},
        {"seed": 2**53, "cycle": 1000, "batch_size": 5, "rows": 37},
    ]
    noise = [
        {"seed": 0, "cycle": 1, "batch": 0, "index": 0, "shape": [2, 3]},
        {"seed": 2**40 + 5, "cycle": 12, "batch": 1, "index": 2, "shape": [7]},
    ]
    contents = [hashlib.sha256(bytes([i % 17])).hexdigest() for i in range(20)]
    splits = [
        {"seed": seed, "labels": [i % 3 for i in range(20)], "contents": contents}
        for seed in (0, 2**53)
    ]
    # Classes of five, where nearly every one lacks a split.
    labels, contents = [i // 5 for i in range(30)], [f"{i:064x}" for i in range(30)]
    splits += [{"seed": seed, "labels": labels, "contents": contents} for seed in range(3)]
    tensors = [
        {"shape": [3, 5], "dtype": "float32", "role": "parameter"},
        {"shape": [3], "dtype": "float32", "role": "parameter"},
        {"shape": [], "dtype": "int64", "role": "slot"},
        {"shape": [3, 2], "dtype": "float32", "role": "slot"},
        {"shape": [2, 3, 1], "dtype": "float32", "role": "statistic"},
    ]
    described = SimpleNamespace(
        tensors=[
            Tensor(str(i), tuple(t["shape"]), t["dtype"], t["role"], Init())
            for i, t in enumerate(tensors)
        ]
    )
    made = tensors_by_rule(described, 3)
    return {
        "streams": [{**case, "words": numpy_words(**case)} for case in streams],
        "batches": [{**case, "result": batch_rows(**case).tolist()} for case in batches],
        "noise": [{**case, "result": uniform_noise(**case).ravel().tolist()} for case in noise],
        "splits": [
            {**c, "result": assign_splits(c["labels"], c["contents"], c["seed"])} for c in splits
        ],
        "test_tensors": [
            {**case, "result": made[str(index)].ravel().tolist()}
            for index, case in enumerate(tensors)
        ],
    }


def numpy_words(entropy, spawned):
    """Nine words as hex digits: numbers of JSON are not whole everywhere beyond 2^53."""
    sequence = np.random.SeedSequence(entropy)
    if spawned is not None:
        sequence = np.random.SeedSequence(entropy[0]).spawn(spawned + 1)[spawned]
    return [f"{int(word):016x}" for word in np.random.Philox(sequence).random_raw(9)]


def test_the_code_gives_the_vectors():
    assert json.loads(FILE.read_text()) == vectors()


# From here on nothing of NumPy and nothing of TOD: written from docs/format.md, section Draws.
LOW = (1 << 32) - 1
LONG = (1 << 64) - 1


def words_of(number):
    found = [number & LOW]
    while number := number >> 32:
        found.append(number & LOW)
    return found


def key(numbers, spawned):
    words = [word for number in numbers for word in words_of(number)]
    if spawned is not None:
        words += [0] * (4 - len(words)) + words_of(spawned)
    constant = 0x43B0D7E5

    def hashed(x):
        nonlocal constant
        x ^= constant
        constant = constant * 0x931E8875 & LOW
        x = x * constant & LOW
        return x ^ x >> 16

    def mix(x, y):
        z = (0xCA01F9DD * x - 0x4973F715 * y) & LOW
        return z ^ z >> 16

    pool = [hashed(words[i] if i < len(words) else 0) for i in range(4)]
    for source in range(4):
        for target in range(4):
            if source != target:
                pool[target] = mix(pool[target], hashed(pool[source]))
    for word in words[4:]:
        for target in range(4):
            pool[target] = mix(pool[target], hashed(word))
    made, c = [], 0x8B51F9DD
    for x in pool:
        x ^= c
        c = c * 0x58F38DED & LOW
        x = x * c & LOW
        made.append(x ^ x >> 16)
    return made[0] + (made[1] << 32), made[2] + (made[3] << 32)


def block(n, k0, k1):
    x0, x1, x2, x3 = n, 0, 0, 0
    for _ in range(10):
        a, b = 0xD2E7470EE14C6C93 * x0, 0xCA5A826395121157 * x2
        x0, x1, x2, x3 = (b >> 64) ^ x1 ^ k0, b & LONG, (a >> 64) ^ x3 ^ k1, a & LONG
        k0, k1 = k0 + 0x9E3779B97F4A7C15 & LONG, k1 + 0xBB67AE8584CAA73B & LONG
    return x0, x1, x2, x3


def stream(numbers, count, spawned=None):
    k0, k1 = key(numbers, spawned)
    return [word for n in range(1, count // 4 + 2) for word in block(n, k0, k1)][:count]


def rows_of(seed, cycle, batch_size, rows):
    found = []
    for place in range((cycle - 1) * batch_size, cycle * batch_size):
        deal, within = divmod(place, rows)
        words = stream([seed, deal], rows)
        found.append(sorted(range(rows), key=lambda row, words=words: (words[row], row))[within])
    return found


def noise_of(seed, cycle, batch, index, shape):
    words = stream([seed, cycle, batch, index], math.prod(shape))
    return [(word >> 40) * 2.0**-24 for word in words]


def splits_of(seed, labels, contents):
    def place(content):
        digest = hashlib.sha256(f"{seed}\n{content}".encode()).digest()
        return int.from_bytes(digest[:6], "big") / 2**48

    names = {0.6: "train", 0.8: "test", 1.0: "validation"}
    found = {c: next(name for top, name in names.items() if place(c) < top) for c in contents}
    classes = {c: {o for o, own in zip(contents, labels, strict=True) if own == c} for c in labels}

    def another(content):
        own = [others for others in classes.values() if content in others]
        return all(sum(found[o] == found[content] for o in others) > 1 for others in own)

    for _, members in sorted(classes.items(), key=lambda item: min(item[1])):
        for split in ("validation", "test", "train"):
            spare = sorted(filter(another, members), key=place)
            if spare and all(found[content] != split for content in members):
                found[spare[0 if split == "train" else -1]] = split
    return [found[content] for content in contents]


def single(number):
    """Rounded to float32."""
    return struct.unpack("<f", struct.pack("<f", number))[0]


def tensor_of(index, shape, dtype, role):
    if dtype == "int64":
        return [1] * math.prod(shape)
    noise = noise_of(0, 0, 0, index, shape)
    if role in ("slot", "accumulator"):
        return [single(single(0.01) * u) for u in noise]
    if len(shape) > 1:
        s = single(math.sqrt(3 / math.prod(shape[1:])))
        return [single(s * single(single(2 * u) - 1)) for u in noise]
    return [single(0.5 + single(u / 2)) for u in noise]


def test_the_description_gives_the_vectors():
    wanted = json.loads(FILE.read_text())

    def given(case):
        return {name: value for name, value in case.items() if name != "result"}

    for case in wanted["streams"]:
        words = stream(case["entropy"], 9, case["spawned"])
        assert [f"{word:016x}" for word in words] == case["words"]
    for name, rule in {"batches": rows_of, "noise": noise_of, "splits": splits_of}.items():
        for case in wanted[name]:
            assert rule(**given(case)) == case["result"], case
    for index, case in enumerate(wanted["test_tensors"]):
        assert tensor_of(index, **given(case)) == case["result"], case


if __name__ == "__main__":
    FILE.write_text(json.dumps(vectors(), indent=1) + "\n")
