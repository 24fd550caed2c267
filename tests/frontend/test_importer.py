"""Importing whole models: names, opsets, functions, constants, symbolic inputs, findings."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from dlc.errors import InputError, LimitError, ModelError, ShapeError, UnsupportedError
from dlc.frontend.onnx.importer import ImportedModel, check, import_model
from dlc.ir.dims import Symbol
from dlc.ir.evaluate import evaluate
from dlc.ir.ops.contraction import MatMul
from dlc.ir.ops.pointwise import Binary, Unary
from dlc.ir.verify import verify
from dlc.limits import Limits

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


def tensor(name: str, shape: Sequence[int | str | None] | None, dtype: int = FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, shape)


def constant(name: str, values: Any, dtype: Any = np.float32) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(values, dtype=dtype), name)


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto | str],
    initializers: Sequence[onnx.TensorProto] = (),
    *,
    opset: int = 18,
    functions: Sequence[onnx.FunctionProto] = (),
    domains: Sequence[str] = (),
    **graph: Any,
) -> onnx.ModelProto:
    results = [onnx.ValueInfoProto(name=item) if isinstance(item, str) else item for item in outputs]
    made = helper.make_graph(nodes, "the graph", inputs, results, initializers, **graph)
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_model(made, opset_imports=opsets, functions=list(functions), ir_version=10)


def imported(*args: Any, shapes: Any = None, **kwargs: Any) -> ImportedModel:
    result = import_model(model(*args, **kwargs), shapes=shapes)
    verify(result.graph)
    return result


def run(result: ImportedModel, **feeds: Any) -> list[np.ndarray[Any, Any]]:
    found = evaluate(result.graph, {name: np.asarray(feed) for name, feed in feeds.items()})
    return [found[name] for name in result.outputs]


RELU = helper.make_node("Relu", ["x"], ["y"], name="act")


# --- sources


def test_path_bytes_file_and_message_give_the_same_graph(tmp_path: Path) -> None:
    proto = model([RELU], [tensor("x", ["n", 3])], [tensor("y", ["n", 3])])
    path = tmp_path / "net.onnx"
    path.write_bytes(proto.SerializeToString())
    results = [
        import_model(source) for source in (path, str(path), path.read_bytes(), io.BytesIO(path.read_bytes()))
    ]
    results.append(import_model(proto))
    for result in results:
        assert [node.op for node in result.graph.nodes] == [Unary("relu")]
        assert result.inputs[0].name == "x" and result.outputs == ("y",)
    assert results[0].sha256 == results[1].sha256 == results[2].sha256 == results[3].sha256
    assert [result.name for result in results] == ["net", "net", "the graph", "the graph", "the graph"]


def test_a_missing_file_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file") as caught:
        import_model(tmp_path / "absent.onnx")
    assert caught.value.code == "input/file"
    with pytest.raises(InputError, match="not int"):
        import_model(3)  # type: ignore[arg-type]


def test_metadata_and_opsets_are_kept() -> None:
    proto = model([RELU], [tensor("x", [2])], ["y"], domains=["custom"])
    proto.producer_name = "exporter"
    proto.model_version = 7
    helper.set_model_props(proto, {"author": "someone"})
    result = import_model(proto)
    assert result.opsets == {"": 18, "custom": 1}
    assert (result.metadata.producer, result.metadata.model_version) == ("exporter", 7)
    assert result.metadata.properties == {"author": "someone"}


# --- names and order


def test_values_keep_their_onnx_names_even_where_helpers_would_take_them() -> None:
    # Gemm becomes several nodes, whose wishes for names collide with the names of the model.
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["matmul"], name="first", alpha=2.0),
        helper.make_node("Relu", ["matmul"], ["binary"]),
        helper.make_node("Identity", ["binary"], ["y"]),
    ]
    weights = [constant("w", np.eye(3)), constant("b", [1, 2, 3])]
    result = imported(nodes, [tensor("x", [2, 3])], ["y", "binary", "matmul"], weights)
    x = np.array([[1, -2, 3], [4, 5, -6]], np.float32)
    linear = 2 * x + np.array([1, 2, 3], np.float32)
    for got, want in zip(run(result, x=x), (linear.clip(0), linear.clip(0), linear), strict=True):
        np.testing.assert_array_equal(got, want)
    assert result.graph.outputs[2].name == "matmul"
    assert result.graph.outputs[0] is result.graph.outputs[1]


def test_nodes_without_a_name_are_called_after_operator_and_position() -> None:
    nodes = [helper.make_node("Neg", ["x"], ["a"]), helper.make_node("Abs", ["a"], ["y"], name="absolute")]
    result = imported(nodes, [tensor("x", [2])], ["y"])
    assert [node.origin for node in result.graph.nodes] == [("Neg_0",), ("absolute",)]


def test_nodes_out_of_order_are_sorted_and_keep_the_order_of_the_file_otherwise() -> None:
    nodes = [
        helper.make_node("Add", ["b", "a"], ["y"]),
        helper.make_node("Neg", ["x"], ["b"]),
        helper.make_node("Abs", ["x"], ["a"]),
    ]
    result = imported(nodes, [tensor("x", [2])], ["y"])
    assert [node.op for node in result.graph.nodes] == [Unary("neg"), Unary("abs"), Binary("add")]


@pytest.mark.parametrize(
    ("nodes", "problem"),
    [
        ([helper.make_node("Add", ["x", "b"], ["a"]), helper.make_node("Neg", ["a"], ["b"])], "in a cycle"),
        ([helper.make_node("Neg", ["nothing"], ["y"])], "'nothing' is read but never defined"),
        ([helper.make_node("Neg", ["x"], ["x"])], "'x' is defined twice"),
        ([RELU, helper.make_node("Neg", ["x"], ["y"])], "'y' is defined twice"),
    ],
)
def test_broken_rules_on_names(nodes: list[onnx.NodeProto], problem: str) -> None:
    with pytest.raises(ModelError, match=problem) as caught:
        import_model(model(nodes, [tensor("x", [2])], ["x"]))
    assert caught.value.code == "model/graph"


def test_an_undefined_output_is_an_error() -> None:
    with pytest.raises(ModelError, match="'z' is read but never defined"):
        import_model(model([RELU], [tensor("x", [2])], ["z"]))


# --- symbolic inputs


def test_dims_of_one_name_are_one_symbol_bound_where_it_first_occurs() -> None:
    inputs = [tensor("a", ["n", None, 4]), tensor("b", ["n", 2, "n"])]
    result = imported([helper.make_node("Neg", ["a"], ["y"])], inputs, ["y", "b"])
    n = Symbol("n")
    assert result.inputs[0].type.shape == (n, Symbol("a_1"), 4)
    assert result.inputs[0].dim_names == ("n", None, None)
    assert result.inputs[1].type.shape == (n, 2, n)
    assert [source.value for source in result.graph.symbols.values()] == ["a", "a"]
    ones = np.ones((3, 5, 4), np.float32)
    run(result, a=ones, b=np.ones((3, 2, 3), np.float32))
    with pytest.raises(ShapeError, match=r"'b' has shape \[3, 2, 4\], but \[3, 2, 3\]"):
        run(result, a=ones, b=np.ones((3, 2, 4), np.float32))
    with pytest.raises(ShapeError):
        run(result, a=ones[0], b=np.ones((3, 2, 3), np.float32))


def test_names_of_dims_that_are_no_symbols_are_made_ones() -> None:
    result = imported([RELU], [tensor("x", ["batch size", "min", "2n", "?", "batch\nsize"])], ["y"])
    symbols = [str(dim) for dim in result.inputs[0].type.shape]
    assert symbols == ["batch_size", "min_1", "d_2n", "x_3", "batch_size_1"]
    assert result.metadata.dim_names["batch_size"] == "batch size"


def test_shapes_fix_name_and_hint_dims() -> None:
    inputs = [tensor("x", ["batch", 3, None, "w"]), tensor("z", ["batch"])]
    shapes = {"batch": 2, "w": (8, 16, 64), "x": (None, None, "height", None)}
    result = imported([RELU], inputs, ["y"], shapes=shapes)
    assert result.inputs[0].type.shape == (2, 3, Symbol("height"), Symbol("w"))
    assert result.inputs[1].type.shape == (2,)
    assert result.hints == {"w": (8, 16, 64)}
    fixed = imported([RELU], inputs, ["y"], shapes={"x": (5, 3, 7, 9)})
    assert fixed.inputs[0].type.shape == (5, 3, 7, 9) and fixed.inputs[1].type.shape == (5,)


@pytest.mark.parametrize(
    ("shapes", "problem"),
    [
        ({"depth": 3}, "names 'depth', which is neither"),
        ({"x": (1, 4)}, "gives 4 for axis 1 .* fixes it to 3"),
        ({"x": (1, 3, 2)}, "gives 3 dims for input 'x', which has 2"),
        ({"batch": (3, 2, 1)}, "must be an extent or"),
        ({"batch": 2, "x": (3, 3)}, "two extents for 'batch'"),
    ],
)
def test_shapes_that_fit_nothing(shapes: Any, problem: str) -> None:
    with pytest.raises(InputError, match=problem) as caught:
        imported([RELU], [tensor("x", ["batch", 3])], ["y"], shapes=shapes)
    assert caught.value.code == "input/option"


def test_an_input_without_rank_needs_shapes() -> None:
    proto = model([RELU], [tensor("x", None)], ["y"])
    assert [finding.node for finding in check(proto)] == ["x"]
    result = import_model(proto, shapes={"x": ("n", 4)})
    assert result.inputs[0].type.shape == (Symbol("n"), 4)


def test_a_dim_that_guards_fix_gets_its_extent() -> None:
    # The state fixes the batch that the other input leaves open.
    nodes = [
        helper.make_node("Concat", ["x", "state"], ["both"], axis=1),
        helper.make_node("Reshape", ["both", "shape"], ["y"]),
    ]
    inputs = [tensor("x", ["batch", 3]), tensor("state", [2, 3])]
    result = imported(nodes, inputs, ["y"], [constant("shape", [12], np.int64)])
    assert result.inputs[0].type.shape == (2, 3)
    with pytest.raises(ModelError, match="number of elements"):
        imported(
            [helper.make_node("Reshape", ["x", "shape"], ["y"])],
            [tensor("x", ["batch", 5])],
            ["y"],
            [constant("shape", [12], np.int64)],
        )


# --- constants


def test_initializers_that_are_inputs_too_become_constants() -> None:
    add = helper.make_node("Add", ["x", "w"], ["y"])
    result = imported([add], [tensor("x", [2]), tensor("w", [2])], ["y"], [constant("w", [1, 2])])
    assert [spec.name for spec in result.inputs] == ["x"]
    assert result.metadata.defaults == ("w",)
    np.testing.assert_array_equal(run(result, x=np.zeros(2, np.float32))[0], [1, 2])


def test_constants_are_seen_through_nodes() -> None:
    # The shape of Reshape is computed from constants only, partly in float.
    nodes = [
        helper.make_node("Constant", [], ["half"], value_float=0.5),
        helper.make_node("Cast", ["eight"], ["f"], to=FLOAT),
        helper.make_node("Mul", ["f", "half"], ["four"]),
        helper.make_node("Sqrt", ["four"], ["two"]),
        helper.make_node("Cast", ["two"], ["i"], to=INT64),
        helper.make_node("Concat", ["i", "minus"], ["shape"], axis=0),
        helper.make_node("Reshape", ["x", "shape"], ["y"]),
    ]
    initializers = [constant("eight", [8], np.int64), constant("minus", [-1], np.int64)]
    result = imported(nodes, [tensor("x", [6])], [tensor("y", [2, 3])], initializers)
    assert len(result.graph.nodes) == 1


def test_folding_stays_within_its_budget() -> None:
    nodes = [
        helper.make_node("ConstantOfShape", ["big"], ["zeros"]),
        helper.make_node("ReduceSum", ["zeros"], ["sum"], keepdims=0),
        helper.make_node("Reshape", ["x", "sum"], ["y"]),
    ]
    proto = model(nodes, [tensor("x", [4])], ["y"], [constant("big", [1 << 33], np.int64)])
    with pytest.raises((LimitError, UnsupportedError, ModelError)):
        import_model(proto, limits=Limits(folded_tensor_bytes=1 << 20))


# --- control flow and functions


def branch(name: str, nodes: Sequence[onnx.NodeProto], output: str) -> onnx.GraphProto:
    return helper.make_graph(nodes, name, [], [onnx.ValueInfoProto(name=output)])


def test_if_with_a_constant_condition_is_inlined_with_its_captures() -> None:
    then = branch("then", [helper.make_node("Neg", ["outer"], ["r"])], "r")
    other = branch("else", [helper.make_node("Abs", ["outer"], ["r"])], "r")
    nodes = [
        helper.make_node("Relu", ["x"], ["outer"]),
        helper.make_node("If", ["yes"], ["y"], name="choice", then_branch=then, else_branch=other),
        helper.make_node("If", ["no"], ["z"], then_branch=then, else_branch=other),
    ]
    constants = [constant("yes", True, np.bool_), constant("no", False, np.bool_)]
    result = imported(nodes, [tensor("x", [2])], ["y", "z"], constants)
    y, z = run(result, x=np.array([-1, 2], np.float32))
    np.testing.assert_array_equal(y, [0, -2])
    np.testing.assert_array_equal(z, [0, 2])
    assert result.graph.nodes[1].origin == ("choice/Neg_0",)


def test_if_on_a_shape_is_decided_by_the_shape() -> None:
    then = branch("then", [helper.make_node("Squeeze", ["x", "axis"], ["r"])], "r")
    other = branch("else", [helper.make_node("Identity", ["x"], ["r"])], "r")
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Gather", ["s", "one"], ["d"]),
        helper.make_node("Equal", ["d", "one"], ["c"]),
        helper.make_node("If", ["c"], ["y"], then_branch=then, else_branch=other),
    ]
    constants = [constant("one", 1, np.int64), constant("axis", [1], np.int64)]
    for width, rank in ((1, 1), (4, 2)):
        result = imported(nodes, [tensor("x", ["n", width])], ["y"], constants)
        assert result.graph.outputs[0].tensor.rank == rank


def test_if_whose_branches_differ_in_rank_is_a_finding() -> None:
    then = branch("then", [helper.make_node("Neg", ["x"], ["r"])], "r")
    other = branch("other", [helper.make_node("ReduceSum", ["x"], ["q"], keepdims=0)], "q")
    nodes = [helper.make_node("If", ["c"], ["y"], name="choice", then_branch=then, else_branch=other)]
    (finding,) = check(model(nodes, [tensor("x", [2]), tensor("c", [], BOOL)], ["y"]))
    assert (finding.node, finding.operator, finding.dtypes) == ("choice", "If", ("bool",))
    assert "rank" in finding.reason


def scale_function(opset: int = 18) -> onnx.FunctionProto:
    """scaled(v) = leaky_relu(v, alpha=slope) * 2, with `slope` an attribute and `offset` optional."""
    nodes = [
        helper.make_node("LeakyRelu", ["v"], ["a"]),
        helper.make_node("Add", ["a", "a"], ["r"]),
    ]
    reference = onnx.AttributeProto(name="alpha", ref_attr_name="slope", type=onnx.AttributeProto.FLOAT)
    nodes[0].attribute.append(reference)
    return helper.make_function(
        "custom", "Scaled", ["v"], ["r"], nodes, [helper.make_opsetid("", opset)], ["slope"]
    )


def test_functions_are_inlined_with_their_attributes() -> None:
    nodes = [
        helper.make_node("Scaled", ["x"], ["a"], name="one", domain="custom", slope=0.5),
        helper.make_node("Scaled", ["a"], ["y"], name="two", domain="custom"),
    ]
    result = imported(nodes, [tensor("x", [2])], ["y", "a"], functions=[scale_function()], domains=["custom"])
    y, a = run(result, x=np.array([-1, 2], np.float32))
    np.testing.assert_allclose(a, [-1, 4])
    # An absent attribute leaves LeakyRelu its own default.
    np.testing.assert_allclose(y, [-0.02, 8])
    assert result.graph.nodes[0].origin == ("one/LeakyRelu_0",)


def test_a_function_gets_defaults_and_absent_operands() -> None:
    clip = helper.make_node("Clip", ["v", "low", "high"], ["r"])
    function = helper.make_function(
        "custom", "Bounded", ["v", "low", "high"], ["r"], [clip], [helper.make_opsetid("", 13)]
    )
    call = helper.make_node("Bounded", ["x", "zero"], ["y"], domain="custom")
    result = imported(
        [call], [tensor("x", [3])], ["y"], [constant("zero", 0)], functions=[function], domains=["custom"]
    )
    np.testing.assert_array_equal(run(result, x=np.array([-1, 0, 5], np.float32))[0], [0, 0, 5])


def call(name: str, callee: str, count: int = 1) -> onnx.FunctionProto:
    nodes = [helper.make_node(callee, ["v"], [f"r{index}"], domain="custom") for index in range(count)]
    return helper.make_function("custom", name, ["v"], ["r0"], nodes, [helper.make_opsetid("", 18)])


def test_recursive_functions_are_refused_with_the_path() -> None:
    proto = model(
        [helper.make_node("A", ["x"], ["y"], domain="custom")],
        [tensor("x", [2])],
        ["y"],
        functions=[call("A", "B"), call("B", "C"), call("C", "A")],
        domains=["custom"],
    )
    with pytest.raises(ModelError, match="custom::A -> custom::B -> custom::C -> custom::A") as caught:
        import_model(proto)
    assert caught.value.code == "model/function"


def test_a_standard_operator_without_an_importer_is_inlined_from_its_definition() -> None:
    node = helper.make_node("MeanVarianceNormalization", ["x"], ["y"], axes=[0])
    result = imported([node], [tensor("x", [4, 2])], ["y"], opset=13)
    x = np.arange(8, dtype=np.float32).reshape(4, 2)
    np.testing.assert_allclose(run(result, x=x)[0], (x - x.mean(0)) / x.std(0), rtol=1e-5)


# --- opsets and findings


@pytest.mark.parametrize("opset", [-1, 29])
def test_opsets_outside_of_the_range_are_unsupported(opset: int) -> None:
    with pytest.raises(UnsupportedError, match=f"opset {opset} is outside of 1..28"):
        import_model(model([RELU], [tensor("x", [2])], ["y"], opset=opset))


def test_all_unsupported_nodes_are_reported_at_once() -> None:
    nodes = [
        helper.make_node("Mystery", ["x"], ["a"], name="first", domain="elsewhere"),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Neg", ["x"], ["c"]),
        helper.make_node("Other", ["c", ""], ["d"], domain="elsewhere"),
        helper.make_node("Add", ["b", "d"], ["y"]),
    ]
    proto = model(nodes, [tensor("x", ["n", 2])], ["y"], domains=["elsewhere"])
    with pytest.raises(UnsupportedError, match="2 things") as caught:
        import_model(proto)
    first, second = caught.value.findings
    assert (first.node, first.operator, first.shapes) == ("first", "Mystery", ("[n, 2]",))
    assert (second.node, second.dtypes) == ("Other_3", ("f32", "-"))
    assert check(proto) == caught.value.findings


def test_unknown_operators_and_missing_opsets_break_the_standard() -> None:
    with pytest.raises(ModelError, match="ONNX has no operator Mystery"):
        import_model(model([helper.make_node("Mystery", ["x"], ["y"])], [tensor("x", [2])], ["y"]))
    node = helper.make_node("Mystery", ["x"], ["y"], domain="elsewhere")
    with pytest.raises(ModelError, match="does not import its operator set 'elsewhere'"):
        import_model(model([node], [tensor("x", [2])], ["y"]))


# --- types


def test_value_info_is_not_believed_and_declared_outputs_are_checked() -> None:
    lie = tensor("a", [7, 7], INT64)
    nodes = [helper.make_node("Neg", ["x"], ["a"]), helper.make_node("Abs", ["a"], ["y"])]
    result = imported(nodes, [tensor("x", [2, 3])], [tensor("y", ["rows", 3])], value_info=[lie])
    assert result.graph.outputs[0].tensor.shape == (2, 3)
    with pytest.raises(ModelError, match="is declared as"):
        import_model(model(nodes, [tensor("x", [2, 3])], [tensor("y", [2, 3], INT64)]))


@pytest.mark.parametrize("wrong", [[2, 4], [2]])
def test_a_wrong_declared_shape_is_logged_and_not_believed(
    wrong: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    nodes = [helper.make_node("Abs", ["x"], ["y"])]
    result = import_model(model(nodes, [tensor("x", [2, 3])], [tensor("y", wrong)]))
    assert result.graph.outputs[0].tensor.shape == (2, 3)
    assert "is declared as" in caplog.text


def test_a_declared_rank_decides_what_squeeze_drops() -> None:
    nodes = [helper.make_node("Squeeze", ["x"], ["y"])]
    result = import_model(model(nodes, [tensor("x", ["batch", 1, 4])], [tensor("y", [4])]))
    assert result.graph.inputs[0].tensor.shape == (1, 1, 4)
    assert result.graph.outputs[0].tensor.shape == (4,)


def test_a_declared_rank_that_leaves_squeeze_a_choice_decides_nothing() -> None:
    """Of three axes any one may be the 1; a name that the output has too says which one it is not."""
    nodes = [helper.make_node("Squeeze", ["x"], ["y"])]
    result = import_model(model(nodes, [tensor("x", ["a", "b", "c"])], [tensor("y", [None, None])]))
    assert result.graph.outputs[0].tensor.rank == 3
    result = import_model(model(nodes, [tensor("x", ["a", "b", "c"])], [tensor("y", ["a", "c"])]))
    assert result.graph.inputs[0].tensor.shape[1] == 1
    assert result.graph.outputs[0].tensor.rank == 2


def test_type_errors_name_the_node() -> None:
    node = helper.make_node("MatMul", ["x", "x"], ["y"], name="product")
    with pytest.raises(ModelError, match="MatMul") as caught:
        import_model(model([node], [tensor("x", [2, 3])], ["y"]))
    assert caught.value.node == "product"


def test_extra_outputs_come_after_the_models_own() -> None:
    nodes = [helper.make_node("Neg", ["x"], ["a"]), helper.make_node("Abs", ["a"], ["y"])]
    proto = model(nodes, [tensor("x", [2])], ["y"])
    result = import_model(proto, outputs=["a", "x", "y"])
    assert result.outputs == ("y", "a", "x")
    with pytest.raises(InputError, match="no value 'b'"):
        import_model(proto, outputs=["b"])


def test_node_limits_count_the_whole_model() -> None:
    nodes = [helper.make_node("Neg", ["x" if i == 0 else f"v{i}"], [f"v{i + 1}"]) for i in range(30)]
    proto = model(nodes, [tensor("x", [2])], ["v30"])
    with pytest.raises(LimitError, match="nodes of the model: 30 exceeds the limit of 20"):
        import_model(proto, limits=Limits(nodes=20))
    assert len(import_model(proto).graph.nodes) == 30


def test_matmul_keeps_weights_as_constants() -> None:
    result = imported(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        [tensor("x", ["n", 3])],
        ["y"],
        [constant("w", np.eye(3))],
    )
    (node,) = result.graph.nodes
    assert node.op == MatMul()
    weight = node.inputs[1]
    assert weight is not None and weight.name == "w" and weight.data is not None
    assert not weight.data.flags.writeable
