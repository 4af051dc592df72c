"""Files made to harm: each trick is refused with a sentence of its own, and little memory."""

import json
import struct
import subprocess
import sys
import warnings
import zipfile

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import tod
from tests.conftest import ROOT
from tests.support import hostile
from tod.errors import ArtifactError
from tod.format import arrays, artifact, container, graph, manifest, manifest_checks, wire
from tod.format import onnx_messages as onnx_format

CENTRAL, END = b"PK\x01\x02", b"PK\x05\x06"


def rezip(path, change=None, *, method=zipfile.ZIP_STORED, more=(), comment=b""):
    """The file again, written by zipfile with one thing changed."""
    members = hostile.members_of(path)
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", method) as archive:
        warnings.simplefilter("ignore")  # zipfile's own, at a name that is there already
        for name, data in [*members.items(), *more]:
            entry = zipfile.ZipInfo(name)
            entry.create_system, entry.external_attr = 3, 0o644 << 16
            entry.compress_type = method
            if change:
                change(entry)
            archive.writestr(entry, data)
        archive.comment = comment


def edited(path, offset, data):
    """Bytes at an offset from the first header (>= 0) or the end record (< 0) changed."""
    content = bytearray(path.read_bytes())
    start = offset if offset >= 0 else len(content) + offset
    content[start : start + len(data)] = data
    path.write_bytes(content)


def between(path):
    """Bytes that no directory knows of, between two members."""
    data = path.read_bytes()
    second = data.index(b"PK\x03\x04", 4)
    path.write_bytes(data[:second] + b"hidden" + data[second:])


def overlapping(path):
    """Two directory entries show the same member."""
    data = bytearray(path.read_bytes())
    first = data.index(CENTRAL)
    second = data.index(CENTRAL, first + 4)
    data[second + 42 : second + 46] = data[first + 42 : first + 46]
    path.write_bytes(data)


def extra(entry):
    entry.extra = struct.pack("<HHI", 0xCAFE, 4, 0)


def zip64(entry):
    entry.extra = struct.pack("<HHQQ", 1, 16, 1 << 40, 1 << 40)


def link(entry):
    entry.external_attr = 0o120777 << 16


def note(entry):
    entry.comment = b"hello"


TRICKS = {
    "a second member of the same name": (
        lambda p: rezip(p, more=[("manifest.json", b"{}")]), "it holds 'manifest.json'"),
    "a member too many": (lambda p: rezip(p, more=[("x.txt", b"")]), "it holds 'x.txt'"),
    "a way out of the folder": (
        lambda p: rezip(p, more=[("../../x", b"")]), "it holds '../../x'"),
    "an absolute name": (lambda p: rezip(p, more=[("/etc/x", b"")]), "it holds '/etc/x'"),
    "a folder": (lambda p: rezip(p, more=[("x/", b"")]), "it holds 'x/'"),
    "a bomb": (lambda p: rezip(p, method=zipfile.ZIP_DEFLATED), "the compression 8, wanted 0"),
    "an archive comment": (lambda p: rezip(p, comment=b"hello"), "is not as TOD writes it"),
    "a member's comment": (lambda p: rezip(p, note), "is not as TOD writes it"),
    "an extra field": (lambda p: rezip(p, extra), "the extra length 8, wanted 0"),
    "zip64": (lambda p: rezip(p, zip64), "the extra length 20, wanted 0"),
    "a link": (lambda p: rezip(p, link), "is not as TOD writes it"),
    "encryption": (lambda p: edited(p, 6, b"\1\0"), "the flags 1, wanted 0"),
    "a data descriptor": (lambda p: edited(p, 6, b"\x08\0"), "the flags 8, wanted 0"),
    "a local size of its own": (lambda p: edited(p, 18, b"\1\0\0\0"), "the stored size 1, wanted"),
    "a size beyond the end": (
        lambda p: edited(p, 18, b"\xff\xff\xff\x3f" * 2), "it ends within the member"),
    "a size over 1 GiB": (lambda p: edited(p, 18, b"\xff\xff\xff\x7f" * 2), "over 1 GiB"),
    "something before it": (
        lambda p: p.write_bytes(b"#!/bin/sh\n" + p.read_bytes()), "its beginning is not"),
    "something after it": (lambda p: p.write_bytes(p.read_bytes() + b"\0"), "follows the member"),
    "something between": (between, "what follows the member"),
    "overlapping members": (overlapping, "what follows the member"),
    "another count": (lambda p: edited(p, -14, b"\x09\0"), "what follows the member"),
    "another start of the directory": (
        lambda p: edited(p, -6, b"\0\0\0\0"), "what follows the member"),
    "no file at all": (lambda p: p.write_bytes(b""), "it is an empty file"),
}  # fmt: skip


