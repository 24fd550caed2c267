"""Well-formed files with hostile content: sizes, cycles, names, external data (threats 2 to 5 and 9)."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.hostile.conftest import Attack

Refused = Callable[..., str]

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
EVIL = "\x1b]0;owned\x07\x1b[2J\n\"'; DROP TABLE models; --\u202e../../etc/passwd{0}%s\\"


def model(
    nodes: Sequence[onnx.NodeProto],
    initializers: Sequence[onnx.TensorProto] = (),
    *,
    shape: Sequence[Any] = (2, 3),
    outputs: Sequence[str] = ("y",),
    **graph: Any,
) -> onnx.ModelProto:
    x = helper.make_tensor_value_info("x", FLOAT, list(shape))
    results = [onnx.ValueInfoProto(name=name) for name in outputs]
    made = helper.make_graph(nodes, "g", [x], results, initializers, **graph)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def ints(name: str, *values: int) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(values, np.int64), name)


RELU = helper.make_node("Relu", ["x"], ["y"])


# --- sizes


@pytest.mark.parametrize(
    "shape",
    [(1 << 62, 1 << 62), (-5, 3), (0, 1 << 62), (1 << 41,), (1 << 20, 1 << 20), (1,) * 100, (-(1 << 63),)],
)
def test_huge_and_negative_dims_of_inputs(refused: Refused, shape: tuple[int, ...]) -> None:
    refused(model([RELU], shape=shape))


def tensor(dims: Sequence[int], **content: Any) -> onnx.TensorProto:
    return TensorProto(name="w", data_type=FLOAT, dims=dims, **content)


@pytest.mark.parametrize(
    "weight",
    [
        tensor([1 << 62, 1 << 62], raw_data=b"\0" * 8),
        tensor([1 << 32, 1 << 32], raw_data=b""),
        tensor([-1, -1], raw_data=b"\0" * 4),
        tensor([-1], raw_data=b""),
        tensor([3], raw_data=b"\0" * 8),
        tensor([3], raw_data=b"\0" * 16),
        tensor([3], float_data=[1.0] * 4),
        tensor([1 << 30], float_data=[1.0]),
        tensor([2], int32_data=[1, 2]),
    ],
)
def test_weights_that_are_not_what_they_claim(refused: Refused, weight: onnx.TensorProto) -> None:
    refused(model([helper.make_node("Add", ["x", "w"], ["y"])], [weight]))


def test_sparse_weights_that_unfold_to_gigabytes(refused: Refused) -> None:
    values = numpy_helper.from_array(np.ones(1, np.float32), "w")
    sparse = helper.make_sparse_tensor(values, ints("i", 0), [1 << 16, 1 << 16])
    proto = model([helper.make_node("Add", ["x", "w"], ["y"])])
    proto.graph.sparse_initializer.append(sparse)
    assert "dense bytes" in refused(proto)


def test_lies_about_types_are_not_believed(attack: Attack) -> None:
    lies = [
        helper.make_tensor_value_info("a", INT64, [1 << 62, -3]),
        helper.make_tensor_value_info("nothing", 99, ["?"]),
    ]
    nodes = [helper.make_node("Neg", ["x"], ["a"]), helper.make_node("Abs", ["a"], ["y"])]
    assert attack(model(nodes, value_info=lies)).text == "imported"


CONSTANTS = [
    ints("big", 1 << 40),
    ints("square", 1 << 20, 1 << 20),
    ints("many", *[1 << 10] * 4),
    ints("zero", 0),
]


@pytest.mark.parametrize(
    "nodes",
    [
        [helper.make_node("ConstantOfShape", ["big"], ["y"])],
        [helper.make_node("ConstantOfShape", ["square"], ["y"])],
        [helper.make_node("Expand", ["x", "many"], ["y"])],
        [helper.make_node("Tile", ["x", "square"], ["y"])],
        [helper.make_node("Pad", ["x", "pads"], ["y"])],
        [helper.make_node("Resize", ["x", "", "", "square"], ["y"])],
        [helper.make_node("OneHot", ["zero", "depth", "pair"], ["y"])],
        [helper.make_node("Range", ["start", "depth", "step"], ["y"])],
        [helper.make_node("Reshape", ["x", "many"], ["y"])],
        [helper.make_node("Unsqueeze", ["x", "axes"], ["y"])],
        [
            helper.make_node("EyeLike", ["spread"], ["y"]),
            helper.make_node("ConstantOfShape", ["square"], ["spread"]),
        ],
    ],
    ids=lambda nodes: nodes[0].op_type,
)
def test_operators_that_make_much_of_little(refused: Refused, nodes: list[onnx.NodeProto]) -> None:
    constants = [
        *CONSTANTS,
        ints("pads", 0, 0, 1 << 45, 0),
        numpy_helper.from_array(np.int64(1 << 50), "depth"),
        numpy_helper.from_array(np.int64(0), "start"),
        numpy_helper.from_array(np.int64(1), "step"),
        ints("pair", 0, 1),
        ints("axes", *range(60)),
    ]
    refused(model(nodes, constants))


def test_folding_is_bounded(attack: Attack) -> None:
    """Doubling a constant 60 times, asked for as a shape: known arithmetic, but not at any price."""
    nodes = [helper.make_node("Concat", [f"c{i}", f"c{i}"], [f"c{i + 1}"], axis=0) for i in range(60)]
    nodes += [helper.make_node("ReduceSum", ["c60"], ["s"]), helper.make_node("Reshape", ["x", "s"], ["y"])]
    outcome = attack(model(nodes, [ints("c0", 1)]))
    assert outcome.is_typed_error and outcome.seconds < 5 and outcome.mebibytes < 800, outcome


def test_matrix_powers_are_not_folded_for_ever(attack: Attack) -> None:
    size = 700
    nodes = [helper.make_node("MatMul", [f"m{i}", f"m{i}"], [f"m{i + 1}"]) for i in range(200)]
    nodes += [
        helper.make_node("Cast", ["m200"], ["i"], to=INT64),
        helper.make_node("ReduceMax", ["i"], ["r"], keepdims=0),
        helper.make_node("Unsqueeze", ["r", "zero"], ["s"]),
        helper.make_node("Expand", ["x", "s"], ["y"]),
    ]
    eye = numpy_helper.from_array(np.eye(size, dtype=np.float32), "m0")
    outcome = attack(model(nodes, [eye, ints("zero", 0)], shape=(1,)))
    assert outcome.seconds < 10 and outcome.mebibytes < 1000, outcome


def test_dims_that_grow_with_every_node(attack: Attack) -> None:
    """Sums and products of symbolic extents, doubled again and again."""
    nodes = []
    name = "x"
    for level in range(40):
        nodes += [
            helper.make_node("Concat", [name, name], [f"c{level}"], axis=0),
            helper.make_node("Shape", [f"c{level}"], [f"s{level}"]),
            helper.make_node("Mul", [f"s{level}", f"s{level}"], [f"p{level}"]),
            helper.make_node("Add", [f"p{level}", "one"], [f"q{level}"]),
            helper.make_node("Expand", ["scalar", f"q{level}"], [f"e{level}"]),
        ]
        name = f"e{level}"
    nodes.append(helper.make_node("Neg", [name], ["y"]))
    scalar = numpy_helper.from_array(np.float32(1), "scalar")
    outcome = attack(model(nodes, [ints("one", 1), scalar], shape=("n", "m")))
    assert outcome.text == "imported" or outcome.is_typed_error, outcome.text
    assert outcome.seconds < 5 and outcome.mebibytes < 500, outcome


# --- graphs


@pytest.mark.parametrize(
    "nodes",
    [
        [helper.make_node("Add", ["x", "b"], ["a"]), helper.make_node("Add", ["a", "a"], ["b"])],
        [helper.make_node("Neg", ["y"], ["y"])],
        [helper.make_node("Neg", ["nothing"], ["y"])],
        [RELU, RELU],
        [helper.make_node("Neg", ["x"], ["x"])],
        [helper.make_node("Split", ["x"], ["y", "y"], axis=1)],
        [helper.make_node("Relu", ["x"], ["z"])],
        [helper.make_node("Relu", [], ["y"])],
        [helper.make_node("Relu", ["x", "x", "x"], ["y", "z", "u"])],
        [helper.make_node("Add", ["x"], ["y"])],
        [helper.make_node("Mystery", ["x"], ["y"])],
        [helper.make_node("Relu", ["x"], ["y"], domain="elsewhere")],
        [helper.make_node("", ["x"], ["y"])],
    ],
)
def test_graphs_that_break_rules(refused: Refused, nodes: list[onnx.NodeProto]) -> None:
    refused(model(nodes))


def test_initializers_and_inputs_of_one_name(refused: Refused) -> None:
    weight = numpy_helper.from_array(np.ones(3, np.float32), "w")
    refused(model([RELU], [weight, weight]))
    proto = model([RELU])
    proto.graph.input.append(proto.graph.input[0])
    assert "two inputs are called 'x'" in refused(proto)
    proto = model([RELU], outputs=["y", "y"])
    assert "two outputs are called 'y'" in refused(proto)


def test_a_long_chain_is_no_deep_recursion(attack: Attack) -> None:
    nodes = [helper.make_node("Neg", [f"v{i}" if i else "x"], [f"v{i + 1}"]) for i in range(10_000)]
    outcome = attack(model(nodes, outputs=["v10000"]))
    assert outcome.text == "imported"
    constants = [numpy_helper.from_array(np.ones(1, np.float32), "v0")]
    chain = [helper.make_node("Neg", [f"v{i}"], [f"v{i + 1}"]) for i in range(10_000)]
    cast = helper.make_node("Cast", ["v10000"], ["s"], to=INT64)
    outcome = attack(model([*chain, cast, helper.make_node("Expand", ["x", "s"], ["y"])], constants))
    assert outcome.text == "imported", outcome.text


def test_unsupported_opsets(refused: Refused) -> None:
    for version in (0, -1, 29, 1 << 62):
        proto = model([RELU])
        proto.opset_import[0].version = version
        refused(proto)
    proto = model([RELU])
    del proto.opset_import[:]
    refused(proto)
    proto.opset_import.extend([helper.make_opsetid("", 17), helper.make_opsetid("", 18)])
    refused(proto)


def test_subgraphs_that_capture_themselves(refused: Refused) -> None:
    branch = helper.make_graph(
        [helper.make_node("Neg", ["y"], ["r"])], "b", [], [onnx.ValueInfoProto(name="r")]
    )
    yes = numpy_helper.from_array(np.array(True), "yes")
    refused(model([helper.make_node("If", ["yes"], ["y"], then_branch=branch, else_branch=branch)], [yes]))


def test_wide_nesting_of_inlined_branches(refused: Refused) -> None:
    """Each level holds the next one twice: small in depth, exponential in a naive walk of names."""
    body = helper.make_graph(
        [helper.make_node("Neg", ["x"], ["r"])], "b", [], [onnx.ValueInfoProto(name="r")]
    )
    for level in range(12):
        node = helper.make_node("If", ["no"], ["r"], name=f"level{level}", then_branch=body, else_branch=body)
        body = helper.make_graph([node], "b", [], [onnx.ValueInfoProto(name="r")])
    no = helper.make_node("IsInf", ["x"], ["no"])
    refused(model([no, *body.node], outputs=["r"]), seconds=10)


# --- external data


@pytest.fixture
def external(tmp_path: Path) -> Callable[..., Path]:
    """A model file whose weight lies at a location; beside it a good file and a secret above it."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "good").write_bytes(b"\0" * 24)
    (tmp_path / "secret").write_bytes(b"\0" * 24)

    def write(location: str, **entries: object) -> Path:
        weight = TensorProto(name="w", data_type=FLOAT, dims=[2, 3], data_location=TensorProto.EXTERNAL)
        for key, value in {"location": location, **entries}.items():
            weight.external_data.add(key=key, value=str(value))
        path = folder / "model.onnx"
        path.write_bytes(model([helper.make_node("Add", ["x", "w"], ["y"])], [weight]).SerializeToString())
        return path

    return write


