"""Damaged, random, nested and swollen files (threats 1 and 2)."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from tests.hostile.conftest import Attack

Refused = Callable[..., str]


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def varint(value: int) -> bytes:
    parts = []
    while value >= 0x80:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])


def valid_model() -> onnx.ModelProto:
    """A model with most kinds of message in it."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    branch = helper.make_graph(
        [helper.make_node("Neg", ["h"], ["r"])], "b", [], [onnx.ValueInfoProto(name="r")]
    )
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["g"], alpha=0.5, transB=1),
        helper.make_node("Twice", ["g"], ["h"], domain="f"),
        helper.make_node("If", ["yes"], ["i"], then_branch=branch, else_branch=branch),
        helper.make_node("Reshape", ["i", "shape"], ["y"]),
    ]
    tensors = [
        helper.make_tensor("w", TensorProto.FLOAT, [2, 3], b"\0" * 24, raw=True),
        helper.make_tensor("b", TensorProto.FLOAT, [2], [1.0, 2.0]),
        helper.make_tensor("yes", TensorProto.BOOL, [], [True]),
        helper.make_tensor("shape", TensorProto.INT64, [1], [-1]),
    ]
    body = [helper.make_node("Add", ["v", "v"], ["s"])]
    function = helper.make_function("f", "Twice", ["v"], ["s"], body, [helper.make_opsetid("", 17)])
    graph = helper.make_graph(nodes, "g", [x], [y], tensors)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("f", 1)]
    return helper.make_model(graph, opset_imports=opsets, functions=[function], ir_version=8)


def test_the_unharmed_model_is_imported(attack: Attack) -> None:
    assert attack(valid_model()).text == "imported"


def test_truncated_files(attack: Attack) -> None:
    data = valid_model().SerializeToString()
    for length in range(0, len(data), 17):
        assert attack(data[:length]).is_typed_error or length in _field_ends(data)


def _field_ends(data: bytes) -> set[int]:
    """Positions between two fields of the outermost message, where a cut leaves a well-formed file."""
    ends, position = set(), 0
    model = onnx.ModelProto.FromString(data)
    for descriptor, value in model.ListFields():
        for item in value if descriptor.is_repeated else [value]:
            part = onnx.ModelProto()
            if descriptor.is_repeated:
                getattr(part, descriptor.name).append(item)
            elif descriptor.message_type is not None:
                getattr(part, descriptor.name).CopyFrom(item)
            else:
                setattr(part, descriptor.name, item)
            position += part.ByteSize()
            ends.add(position)
    return ends


def test_random_bytes(refused: Refused) -> None:
    generator = random.Random(0)
    for size in (1, 10, 1_000, 100_000):
        refused(generator.randbytes(size))


def test_mutated_files_never_crash(attack: Attack) -> None:
    generator = random.Random(1)
    data = valid_model().SerializeToString()
    for _ in range(80):
        mutant = bytearray(data)
        for _ in range(generator.randint(1, 4)):
            position = generator.randrange(len(mutant))
            match generator.randrange(3):
                case 0:
                    mutant[position] = generator.randrange(256)
                case 1:
                    del mutant[position : position + generator.randint(1, 4)]
                case 2:
                    mutant[position:position] = generator.randbytes(generator.randint(1, 4))
        outcome = attack(bytes(mutant))
        assert outcome.text == "imported" or outcome.is_typed_error, (outcome.text, bytes(mutant))


def test_deep_nesting_of_graphs_and_types(refused: Refused) -> None:
    graph = type_ = b""
    for _ in range(3_000):
        graph = field(1, field(5, field(6, graph)))
        type_ = field(4, field(1, type_))
    assert "nested" in refused(field(7, graph))
    assert "nested" in refused(field(7, field(11, field(2, type_))))


def test_nesting_within_the_scans_limit_is_bounded_too(refused: Refused) -> None:
    """Subgraphs deeper than protobuf itself takes, but not deeper than the scan takes."""
    graph = b""
    for _ in range(60):
        graph = field(1, field(5, field(6, graph)))
    refused(field(7, graph))


@pytest.mark.slow
def test_millions_of_empty_messages(refused: Refused) -> None:
    assert "too many messages" in refused(field(7, field(1, b"") * 10_000_000), seconds=20)


def test_a_file_that_is_no_file(refused: Refused, tmp_path: Path) -> None:
    refused(tmp_path)
    refused(tmp_path / "absent")
    refused(Path("/dev/zero"))
    fifo = tmp_path / "fifo"
    import os

    os.mkfifo(fifo)
    refused(fifo)


@pytest.mark.parametrize("text", [b"\xff\xfe", b"\xc0\x80", b"\xed\xa0\x80"])
def test_names_that_are_not_utf8(refused: Refused, text: bytes) -> None:
    data = valid_model().SerializeToString()
    assert data.count(b"Gemm") == 1
    refused(data.replace(b"Gemm", text + b"mm"[: 4 - len(text)]))


def bomb(levels: int, width: int) -> onnx.ModelProto:
    """`levels` functions, each calling the next one `width` times."""
    imports = [helper.make_opsetid("f", 1), helper.make_opsetid("", 17)]
    functions = []
    for level in range(levels):
        callee = (f"f{level + 1}", "f") if level + 1 < levels else ("Neg", "")
        body = [helper.make_node(callee[0], ["v"], [f"r{i}"], domain=callee[1]) for i in range(width)]
        functions.append(helper.make_function("f", f"f{level}", ["v"], ["r0"], body, imports))
    call = helper.make_node("f0", ["x"], ["y"], domain="f")
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    graph = helper.make_graph([call], "g", [x], [onnx.ValueInfoProto(name="y")])
    return helper.make_model(graph, opset_imports=imports, functions=functions, ir_version=8)


def test_function_bombs(refused: Refused) -> None:
    assert "nodes after functions are inlined" in refused(bomb(30, 2))
    assert "nesting of function" in refused(bomb(500, 1))


def test_recursive_functions(refused: Refused) -> None:
    model = bomb(3, 1)
    model.functions[2].node[0].op_type = "f0"
    model.functions[2].node[0].domain = "f"
    assert "without end" in refused(model)


def test_too_many_nodes(refused: Refused) -> None:
    node = helper.make_node("Neg", ["x"], ["y"]).SerializeToString()
    opset = field(8, helper.make_opsetid("", 17).SerializeToString())
    data = opset + field(7, field(1, node) * 600_000)
    assert "nodes of the model" in refused(data, seconds=10, mebibytes=700)