@pytest.mark.parametrize("trick", TRICKS)
def test_zip_tricks(tiny, trick):
    change, message = TRICKS[trick]
    change(tiny)
    with pytest.raises(ArtifactError, match=message) as caught:
        artifact.read(tiny)
    assert caught.value.exit_code == 4


def test_a_file_that_shrinks_while_it_is_read(tiny):
    with container.opened(tiny) as file:
        members = container.walk(file, hostile.ORDER, where="x")
        next(members)
        tiny.write_bytes(tiny.read_bytes()[:4000])
        with pytest.raises(ArtifactError, match="another CRC-32"):
            list(members)


def test_a_large_file_that_changes_between_check_and_use(tiny, monkeypatch):
    """A large file is not held in memory, and so read twice."""
    monkeypatch.setattr(container, "_HELD_BYTES", 0)
    good = artifact.read(tiny)
    with container.opened(tiny) as file:
        entries = list(container.walk(file, hostile.ORDER, where="x"))
        content = bytearray(tiny.read_bytes())
        content[entries[1].offset + 5] ^= 1
        with open(tiny, "r+b") as other:
            other.write(content)
        with pytest.raises(ArtifactError, match="changed while it was read"):
            container.content(file, entries[1], where="x")
    assert good.manifest.kind == "model"


def model(nodes=None, initializers=(), change=None) -> bytes:
    value = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", 3]) for n in ("x", "y")]
    nodes = nodes or [helper.make_node("Relu", ["x"], ["y"], name="relu")]
    body = helper.make_graph(nodes, "g", value[:1], value[1:], initializer=list(initializers))
    made = helper.make_model(body, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    if change:
        change(made)
    return made.SerializeToString()


def tensor(**fields) -> TensorProto:
    made = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2], raw_data=bytes(8))
    for name, value in fields.items():
        made.ClearField(name)
        if isinstance(value, list):
            getattr(made, name).extend(value)
        elif value is not None:
            setattr(made, name, value)
    return made


def sequence(made):
    made.graph.input[0].type.sequence_type.elem_type.tensor_type.elem_type = 1


def attribute(**fields):
    return helper.make_node("Relu", ["x"], ["y"]), fields


def with_attribute(change):
    def apply(made):
        change(made.graph.node[0].attribute.add(name="a"))

    return apply


GRAPHS = {
    "too few bytes": (model([], [tensor(dims=[3])]), "has 8 bytes, its shape .3. wants 12"),
    "endless dimensions": (model([], [tensor(dims=[1 << 40, 1 << 40])]), "has the shape"),
    "a negative dimension": (model([], [tensor(dims=[-1])]), "has the shape"),
    "many dimensions": (model([], [tensor(dims=[1] * 9)]), "has the shape"),
    "numbers twice": (model([], [tensor(float_data=[1.0, 2.0])]), "has its numbers in"),
    "texts": (
        model([], [tensor(raw_data=None, data_type=8, string_data=[b"a"])]), "field 6 of Tensor"),
    "a type of its own": (model([], [tensor(data_type=99)]), "type 99"),
    "a segment": (
        model(change=lambda m: m.graph.initializer.add().segment.SetInParent()), "field 3 of"),
    "a sparse tensor": (
        model(change=lambda m: m.graph.sparse_initializer.add()), "sparse tensors"),
    "quantization": (
        model(change=lambda m: m.graph.quantization_annotation.add()), "field 14 of Graph"),
    "types of inner values": (
        model(change=lambda m: m.graph.value_info.add(name="z")), "field 13 of Graph"),
    "training information": (
        model(change=lambda m: m.training_info.add()), "training information"),
    "a sequence": (model(change=sequence), "field 4 of Type"),
    "a doc string": (
        model(change=lambda m: setattr(m, "doc_string", "x" * 9999)), "field 6 of Model"),
    "a long name": (
        model(change=lambda m: setattr(m.graph.node[0], "name", "x" * 9999)), "text of 9,999"),
    "a name that is no text": (model().replace(b"relu", b"re\xffu"), "not UTF-8"),
    "a reference": (
        model(change=with_attribute(lambda a: setattr(a, "ref_attr_name", "b"))),
        "attributes of a function"),
    "an attribute of two values": (
        model(change=with_attribute(lambda a: (setattr(a, "i", 1), setattr(a, "f", 1)))),
        "a kind that is not read"),
    "a long list": (
        model(change=with_attribute(lambda a: (a.ints.extend([1] * 5000), setattr(a, "type", 7)))),
        "more than 4,096 numbers"),
    "a graph twice": (model() + model(), "twice"),
    "two opsets": (
        model(change=lambda m: m.opset_import.add(domain="", version=18)), "operator domains"),
    "no opset": (model(change=lambda m: m.ClearField("opset_import")), "operator domains"),
    "a group": (model() + b"\x3b\x3c", "of wire type 3"),
    "an endless number": (b"\x08" + b"\xff" * 20, "more than 10 bytes"),
    "nothing": (b"", "operator domains"),
}  # fmt: skip