def test_external_data_in_the_folder(attack: Attack, external: Callable[..., Path]) -> None:
    assert attack(external("good")).text == "imported"


@pytest.mark.parametrize(
    "location",
    ["../secret", "/etc/passwd", "/dev/zero", "good/../../secret", "..", ".", "", "good\0", "\n", EVIL],
)
def test_locations_outside(refused: Refused, external: Callable[..., Path], location: str) -> None:
    assert refused(external(location)).startswith("ExternalDataError")


@pytest.mark.parametrize("entries", [{"offset": 8}, {"offset": 1 << 62}, {"offset": -1}, {"length": 1 << 62}])
def test_offsets_outside(refused: Refused, external: Callable[..., Path], entries: dict[str, int]) -> None:
    assert refused(external("good", **entries)).startswith("ExternalDataError")


def test_links_pipes_and_devices(refused: Refused, external: Callable[..., Path], tmp_path: Path) -> None:
    folder = tmp_path / "model"
    os.mkfifo(folder / "pipe")
    (folder / "link").symlink_to(tmp_path / "secret")
    (folder / "device").symlink_to("/dev/zero")
    (folder / "self").symlink_to("self")
    (folder / "process").symlink_to("/proc/self/environ")
    for location in ("pipe", "link", "device", "self", "process"):
        assert refused(external(location)).startswith("ExternalDataError")


