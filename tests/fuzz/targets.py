"""Every reader of what comes from elsewhere, as a function of bytes that may raise nothing.

A TodError is what a reader is to say; anything else is a finding. Needs neither torch nor pytest.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.support import hostile
from tod.data import file_hashes as contents
from tod.data.dataset import Dataset
from tod.data.image import encode
from tod.data.index import read_index
from tod.errors import TodError
from tod.format import arrays, artifact, graph, manifest, manifest_checks, schedule
from tod.report import course, page_run
from tod.runtime import cache_folder as cache
from tod.runtime.feature_cache import FeatureCache

HERE = Path(__file__).resolve().parent
SEED = HERE.parent / "files" / "bound.tod"
ORIGIN = {"shape": [2], "graph": "0" * 64}
RUN_LOG = b"""{"record":"started","model":"a.tod","backbone":"n","classes":["a","b"],"pictures":{},
"trainable_parameters":9,"optimizer":"sgd","run":{"cycles":4,"batch_size":4,"lr":0.1,"eval_every":2,
"target_accuracy":1.0,"patience":2,"save_every":0,"seed":0,"split_seed":0,"pictures":{},
"data_sha256":""},"first_cycle":1,"threads":2,"seconds":0.1}
{"record":"cycle_done","cycle":1,"cycles":4,"loss":2.5,"min_loss":2.5,"lr":0.1,"seconds":0.2}
{"record":"evaluated","split":"test","cycle":1,"accuracy":0.5,"max_accuracy":0.5,"correct":1,
"total":2,"metric":"accuracy"}
{"record":"stopped","reason":"patience","cycle":1,"kept_cycle":1}
""".replace(b",\n", b",")


@functools.cache
def folder() -> Path:
    """A folder of this process with six small pictures in it."""
    made = Path(tempfile.mkdtemp(prefix="tod-fuzz-"))
    for index in range(6):
        (made / f"{index}.png").write_bytes(encode(np.full((1, 1, 3), index, np.uint8), "png"))
    return made


@functools.cache
def seeds() -> dict[str, bytes]:
    """The members of a model with a head and class names."""
    return hostile.members_of(SEED)


def whole_file(data: bytes) -> None:
    path = folder() / "x.tod"
    path.write_bytes(data)
    artifact.read(path)


def sealed_file(data: bytes) -> None:
    """One member is `data` without its first byte, which chooses the member."""
    name = hostile.ORDER[data[0] % len(hostile.ORDER)] if data else "manifest.json"
    whole_file(hostile.sealed(seeds() | {name: data[1:]}))


def manifest_json(data: bytes) -> None:
    found = manifest_checks.decode(data, where="x")
    again = manifest_checks.decode(manifest.encode(found), where="x")
    assert again == found


def onnx_graph(data: bytes) -> None:
    graph.inspect(data, where="x")


def state_arrays(data: bytes) -> None:
    arrays.arrays_from_bytes(data, where="x")


def dataset_json(data: bytes) -> None:
    path = folder() / "dataset.json"
    path.write_bytes(data)
    try:
        read_index(path)
        Dataset.open(folder(), cache=False)
    finally:
        path.unlink()


def targets_csv(data: bytes) -> None:
    path = folder() / "targets.csv"
    path.write_bytes(data)
    try:
        Dataset.open(folder(), cache=False).digest()
    finally:
        path.unlink()


def cache_rows(data: bytes) -> None:
    """The records of a file of features whose head is right."""
    place = folder() / "rows"
    with contextlib.suppress(OSError):
        cache.clear(place)
    FeatureCache((2,), folder=place, origin=ORIGIN)
    (file,) = place.glob("features-*.rows")
    with open(file, "ab") as stream:
        stream.write(data)
    opened = FeatureCache((2,), folder=place, origin=ORIGIN)
    sha256 = hashlib.sha256(data).hexdigest()
    opened.add([sha256], np.ones((1, 2), np.float32))
    assert opened.take(opened.places([sha256])).shape == (1, 2)


def cache_head(data: bytes) -> None:
    """The first page of a file of features, as `tod cache info` reads it."""
    place = folder() / "head"
    place.mkdir(exist_ok=True)
    (place / f"features-{'0' * 16}.rows").write_bytes(b"tod-rows 1\n" + data)
    assert len(cache.cache_files(place)) == 1


def contents_json(data: bytes) -> None:
    """What is remembered of a folder's files, with a right check sum."""
    place = folder() / "contents"
    place.mkdir(exist_ok=True)
    kept = contents.Contents(folder(), place)
    kept.read("0.png")
    kept._changed = True
    kept.save()
    (file,) = place.glob("contents-*.json")
    file.write_bytes(b"tod-contents 1 %08x\n" % zlib.crc32(data) + data)
    assert contents.Contents(folder(), place).sha256("0.png")


def schedule_text(data: bytes) -> None:
    found = schedule.parse(data.decode("utf-8", "replace"))
    assert schedule.parse(str(found)).kind == found.kind
    assert all(found.rate(0.1, step, 100) >= 0 for step in (0, 1, 99, 10**9))


def run_log(data: bytes) -> None:
    """What the log of a run says, drawn as on the page of a report."""
    path = folder() / "run.jsonl"
    path.write_bytes(data)
    page_run.curves(course.read_log(path))


TARGETS: dict[str, Callable[[bytes], None]] = {
    function.__name__: function
    for function in (
        whole_file, sealed_file, manifest_json, onnx_graph, state_arrays, dataset_json,
        targets_csv, cache_rows, cache_head, contents_json, schedule_text, run_log,
    )
}  # fmt: skip


def once(target: str, data: bytes) -> None:
    """Give a target one input. Any error but a TodError comes through."""
    with contextlib.suppress(TodError):
        TARGETS[target](data)


def seed_inputs(target: str) -> list[bytes]:
    """Good inputs to start from."""
    members = seeds()
    index = b"""{"format":"tod-dataset","schema":1,"size_px":16,"resize_px":18,"interpolation":
    "bicubic","picture_format":"png","seed":0,"per_class":null,"classes":[{"name":"a","folder":"a"},
    {"name":"b","folder":"b"}],"files":[{"file":"0.png","label":0,"split":"train","sha256":"0",
    "source":"x","source_sha256":"0"}]}"""
    return {
        "whole_file": [SEED.read_bytes()],
        "sealed_file": [bytes([i]) + members[name] for i, name in enumerate(hostile.ORDER)],
        "manifest_json": [members["manifest.json"]],
        "onnx_graph": [members[name] for name in hostile.ORDER if name.endswith(".onnx")],
        "state_arrays": [members["state.safetensors"], members["vectors.safetensors"]],
        "dataset_json": [index],
        "targets_csv": [b"file,kg,m\n" + b"".join(b"%d.png,%d,1\n" % (i, i) for i in range(6))],
        "cache_rows": [hashlib.sha256(b"x").digest() + bytes(40)],
        "cache_head": [b'{"shape":[2],"graph":"00","runtime":"onnxruntime","processor":"x"}'],
        "contents_json": [b'{"0.png":[1,2,3,"%s"]}' % (b"0" * 64)],
        "run_log": [RUN_LOG],
        "schedule_text": [
            b"cosine:period=20,multiply=2,warmup=5,floor=0.01",
            b"step:period=3,gamma=.1",
        ],
    }[target]