@pytest.mark.parametrize("trick", GRAPHS)
def test_graph_tricks(trick):
    data, message = GRAPHS[trick]
    with pytest.raises(ArtifactError, match=message) as caught:
        graph.inspect(data, where="bad.onnx")
    assert caught.value.problem.startswith("bad.onnx: the graph is refused: ")
    assert len(caught.value.problem) < 1000


def test_what_is_refused_was_good_before():
    for values in ({}, {"raw_data": None, "float_data": [1.0, 2.0]}):
        found = graph.inspect(model([], [tensor(**values)]), where="x")
        assert found.operators == {"Relu": 1}


def replaced(data, **changes):
    """The manifest with values at dotted places changed; "__" stands for the dot."""
    made = json.loads(data)
    for place, value in changes.items():
        *way, last = place.split("__")
        inner = made
        for step in way:
            inner = inner[int(step) if step.isdecimal() else step]
        inner[int(last) if last.isdecimal() else last] = value
    return json.dumps(made).encode()


MANIFESTS = {
    "not a number": (lambda d: d.replace(b'"lr": 0.1', b'"lr": NaN'), "not valid"),
    "an endless number": (lambda d: d.replace(b'"lr": 0.1', b'"lr": 1e999'), "not valid"),
    "an endless whole number": (lambda d: replaced(d, batch_size=10**18), "batch_size is 1000"),
    "no batch": (lambda d: replaced(d, batch_size=0), "batch_size is 0 .x 1., wanted 1 to"),
    "depth": (lambda d: d[:1] + b'"x":' + b"[" * 10**6 + d[1:], "not valid"),
    "size": (lambda d: d + b" " * (4 << 20), "at most 4,194,304 are read"),
    "an escape": (lambda d: replaced(d, head="\x1b]0;owned\x07"), r"head is a text of 10 .*\\x1b"),
    "a line in a class": (
        lambda d: replaced(d, class_names=["a\nerror: b", "c"], class_count=2), "class_names is"),
    "turned writing": (lambda d: replaced(d, head="a\u202eb"), "head is a text"),
    "half a letter": (lambda d: d.replace(b'"format": "tod"', b'"format": "\\ud800"'), "not valid"),
    "a long text": (lambda d: replaced(d, trainable="x" * 5000), "text of 5000"),
    "a large tensor": (lambda d: replaced(d, tensors__0__shape=[1 << 28, 1 << 28]), "bytes"),
    "many axes": (lambda d: replaced(d, tensors__0__shape=[1] * 40), "40 axes"),
    "a negative axis": (lambda d: replaced(d, tensors__0__shape=[-8]), "has the shape"),
    "large features": (
        lambda d: replaced(d, backbone__feature_shape=[1 << 20, 1 << 20]), "numbers"),
    "a schedule of no period": (
        lambda d: replaced(d, optimizer__schedule={"kind": "step", "gamma": 0.5}), "schedule"),
    "many classes": (lambda d: replaced(d, class_count=1 << 50), "bytes"),
}  # fmt: skip


@pytest.mark.parametrize("trick", MANIFESTS)
def test_manifest_tricks(tiny_file, trick):
    change, message = MANIFESTS[trick]
    good = hostile.members_of(tiny_file)["manifest.json"]
    data = change(good)
    assert data != good
    with pytest.raises(ArtifactError, match=message) as caught:
        manifest_checks.decode(data, where="x.tod")
    assert "\x1b" not in str(caught.value)


