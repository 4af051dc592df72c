"""Every operator that TFLite and torch get is what onnxruntime computes."""

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from model.convert import runners, static_graph, to_tflite, to_torch
from model.convert.torch_source import LINES
from tod.errors import UsageError
from tod.runtime.engine import Engine

SIDE = 12
RNG = np.random.default_rng(0)


def constant(*shape, low=-0.5, high=0.5):
    return RNG.uniform(low, high, shape).astype(np.float32)


def network(*nodes, **constants):
    """A graph: pixels -> x float32 [N, 3, S, S] in -1..1 -> the nodes -> y.

    A node is (kind, inputs, outputs, attributes); whatever y is becomes [N, ...].
    """
    made = [
        helper.make_node("Cast", ["pixels"], ["float"], to=1),
        helper.make_node("Mul", ["float", "scale"], ["scaled"]),
        helper.make_node("Add", ["scaled", "shift"], ["last"]),
        helper.make_node("Transpose", ["last"], ["x"], perm=[0, 3, 1, 2]),
    ]
    made += [helper.make_node(k, i.split(), o.split(), **a) for k, i, o, a in nodes]
    constants |= {"scale": np.float32(2 / 255), "shift": np.float32(-1)}
    graph = helper.make_graph(
        made,
        "inference",
        [helper.make_tensor_value_info("pixels", 2, ["N", SIDE, SIDE, 3])],
        [helper.make_empty_tensor_value_info("y")],
        [numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    return model.SerializeToString()


def pixels(count=1):
    return np.random.default_rng(1).integers(0, 256, (count, SIDE, SIDE, 3), np.uint8)


def check(data, *, atol=2e-6):
    """TFLite's and torch's answers are onnxruntime's; torch's for three pictures as well."""
    wanted = Engine({"a": data}).run("a", {"pixels": pixels(3)})["y"]
    graph = static_graph.of(data)
    size = max(1.0, float(np.abs(wanted).max()))
    run = runners.open_file("tflite", to_tflite.convert(graph))
    found = np.concatenate([run(pixels(3)[i : i + 1]) for i in range(3)])
    np.testing.assert_allclose(found, wanted, rtol=0, atol=atol * size)
    files = to_torch.convert(graph, {}, to_torch.About("n", ("a",), "m"))
    module = to_torch.load(files[".py"] + b"\0" + files[".pt"])
    with torch.inference_mode():
        found = module(torch.from_numpy(pixels(3))).numpy()
    np.testing.assert_allclose(found, wanted, rtol=0, atol=atol * size)


def unary(kind, **attributes):
    return network((kind, "x", "y", attributes))


def after(kind, before, **attributes):
    """An operator that takes only some numbers, after one that gives such."""
    return network((before, "x", "a", {}), (kind, "a", "y", attributes))


def binary(kind):
    return network((kind, "x c", "y", {}), c=constant(3, 1, 1, low=0.5, high=2))


def norm():
    return {
        "s": constant(3), "b": constant(3), "m": constant(3), "v": constant(3, low=0.5, high=2),
    }  # fmt: skip


CASES = {
    "Conv": network(
        ("Conv", "x w b", "y", {"pads": [1] * 4}), w=constant(5, 3, 3, 3), b=constant(5)
    ),
    "Gemm": network(
        ("Flatten", "x", "f", {}), ("Gemm", "f w b", "y", {"transB": 1, "alpha": 0.5, "beta": 2.0}),
        w=constant(4, 3 * SIDE**2), b=constant(4),
    ),
    "MatMul": network(("MatMul", "x w", "y", {}), w=constant(SIDE, 5)),
    "MatMul from the left": network(("MatMul", "w x", "y", {}), w=constant(5, SIDE)),
    "MatMul of two": network(
        ("Transpose", "x", "t", {"perm": [0, 1, 3, 2]}), ("MatMul", "x t", "y", {})
    ),
    "MaxPool": unary("MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4),
    "MaxPool up": unary("MaxPool", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1),
    "AveragePool": unary(
        "AveragePool", kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4, count_include_pad=1
    ),
    "AveragePool uncounted": unary(
        "AveragePool", kernel_shape=[3, 3], strides=[1, 1], pads=[1] * 4
    ),
    "Pad": network(("Pad", "x p", "y", {}), p=np.array([0, 0, 1, 2, 0, 0, 3, 0])),
    "Pad with a number": network(
        ("Pad", "x p n", "y", {}), p=np.array([0, 0, 1, 2, 0, 0, 3, 0]), n=np.float32(0.25)
    ),
    "Softmax": unary("Softmax", axis=-1),
    "Softmax of channels": unary("Softmax", axis=1),
    **{kind: binary(kind) for kind in ("Add", "Mul", "Sub", "Div", "Max", "Min")},
    "Add of two": network(
        ("ReduceMean", "x a", "m", {"keepdims": 1}), ("Add", "x m", "y", {}), a=np.array([1])
    ),
    "Mul by fewer axes": network(("Mul", "x c", "y", {}), c=constant(SIDE)),
    **{k: unary(k) for k in ("Sigmoid", "Tanh", "Exp", "Abs", "Neg", "HardSwish", "Relu", "Elu",
                             "Gelu", "HardSigmoid", "LeakyRelu", "GlobalAveragePool",
                             "GlobalMaxPool", "Identity", "Flatten")},
    "Log": after("Log", "Exp"),
    "Sqrt": after("Sqrt", "Abs"),
    "Reciprocal": after("Reciprocal", "Exp"),
    "Erf": network(
        ("Mul", "x r", "a", {}), ("Erf", "a", "e", {}), ("Add", "e one", "p", {}),
        ("Mul", "x p", "q", {}), ("Mul", "q half", "y", {}),
        r=np.float32(2**-0.5), one=np.float32(1), half=np.float32(0.5),
    ),
    "Clip": network(("Clip", "x l h", "y", {}), l=np.float32(-0.25), h=np.float32(0.5)),
    "Clip from below": network(
        ("Clip", "x l h", "y", {}), l=np.float32(-0.25), h=np.float32(np.inf)
    ),
    "Clip to 6": network(
        ("Conv", "x w", "a", {}), ("Clip", "a l h", "y", {}),
        w=constant(4, 3, 1, 1, low=-9, high=9), l=np.float32(0), h=np.float32(6),
    ),
    "Relu of a value used twice": network(
        ("Conv", "x w", "a", {}), ("Relu", "a", "r", {}), ("Add", "a r", "y", {}),
        w=constant(4, 3, 1, 1),
    ),
    "Relu of another name of a value": network(
        ("Conv", "x w", "a", {}), ("Identity", "a", "b", {}), ("Relu", "b", "r", {}),
        ("Add", "a r", "y", {}), w=constant(4, 3, 1, 1),
    ),
    "Relu of a transposed value": network(
        ("Conv", "x w", "a", {}), ("Transpose", "a", "b", {"perm": [0, 2, 3, 1]}),
        ("Relu", "b", "r", {}), ("Transpose", "r", "t", {"perm": [0, 3, 1, 2]}),
        ("Add", "a t", "y", {}), w=constant(4, 3, 1, 1),
    ),
    "PRelu": network(("PRelu", "x c", "y", {}), c=constant(3, 1, 1)),
    "Pow": network(("Pow", "x c", "y", {}), c=np.float32(2)),
    "Pow of 3": network(("Abs", "x", "a", {}), ("Pow", "a c", "y", {}), c=np.float32(3)),
    "Pow of a whole number": network(("Pow", "x c", "y", {}), c=np.array([3])),
    **{k: network((k, "x a", "y", {"keepdims": 0}), a=np.array([2, 3]))
       for k in ("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin")},
    "BatchNormalization": network(("BatchNormalization", "x s b m v", "y", {}), **norm()),
    "LayerNormalization": network(
        ("LayerNormalization", "x s b", "y", {"axis": -1}), s=constant(SIDE), b=constant(SIDE)
    ),
    "Reshape": network(("Reshape", "x s", "y", {}), s=np.array([0, 3 * SIDE, -1])),
    "Squeeze": network(
        ("GlobalAveragePool", "x", "p", {}), ("Squeeze", "p a", "y", {}), a=np.array([2, 3])
    ),
    "Unsqueeze": network(("Unsqueeze", "x a", "y", {}), a=np.array([1])),
    "Transpose": unary("Transpose", perm=[0, 2, 1, 3]),
    "Cast": network(("Cast", "x", "y", {"to": 1})),
    "Concat": network(("Neg", "x", "a", {}), ("Concat", "x a", "y", {"axis": 1})),
    "Concat of rows": network(("Concat", "x x", "y", {"axis": 2})),
    "Split": network(
        ("Split", "x s", "a b", {"axis": 2}), ("Mul", "a a", "c", {}),
        ("Concat", "b c", "y", {"axis": 2}), s=np.array([4, SIDE - 4]),
    ),
    "Slice": network(
        ("Slice", "x s e a", "y", {}),
        s=np.array([1, 2]), e=np.array([9, 2**40]), a=np.array([2, 3]),
    ),
    "Slice backwards": network(
        ("Slice", "x s e a t", "y", {}),
        s=np.array([-1]), e=np.array([-(2**63)]), a=np.array([1]), t=np.array([-1]),
    ),
    "Gather": network(("Gather", "x i", "y", {"axis": 1}), i=np.array([2, 0])),
    "Gather of one": network(("Gather", "x i", "y", {"axis": 2}), i=np.array(3)),
    "Expand": network(
        ("GlobalAveragePool", "x", "p", {}), ("Expand", "p s", "y", {}), s=np.array([1, 3, 4, 4])
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_an_operator_is_what_onnxruntime_computes(case):
    check(CASES[case], atol=1e-5 if "LayerNorm" in case or "ReduceSum" in case else 2e-6)


def test_every_operator_has_a_case():
    known = {case.split(" ")[0] for case in CASES}
    assert set(to_tflite.OPERATORS) <= known
    assert set(LINES) <= known


@settings(max_examples=40)
@given(
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.integers(1, 3),
    gap=st.integers(1, 2),
    pads=st.lists(st.integers(0, 2), min_size=4, max_size=4),
    groups=st.sampled_from([1, 3]),
    wide=st.integers(1, 3),
    activation=st.sampled_from(["Relu", "Sigmoid"]),
)
def test_convolutions_of_all_kinds(kernel, stride, gap, pads, groups, wide, activation):
    attributes = {
        "strides": [stride] * 2, "dilations": [gap] * 2, "pads": pads, "group": groups,
    }  # fmt: skip
    weight = constant(groups * wide, 3 // groups, *kernel)
    check(
        network(
            ("Conv", "x w b", "a", attributes),
            (activation, "a", "y", {}),
            w=weight,
            b=constant(groups * wide),
        )
    )


@settings(max_examples=20)
@given(
    window=st.integers(2, 4),
    stride=st.integers(1, 3),
    pads=st.lists(st.integers(0, 1), min_size=4, max_size=4),
    up=st.booleans(),
)
def test_pools_of_all_kinds(window, stride, pads, up):
    attributes = {"kernel_shape": [window] * 2, "strides": [stride] * 2, "pads": pads}
    check(network(("MaxPool", "x", "y", {**attributes, "ceil_mode": int(up)})))
    check(network(("AveragePool", "x", "y", {**attributes, "count_include_pad": 1})))


def test_grouped_convolutions_that_are_not_depthwise():
    nodes = (("Conv", "x v", "a", {}), ("Conv", "a w", "y", {"group": 2, "pads": [1] * 4}))
    check(network(*nodes, v=constant(4, 3, 1, 1), w=constant(6, 2, 3, 3)))


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        (unary("Sin"), "the operator Sin "),
        (after("Sin", "Cos"), "the operators Cos, Sin"),
        (network(("Pad", "x p", "y", {"mode": "reflect"}), p=np.ones(8, np.int64)), "by reflect"),
        (unary("Elu", alpha=0.5), "its alpha is 0.5, wanted 1"),
        (network(("Conv", "x x", "y", {})), "depends on the picture"),
    ],
)
def test_what_is_not_known_is_refused_by_name(data, wanted):
    model = onnx.load_from_string(data)
    try:
        graph = static_graph.of(data)
    except Exception:  # a convolution by the picture itself cannot run; the graph still can be read
        nodes = [static_graph._node(n, i) for i, n in enumerate(model.graph.node)]
        shapes = {n: (1, 3, SIDE, SIDE) for node in nodes for n in (*node.inputs, *node.outputs)}
        shapes["pixels"] = (1, SIDE, SIDE, 3)
        graph = static_graph.StaticGraph(tuple(nodes[4:]), {}, shapes, "x", "y")
    with pytest.raises(UsageError, match=wanted) as refused:
        to_tflite.convert(graph)
    assert "nothing was written" in str(refused.value)


BORDERS = {"kernel_shape": [3, 3], "strides": [2, 2]}


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        (network(("Conv", "x w", "y", {"auto_pad": "SAME_LOWER"}), w=constant(4, 3, 2, 2)), "Conv"),
        (unary("MaxPool", **BORDERS, auto_pad="SAME_UPPER"), "MaxPool"),
        (unary("AveragePool", **BORDERS, pads=[0, 0, 1, 1]), "AveragePool"),
        (network(("Max", "x c d", "y", {}), c=np.float32(0.1), d=np.float32(0.2)), "Max"),
        (after("Sin", "Cos"), "Cos, Sin"),
    ],
)
def test_what_torch_does_otherwise_is_refused_by_name(data, wanted):
    with pytest.raises(UsageError, match=f"the operators {wanted} cannot be converted"):
        to_torch.check(static_graph.of(data))


def torch_answers(data):
    files = to_torch.convert(static_graph.of(data), {}, to_torch.About("n", ("a",), "m"))
    with torch.inference_mode():
        network = to_torch.load(files[".py"] + b"\0" + files[".pt"])
        return network(torch.from_numpy(pixels(3))).numpy()


@pytest.mark.parametrize("up", [0, 1])
def test_windows_with_gaps_are_known_to_torch(up):
    data = unary("MaxPool", **BORDERS, pads=[1, 0, 1, 0], dilations=[2, 2], ceil_mode=up)
    wanted = Engine({"a": data}).run("a", {"pixels": pixels(3)})["y"]
    np.testing.assert_allclose(torch_answers(data), wanted, atol=2e-6)


def test_transposes_cost_nothing_between_layers():
    """A picture goes through convolutions as it came: channels last."""
    from model.convert import tflite_file

    data = network(
        ("Conv", "x v", "a", {"pads": [1] * 4}), ("Relu", "a", "r", {}),
        ("Conv", "r w", "c", {}), ("GlobalAveragePool", "c", "p", {}), ("Flatten", "p", "y", {}),
        v=constant(4, 3, 3, 3), w=constant(6, 4, 1, 1),
    )  # fmt: skip
    model = tflite_file.unpack(to_tflite.convert(static_graph.of(data)))
    names = vars(tflite_file.schema.BuiltinOperator)
    kinds = {names_ for names_, number in names.items()
             if number in {code.builtinCode for code in model.operatorCodes}}  # fmt: skip
    assert kinds == {"CAST", "MUL", "ADD", "CONV_2D", "MEAN", "RESHAPE"}