# --- names


def test_hostile_names_are_data(attack: Attack, refused: Refused) -> None:
    nodes = [
        helper.make_node("Relu", ["x"], [f"a{EVIL}"], name=f"n{EVIL}"),
        helper.make_node("Add", [f"a{EVIL}", f"w{EVIL}"], [f"y{EVIL}"], name=f"m{EVIL}"),
    ]
    weight = numpy_helper.from_array(np.ones(3, np.float32), f"w{EVIL}")
    proto = model(nodes, [weight], shape=(f"d{EVIL}", 3), outputs=[f"y{EVIL}"], doc_string=EVIL)
    proto.producer_name = EVIL
    assert attack(proto).text == "imported"
    broken = model(
        [helper.make_node(f"Op{EVIL}", ["x"], [f"y{EVIL}"], name=f"n{EVIL}")], outputs=[f"y{EVIL}"]
    )
    text = refused(broken)
    assert "\x1b" not in text and "\u202e" not in text and "\n" not in text


@pytest.mark.parametrize("name", ["", " ", "%", '"', "\0", "a" * 100_000, "graph", "none", "../x"])
def test_odd_names(attack: Attack, name: str) -> None:
    nodes = [
        helper.make_node("Relu", ["x"], [f"{name}1"], name=name),
        helper.make_node("Neg", [f"{name}1"], ["y"]),
    ]
    assert attack(model(nodes, shape=(name, 3))).text == "imported"