def safetensors(table: object, content: bytes = b"", length: int | None = None) -> bytes:
    head = json.dumps(table).encode()
    return struct.pack("<Q", len(head) if length is None else length) + head + content


def entry(dtype="F32", shape=(1,), offsets=(0, 4)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


@pytest.mark.parametrize(
    "data",
    [
        safetensors({"a": entry(), "b": entry()}, bytes(4)),  # the same bytes twice
        safetensors({"a": entry(offsets=(4, 8))}, bytes(8)),  # bytes of no tensor
        safetensors({"a": entry(offsets=(0, 8))}, bytes(8)),
        safetensors({"a": entry(shape=(1 << 62, 4))}, bytes(4)),
        safetensors({"a": entry(shape=(-1,))}, bytes(4)),
        safetensors({"a": entry("F99")}, bytes(4)),
        safetensors({"a": entry("BF16", (2,))}, bytes(4)),
        safetensors({"a": entry()}, bytes(3)),
        safetensors({"a": entry()}, bytes(5)),
        safetensors({"a": entry()}, bytes(4), length=1 << 62),
        safetensors({"a": entry()}, bytes(4), length=3 << 20),
        safetensors([1], b""),
        b"\0" * 7,
        b"",
    ],
)
def test_state_tricks(data):
    with pytest.raises(ArtifactError, match=r"^x"):
        arrays.arrays_from_bytes(data, where="x")


def test_vectors_of_another_file(tiny):
    """`tod verify` of vectors with other names, or other shapes, is a sentence."""
    from tod.runtime.verify import run_vectors

    found = artifact.read(tiny)
    good = arrays.arrays_from_bytes(found.vectors, where="x")
    for change in (
        lambda v: v.pop("predict.onnx/out.logits"),
        lambda v: v.pop("train.onnx/in.lr"),
        lambda v: v.update({"train.onnx/out.other": np.zeros(1, np.float32)}),
        lambda v: v.update({"features.onnx/out.features": np.zeros((9, 9), np.float32)}),
        lambda v: v.update({"predict.onnx/out.logits": np.zeros((), np.float32)}),
    ):
        vectors = dict(good)
        change(vectors)
        forged = artifact.Artifact(
            tiny, found.manifest, found.graphs, found.state, arrays.arrays_to_bytes(vectors)
        )
        with pytest.raises(ArtifactError, match="test vector"):
            run_vectors(forged)


def folded(name):
    """A file of a few hundred bytes from which onnxruntime, left alone, makes gigabytes while it
    loads."""

    def constant(label, value):
        return numpy_helper.from_array(np.asarray(value), label)

    wide = np.ones((1 << 14, 1), np.float32)
    nodes, constants = {
        "ConstantOfShape": (
            [helper.make_node("ConstantOfShape", ["s"], ["c"])],
            [constant("s", np.array([1 << 29], np.int64))]),
        "product": (
            [helper.make_node("Mul", ["a", "b"], ["c"])],
            [constant("a", wide), constant("b", wide.T)]),
        "doubling": (
            [helper.make_node("Concat", [f"c{i}" if i else "a"] * 2, [f"c{i + 1}"], axis=0)
             for i in range(28)],
            [constant("a", np.ones(4, np.float32))]),
        "Range": (
            [helper.make_node("Range", ["a", "b", "d"], ["c"])],
            [constant("a", np.float32(0)), constant("b", np.float32(1 << 24)),
             constant("d", np.float32(0.0625))]),
    }[name]  # fmt: skip
    last = nodes[-1].output[0]
    nodes += [helper.make_node("ReduceSum", [last], ["r"], keepdims=0)]
    return model([*nodes, helper.make_node("Add", ["x", "r"], ["y"])], constants)


# Run in a process of its own: VmHWM is the peak of this program alone, where ru_maxrss would begin
# with that of the process it was started from.
PEAK = """
import re, sys
from pathlib import Path
from tod.format import arrays, artifact, graph, manifest_checks
from tod.runtime.engine import Engine
from tod.errors import TodError
folder = Path(sys.argv[1])
read = {
    ".tod": artifact.read,
    ".onnx": lambda path: graph.inspect(path.read_bytes(), where="x"),
    ".json": lambda path: manifest_checks.decode(path.read_bytes(), where="x"),
    ".tensors": lambda path: arrays.arrays_from_bytes(path.read_bytes(), where="x"),
    ".folded": lambda path: Engine({"features.onnx": path.read_bytes()}).load("features.onnx"),
}
for path in sorted(folder.iterdir()):
    try:
        read[path.suffix](path)
        said = "accepted"
    except TodError as error:
        said = error.problem
    peak = re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())
    print(path.name, int(peak.group(1)) // 1024, said, sep="\\t")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of memory is read from /proc")
@pytest.mark.promise("Refusing takes little memory", "files made to need much, at most 200 MB")
def test_peak_memory_of_refusing(tiny, tmp_path, trials):
    folder = tmp_path / "large"
    folder.mkdir()
    members = hostile.members_of(tiny)
    with open(folder / "sparse.tod", "wb") as file:
        file.truncate(1 << 31)
    with open(folder / "zeros.tod", "wb") as file:  # 300 MB of a member that is not what it says
        file.write(container.pack([("manifest.json", members["manifest.json"])]).split(CENTRAL)[0])
        head = container.pack([("features.onnx", b"")])[:30]
        size = struct.pack("<2I", 300 << 20, 300 << 20)
        file.write(head[:18] + size + head[26:] + b"features.onnx")
        file.truncate(301 << 20)
    (folder / "nodes.onnx").write_bytes(b"\x3a\x84\xad\xe2\x04" + b"\x0a\x00" * 5_000_002)
    (folder / "numbers.onnx").write_bytes(
        model(change=with_attribute(lambda a: a.ints.extend([1] * 3_000_000)))
    )
    (folder / "tensor.onnx").write_bytes(model([], [tensor(dims=[3], raw_data=bytes(40 << 20))]))
    empties = (b"[" + b"[]," * 1_300_000 + b"[]]", b'{"x":' + b"[" * 100 + b"]" * 100 + b"}")
    for index, text in enumerate(empties):
        (folder / f"{index}.json").write_bytes(text)
    names = b",".join(b'"%d":""' % i for i in range(300_000))
    (folder / "names.json").write_bytes(
        members["manifest.json"].replace(b'"built_with": {', b'"built_with": {' + names + b",")
    )
    table = {f"t{i}": entry(offsets=(4 * i, 4 * i + 4)) for i in range(30_000)}
    (folder / "table.tensors").write_bytes(safetensors(table))
    for name in ("ConstantOfShape", "product", "doubling", "Range"):
        (folder / f"{name}.folded").write_bytes(folded(name))
    for _ in trials(1, soak=1):
        done = subprocess.run(
            [sys.executable, "-c", PEAK, folder],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        lines = [line.split("\t") for line in done.stdout.splitlines()]
        assert len(lines) == len(list(folder.iterdir()))
        accepted = {name for name, _, said in lines if said == "accepted"}
        assert all(name.endswith(".folded") for name in accepted), done.stdout
        assert max(int(peak) for _, peak, _ in lines) < 200, done.stdout


def test_the_bombs_are_good_onnx():
    """What the test above gives to onnxruntime is not refused for another reason."""
    for name in ("ConstantOfShape", "product", "doubling", "Range"):
        data = folded(name)
        onnx.checker.check_model(data)
        assert graph.inspect(data, where=name).operators["ReduceSum"] == 1


def test_a_list_of_numbers_that_comes_twice():
    """Of such lists only the length is read: two of the same length are twice as many."""
    once = bytes([7 << 3 | 2, 3, 1, 2, 3])
    reader = wire.Reader(onnx_format.MESSAGES, forbidden={}, max_values=100, max_text_bytes=100)
    assert reader.read(memoryview(once), "Tensor") == {"int64_data": 3}
    with pytest.raises(wire.WireError, match=r"Tensor\.int64_data twice"):
        reader.read(memoryview(once + once), "Tensor")


def test_features_of_another_shape_than_declared(tiny, pictures):
    described = json.loads(hostile.members_of(tiny)["manifest.json"])
    described["backbone"]["feature_shape"] = [1]
    members = hostile.members_of(tiny) | {"manifest.json": json.dumps(described).encode()}
    members["manifest.json"] = manifest.encode(
        manifest_checks.decode(members["manifest.json"], where="")
    )
    tiny.write_bytes(container.pack(list(members.items())))
    dataset = tod.Dataset.open(pictures, cache=False)
    with pytest.raises(ArtifactError, match=r"the manifest says \[\d+, 1\]"):
        tod.TrainSession.load(tiny, cache=False).evaluate(dataset)
