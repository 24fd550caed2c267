"""Symbolic contents: the arithmetic on shapes of exporters, against onnxruntime and by expected text."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from onnx import TensorProto, helper, numpy_helper

from dlc.errors import InputError
from dlc.frontend.onnx.content_elements import Arithmetic, Ratio
from dlc.frontend.onnx.importer import ImportedModel, import_model
from dlc.ir.dims import Guard, Relation, Symbol, evaluate as evaluate_dim, to_text
from dlc.ir.dtypes import DType
from dlc.ir.evaluate import evaluate
from dlc.ir.graph import ElementSource, Graph
from dlc.ir.ops.movement import DimTensor
from dlc.ir.verify import verify
from tests.helpers.onnx_cases import run_onnxruntime

FLOAT, INT64, INT32 = TensorProto.FLOAT, TensorProto.INT64, TensorProto.INT32
N, H, W = Symbol("n"), Symbol("h"), Symbol("w")


def proto(
    nodes: Sequence[onnx.NodeProto],
    outputs: Sequence[str],
    constants: dict[str, Any] | None = None,
    inputs: Sequence[onnx.ValueInfoProto] = (),
) -> onnx.ModelProto:
    """A model with the image x [n, 3, h, w] and further inputs; `constants` become initializers."""
    image = helper.make_tensor_value_info("x", FLOAT, ["n", 3, "h", "w"])
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()]
    results = [onnx.ValueInfoProto(name=name) for name in outputs]
    graph = helper.make_graph(nodes, "g", [image, *inputs], results, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def run(result: ImportedModel, **feeds: Any) -> list[np.ndarray[Any, Any]]:
    found = evaluate(result.graph, {name: np.asarray(feed) for name, feed in feeds.items()})
    return [found[name] for name in result.outputs]


def image(n: int = 2, h: int = 5, w: int = 7) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).standard_normal((n, 3, h, w)).astype(np.float32)


def imported(*args: Any, **kwargs: Any) -> ImportedModel:
    result = import_model(proto(*args, **kwargs))
    verify(result.graph)
    return result


def shape_text(graph: Graph, index: int = 0) -> str:
    return f"[{', '.join(map(to_text, graph.outputs[index].tensor.shape))}]"


def ints(*values: int) -> np.ndarray[Any, Any]:
    return np.array(values, dtype=np.int64)


def extent(axis: int, name: str) -> list[onnx.NodeProto]:
    """Nodes that give extent `axis` of x as the scalar `name`."""
    return [
        helper.make_node("Shape", ["x"], [f"{name}_shape"]),
        helper.make_node("Gather", [f"{name}_shape", f"axis{axis}"], [name]),
    ]


AXES = {f"axis{axis}": np.int64(axis) for axis in range(4)}


# --- chains of exporters


def test_view_of_a_batch() -> None:
    """x.view(x.size(0), -1): Shape, Gather, Unsqueeze, Concat, Reshape leave one Reshape."""
    nodes = [
        *extent(0, "n"),
        helper.make_node("Unsqueeze", ["n", "zero"], ["n1"]),
        helper.make_node("Concat", ["n1", "rest"], ["shape"], axis=0),
        helper.make_node("Reshape", ["x", "shape"], ["y"]),
    ]
    result = imported(nodes, ["y"], {**AXES, "zero": ints(0), "rest": ints(-1)})
    assert shape_text(result.graph) == "[n, 3*h*w]"
    assert len(result.graph.nodes) == 1


def test_pixel_shuffle_arithmetic() -> None:
    nodes = [
        *extent(2, "h"),
        *extent(3, "w"),
        helper.make_node("Mul", ["h", "w"], ["hw"]),
        helper.make_node("Div", ["hw", "two"], ["half"]),
        helper.make_node("Mul", ["half", "two"], ["even"]),
        helper.make_node("Unsqueeze", ["even", "zero"], ["even1"]),
        helper.make_node("Concat", ["minus", "even1"], ["shape"], axis=0),
        helper.make_node("Slice", ["flat_shape", "zero", "two1"], ["pair"]),
        helper.make_node("Expand", ["one", "shape_of_ones"], ["y"]),
        helper.make_node("Concat", ["even1", "pair"], ["shape_of_ones"], axis=0),
        helper.make_node("Shape", ["x"], ["flat_shape"]),
    ]
    constants = {
        **AXES,
        "two": np.int64(2),
        "zero": ints(0),
        "two1": ints(2),
        "minus": ints(-1),
        "one": np.float32(1),
    }
    result = imported(nodes, ["y"], constants)
    assert shape_text(result.graph) == "[2*floordiv(h*w, 2), n, 3]"


def test_scale_chain_in_float() -> None:
    """interpolate(scale_factor=0.5) with sizes computed in float, as exporters write it."""
    nodes = [
        *extent(2, "h"),
        helper.make_node("Cast", ["h"], ["hf"], to=FLOAT),
        helper.make_node("Mul", ["hf", "half"], ["scaled"]),
        helper.make_node("Floor", ["scaled"], ["floored"]),
        helper.make_node("Cast", ["floored"], ["size"], to=INT64),
        helper.make_node("Unsqueeze", ["size", "zero"], ["size1"]),
        helper.make_node("Expand", ["one", "size1"], ["y"]),
    ]
    constants = {**AXES, "half": np.float32(0.5), "zero": ints(0), "one": np.float32(1)}
    result = imported(nodes, ["y"], constants)
    assert shape_text(result.graph) == "[floordiv(h, 2)]"
    assert [str(guard) for guard in result.graph.guards] == [f"h <= {1 << 22}"]


def test_a_scale_that_is_no_short_binary_fraction_stays_run_time_data() -> None:
    """10 * 0.7f rounds to 7, though 0.7f is below 0.7: exact arithmetic would be wrong."""
    nodes = [
        *extent(2, "h"),
        helper.make_node("Cast", ["h"], ["hf"], to=FLOAT),
        helper.make_node("Mul", ["hf", "scale"], ["scaled"]),
        helper.make_node("Cast", ["scaled"], ["size"], to=INT64),
        helper.make_node("Unsqueeze", ["size", "zero"], ["size1"]),
        helper.make_node("Expand", ["one", "size1"], ["y"]),
    ]
    constants = {**AXES, "scale": np.float32(0.7), "zero": ints(0), "one": np.float32(1)}
    result = imported(nodes, ["y"], constants)
    assert any(isinstance(source, ElementSource) for source in result.graph.symbols.values())
    assert run(result, x=image(h=10))[0].shape == (7,)


def test_a_quotient_of_extents_is_a_constant_scale() -> None:
    nodes = [
        *extent(2, "h"),
        helper.make_node("Mul", ["h", "two"], ["double"]),
        helper.make_node("Cast", ["h"], ["hf"], to=FLOAT),
        helper.make_node("Cast", ["double"], ["df"], to=FLOAT),
        helper.make_node("Div", ["df", "hf"], ["scale"]),
        helper.make_node("Unsqueeze", ["scale", "zero"], ["scale1"]),
        helper.make_node("Concat", ["ones", "scale1", "scale1"], ["scales"], axis=0),
        helper.make_node("Resize", ["x", "", "scales"], ["y"], mode="nearest"),
    ]
    constants = {**AXES, "two": np.int64(2), "zero": ints(0), "ones": np.ones(2, np.float32)}
    result = imported(nodes, ["y"], constants)
    assert shape_text(result.graph) == "[n, 3, 2*h, 2*w]"


def test_expand_to_a_shape_with_minus_one() -> None:
    """torch.expand: Where(shape == -1, ones, shape) is decided because extents are not negative."""
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Equal", ["shape", "minus"], ["unset"]),
        helper.make_node("ConstantOfShape", ["four"], ["ones"], value=numpy_helper.from_array(ints(1))),
        helper.make_node("Where", ["unset", "ones", "shape"], ["target"]),
        helper.make_node("Expand", ["one", "target"], ["y"]),
    ]
    result = imported(nodes, ["y"], {"minus": ints(-1), "four": ints(4), "one": np.float32(1)})
    assert shape_text(result.graph) == "[n, 3, h, w]"


def test_shapes_used_as_data_become_dim_tensors() -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Slice", ["shape", "two", "four"], ["size"]),
        helper.make_node("Cast", ["size"], ["size32"], to=INT32),
        helper.make_node("Mul", ["size32", "minus"], ["y"]),
        helper.make_node("ReduceProd", ["shape"], ["count"], keepdims=0),
    ]
    result = imported(
        nodes, ["y", "count"], {"two": ints(2), "four": ints(4), "minus": np.array([-1], np.int32)}
    )
    dims = [node.op.dims for node in result.graph.nodes if isinstance(node.op, DimTensor)]
    assert dims == [(-1 * H, -1 * W), (3 * H * N * W,)]
    y, count = run(result, x=image())
    assert y.dtype == np.int32 and y.tolist() == [-5, -7] and count == 210


# --- run-time data


def test_run_time_extents_become_symbols_of_the_element() -> None:
    size = helper.make_tensor_value_info("size", INT64, [2])
    nodes = [
        helper.make_node("Add", ["size", "one"], ["larger"]),
        helper.make_node("Expand", ["value", "larger"], ["y"]),
    ]
    result = imported(nodes, ["y"], {"one": ints(1), "value": np.float32(2)}, [size])
    (y,) = run(result, x=image(), size=ints(2, 4))
    assert y.shape == (3, 5)
    sources = [source for source in result.graph.symbols.values() if isinstance(source, ElementSource)]
    assert {source.index for source in sources} == {0, 1}


def test_one_element_that_reaches_two_shapes_is_one_symbol() -> None:
    size = helper.make_tensor_value_info("size", INT64, [])
    nodes = [
        *extent(0, "n"),
        helper.make_node("Unsqueeze", ["n", "zero"], ["n1"]),
        helper.make_node("Abs", ["size"], ["length"]),
        helper.make_node("Unsqueeze", ["length", "zero"], ["a"]),
        helper.make_node("Unsqueeze", ["length", "zero"], ["b"]),
        helper.make_node("Concat", ["n1", "a"], ["first"], axis=0),
        helper.make_node("Concat", ["b", "n1"], ["second"], axis=0),
        helper.make_node("Expand", ["one", "first"], ["left"]),
        helper.make_node("Expand", ["one", "second"], ["right"]),
        helper.make_node("MatMul", ["left", "right"], ["y"]),
    ]
    result = imported(nodes, ["y", "left"], {**AXES, "zero": ints(0), "one": np.float32(1)}, [size])
    assert sum(isinstance(source, ElementSource) for source in result.graph.symbols.values()) == 1
    y, left = run(result, x=image(), size=np.int64(-3))
    assert left.shape == (2, 3)
    np.testing.assert_array_equal(y, np.full((2, 2), 3))


def test_guards_on_run_time_extents_are_checked_when_they_are_known() -> None:
    size = helper.make_tensor_value_info("size", INT64, [1])
    nodes = [
        helper.make_node("Abs", ["size"], ["length"]),
        helper.make_node("Concat", ["length", "three"], ["shape"], axis=0),
        helper.make_node("Reshape", ["x", "shape"], ["y"]),
    ]
    result = imported(nodes, ["y"], {"three": ints(3)}, [size])
    x = image(1, 2, 2)
    assert run(result, x=x, size=ints(-4))[0].shape == (4, 3)
    with pytest.raises(InputError, match="number of elements"):
        run(result, x=x, size=ints(5))


def test_unused_run_time_symbols_are_forgotten() -> None:
    size = helper.make_tensor_value_info("size", INT64, [1])
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Concat", ["shape", "size"], ["y"], axis=0),
    ]
    result = imported(nodes, ["y"], {}, [size])
    assert [symbol.name for symbol in result.graph.symbols] == ["n", "h", "w"]
    assert run(result, x=image(), size=ints(9))[0].tolist() == [2, 3, 5, 7, 9]


# --- single rules


def test_exact_floats() -> None:
    guards: list[Guard] = []
    f32 = Arithmetic(DType.F32, lambda guard: guards.append(guard) is None)
    half = f32.binary("mul", Ratio(N, 1), Fraction(1, 2))
    assert half == Ratio(N, 2)
    assert f32.binary("mul", half, Fraction(2)) == Ratio(N, 1)
    assert f32.binary("mul", half, Fraction(float(np.float32(0.1)))) is None
    assert f32.unary("ceil", half) == Ratio((N + 1) // 2, 1)
    third = f32.binary("div", Ratio(N, 1), Fraction(3))
    assert third == Ratio(N, 3, rounded=True)
    assert f32.binary("mul", third, Fraction(2)) is None
    assert f32.cast(third, DType.I64) == N // 3
    assert f32.cast(f32.binary("sub", Ratio(N, 1), Fraction(1)), DType.I64) is None  # may be negative
    assert f32.compare("lt", half, Ratio(N, 1)) is None
    assert f32.compare("le", Fraction(0), half) is True
    assert f32.binary("add", None, half) is None
    assert len(guards) == 2


@given(st.integers(0, (1 << 22) - 1), st.integers(1, 1000))
def test_a_rounded_quotient_has_the_floor_of_the_exact_one(a: int, b: int) -> None:
    """What the rules for rounded quotients rest on."""
    quotient = np.float32(a) / np.float32(b)
    assert int(np.floor(quotient)) == a // b
    assert int(np.ceil(quotient)) == -(-a // b)


def test_integer_division_and_remainder_follow_signs() -> None:
    guards: list[Guard] = []
    i64 = Arithmetic(DType.I64, lambda guard: guards.append(guard) is None)
    assert i64.binary("div", -7, 2) == -3
    assert i64.binary("div", 7, 0) is None
    assert i64.binary("div", N, 2) == N // 2
    assert not guards
    assert i64.binary("div", N - 1, 2) == (N - 1) // 2
    assert [(guard.relation, guard.left, guard.right) for guard in guards] == [(Relation.LE, 0, N - 1)]
    assert i64.binary("div", 6 * N - 6, 3) == 2 * N - 2
    assert i64.binary("mod", N - 1, 4) == (N - 1) % 4
    assert i64.binary("fmod", N - 1, 4) is None
    assert i64.binary("mod", N, -4) is None
    assert i64.unary("abs", N) == N
    assert i64.compare("gt", N, -1) is True
    assert i64.compare("eq", 2 * N, 3) is False
    assert i64.compare("eq", N, 3) is None


def test_conversions_that_wrap_are_not_known() -> None:
    i64 = Arithmetic(DType.I64, lambda guard: True)
    assert i64.cast(N, DType.I32) == N and i64.cast(N, DType.U64) == N
    assert i64.cast(N, DType.I8) is None and i64.cast(N - 1, DType.U32) is None
    assert (
        i64.cast(-1, DType.U8) is None and i64.cast(128, DType.I8) is None and i64.cast(127, DType.I8) == 127
    )
    assert i64.cast(3, DType.BOOL) is True and i64.cast(N, DType.BOOL) is None
    assert i64.cast(True, DType.I64) == 1
    assert i64.cast((1 << 24) + 1, DType.F32) is None and i64.cast(1 << 24, DType.F32) == Fraction(1 << 24)


# --- random chains against onnxruntime

_OPERATORS = (
    *("Add", "Sub", "Mul", "Min", "Max", "Div", "Neg", "Abs", "ReduceSum", "ReduceProd", "ReduceMax"),
    *("CumSum", "Concat", "Gather", "Slice", "Where", "Tile", "Unsqueeze", "ScaleDown"),
)


def random_chain(data: st.DataObject) -> tuple[list[onnx.NodeProto], dict[str, Any], list[str]]:
    """Nodes on vectors of i64 whose lengths are kept track of; the names of the last few."""
    lengths = {"shape": 4, "c": 3}
    nodes = [helper.make_node("Shape", ["x"], ["shape"])]
    constants: dict[str, Any] = {"c": ints(*data.draw(st.lists(st.integers(-3, 9), min_size=3, max_size=3)))}

    def value(*allowed: int) -> str:
        names = [name for name, length in lengths.items() if not allowed or length in allowed]
        return data.draw(st.sampled_from(names))

    def fresh(array: Any) -> str:
        constants[f"k{len(constants)}"] = array
        return f"k{len(constants) - 1}"

    for index in range(data.draw(st.integers(1, 8))):
        y = f"v{index}"
        op = data.draw(st.sampled_from(_OPERATORS))
        a = value()
        length = lengths[a]
        if op in ("Add", "Sub", "Mul", "Min", "Max"):
            b = value(1, length)
            nodes.append(helper.make_node(op, [a, b], [y]))
        elif op == "Div":
            nodes.append(helper.make_node(op, [a, fresh(ints(data.draw(st.integers(1, 5))))], [y]))
        elif op == "Concat":
            b = value()
            nodes.append(helper.make_node(op, [a, b], [y], axis=0))
            length += lengths[b]
        elif op == "Gather":
            picks = data.draw(st.lists(st.integers(-length, length - 1), min_size=1, max_size=4))
            nodes.append(helper.make_node(op, [a, fresh(ints(*picks))], [y]))
            length = len(picks)
        elif op == "Slice":
            step = data.draw(st.sampled_from([1, 2, -1]))
            window = (ints(-1), ints(-100)) if step < 0 else (ints(0), ints(100))
            nodes.append(
                helper.make_node(op, [a, *map(fresh, window), fresh(ints(0)), fresh(ints(step))], [y])
            )
            length = -(-length // abs(step))
        elif op in ("Neg", "Abs"):
            nodes.append(helper.make_node(op, [a], [y]))
        elif op.startswith("Reduce"):
            nodes.append(helper.make_node(op, [a], [y], keepdims=1))
            length = 1
        elif op == "Where":
            b = value(1, length)
            nodes += [
                helper.make_node("Greater", [a, fresh(ints(-1))], [f"{y}_c"]),
                helper.make_node("Where", [f"{y}_c", a, b], [y]),
            ]
        elif op == "Tile":
            nodes.append(helper.make_node(op, [a, fresh(ints(2))], [y]))
            length *= 2
        elif op == "CumSum":
            exclusive = data.draw(st.integers(0, 1))
            nodes.append(helper.make_node(op, [a, fresh(np.int64(0))], [y], exclusive=exclusive, reverse=1))
        elif op == "Unsqueeze":
            nodes += [
                helper.make_node(op, [a, fresh(ints(1))], [f"{y}_u"]),
                helper.make_node("Transpose", [f"{y}_u"], [f"{y}_t"], perm=[1, 0]),
                helper.make_node("Squeeze", [f"{y}_t", fresh(ints(0))], [y]),
            ]
        else:
            divisor = fresh(np.float32(data.draw(st.sampled_from([2, 3, 4, 8]))))
            nodes += [
                helper.make_node("Cast", [a], [f"{y}_f"], to=FLOAT),
                helper.make_node("Div", [f"{y}_f", divisor], [f"{y}_d"]),
                helper.make_node(data.draw(st.sampled_from(["Floor", "Ceil"])), [f"{y}_d"], [f"{y}_r"]),
                helper.make_node("Cast", [f"{y}_r"], [y], to=INT64),
            ]
        if length > 12:
            nodes = nodes[:-1] if nodes[-1].output[0] == y else nodes
            continue
        lengths[y] = length
    names = [name for name in lengths if name.startswith("v")][-3:] or ["shape"]
    return nodes, constants, names


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_random_shape_arithmetic_agrees_with_onnxruntime(data: st.DataObject) -> None:
    nodes, constants, names = random_chain(data)
    model = proto(nodes, names, constants)
    for value in model.graph.output:
        value.type.tensor_type.elem_type = INT64
    result = import_model(model)
    verify(result.graph)
    for sizes in ((1, 1, 1), (2, 6, 9)):
        x = image(*sizes)
        want = run_onnxruntime(model, {"x": x})
        assert want is not None
        try:
            found = run(result, x=x)
        except InputError as error:
            # Where a dividend's sign is open, extents are meant, and a guard refuses negative ones.
            assert "must not be negative" in error.message
            continue
        for got, expected in zip(found, want, strict=True):
            np.testing.assert_array_equal(got, expected)


def test_quotients_of_negative_numbers_round_towards_zero() -> None:
    nodes = [
        *extent(2, "h"),
        helper.make_node("Neg", ["h"], ["minus"]),
        helper.make_node("Div", ["minus", "two"], ["half"]),
        helper.make_node("Add", ["half", "h"], ["size"]),
        helper.make_node("Unsqueeze", ["size", "zero"], ["size1"]),
        helper.make_node("Expand", ["one", "size1"], ["y"]),
    ]
    constants = {**AXES, "two": np.int64(2), "zero": ints(0), "one": np.float32(1)}
    result = imported(nodes, ["y"], constants)
    for h in (0, 1, 6, 7):
        assert run(result, x=image(1, h, 3))[0].shape == (h - h // 2,)


def test_contents_hold_for_concrete_sizes() -> None:
    """A content is what evaluation gives: the text of the graph alone does not show it."""
    nodes = [
        *extent(2, "h"),
        *extent(3, "w"),
        helper.make_node("Min", ["h", "w"], ["least"]),
        helper.make_node("Mod", ["least", "three"], ["rest"]),
        helper.make_node("Sub", ["least", "rest"], ["size"]),
        helper.make_node("Unsqueeze", ["size", "zero"], ["size1"]),
        helper.make_node("Expand", ["one", "size1"], ["y"]),
    ]
    constants = {**AXES, "three": np.int64(3), "zero": ints(0), "one": np.float32(1)}
    result = imported(nodes, ["y"], constants)
    (dim,) = result.graph.outputs[0].tensor.shape
    for h, w in ((0, 5), (7, 5), (4, 11)):
        assert evaluate_dim(dim, {"h": h, "w": w, "n": 1}) == min(h, w) // 3 * 3
        assert run(result, x=image(1, h, w))[0].shape == (min(h, w) // 3 * 3,)


@pytest.mark.parametrize("op", ["ReduceSum", "ReduceProd", "ReduceMin"])
def test_reductions_of_nothing(op: str) -> None:
    """An extent of 0 that stays leaves no length of the lines to infer."""
    nothing = numpy_helper.from_array(np.zeros((2, 0), np.int64), "nothing")
    last = numpy_helper.from_array(np.array([0], np.int64), "axis")
    node = helper.make_node(op, ["nothing", "axis"], ["y"], keepdims=0, name="reduce")
    graph = helper.make_graph([node], "g", [], [helper.make_tensor_value_info("y", 7, [0])], [nothing, last])
    result = import_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8))
    assert result.graph.outputs[0].tensor.shape == (0,)
