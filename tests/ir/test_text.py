"""Text of graphs: it prints the same everywhere and parses back to the same graph."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from dlc.errors import InputError
from dlc.ir.builder import GraphBuilder
from dlc.ir.dims import Guard, Relation, Symbol, minimum
from dlc.ir.dtypes import DType
from dlc.ir.graph import ElementSource, Graph, Node, ShapeSource, Value
from dlc.ir.ops.convolution import Conv
from dlc.ir.ops.layout import Relayout
from dlc.ir.ops.movement import Expand, Slice
from dlc.ir.ops.pointwise import Activation, Binary, Cast, Clip, Unary
from dlc.ir.parse import operator_classes, parse
from dlc.ir.text import RESERVED, attribute_text, constants, inline_text, name_text, quoted, to_text
from dlc.ir.types import (
    NEG_INF,
    ZERO,
    Fill,
    FillKind,
    Halo,
    Layout,
    OpenTensorType,
    OptionalType,
    SequenceType,
    TensorType,
    blocked_channels,
)

N = Symbol("n")
HALOS = (Halo(2, 1, 2, ZERO), Halo(3, 0, 1, NEG_INF))


def sample() -> Graph:
    """A graph with symbols, a guard, small and large constants, attributes of several kinds, two outputs."""
    graph = Graph("sample")
    x = graph.add_input("x", TensorType(DType.F32, (N, 3, 8, 8)))
    count = graph.add_input("count", TensorType(DType.I64, (1,)))
    k = Symbol("k", None, 100)
    graph.symbols = {N: ShapeSource("x", 0), k: ElementSource("count", 0)}
    graph.guards = [Guard(Relation.LE, 2 * N, 64, 'at most 32 "rows"', "node 1")]
    builder = GraphBuilder(graph, origin=("conv", "other"))
    w = builder.constant(np.arange(54, dtype=np.float32).reshape(2, 3, 3, 3), "w")
    y = builder.add(Conv((1, 1), (1, 1), ((1, 1), (1, 1)), 1), x, w, None, names=["y"])
    z = builder.add(Clip(-math.inf, 6.0), y, names=["z"], origin=())
    cut = builder.add(Slice((0, 0, 0, 0), (N, 1, 4, 4), (1, 1, 1, 1)), z, names=["cut"], origin=("slice",))
    small = builder.constant(np.array([0.1, -0.0, np.inf], np.float32), "small")
    spread = builder.add(Expand((minimum(k, 4), 3)), small, names=["spread"], origin=())
    graph.outputs = [cut]
    graph.add_output(spread, "second output")
    assert count.name == "count"
    return graph


GOLDEN = """\
graph sample {
  symbol n = shape(%x, 0)
  symbol k: ..100 = element(%count, 0)
  guard 2*n <= 64, "at most 32 \\"rows\\"", "node 1"
  input %x: f32[n, 3, 8, 8]
  input %count: i64[1]
  %w = constant f32[2, 3, 3, 3] sha256:DIGEST
  %y = Conv(strides=(1, 1), dilations=(1, 1), pads=((1, 1), (1, 1)), groups=1)(%x, %w, _) : f32[n, 2, 8, 8] @ "conv", "other"
  %z = Clip(low=-inf, high=6.0)(%y) : f32[n, 2, 8, 8]
  %cut = Slice(starts=(0, 0, 0, 0), extents=(n, 1, 4, 4), steps=(1, 1, 1, 1))(%z) : f32[n, 1, 4, 4] @ "slice"
  %small = constant f32[3] [0.1, -0.0, inf]
  %spread = Expand(shape=(min(k, 4), 3))(%small) : f32[min(k, 4), 3]
  output cut = %cut
  output "second output" = %spread
}
"""  # noqa: E501


def test_the_text_of_a_graph() -> None:
    graph = sample()
    (key,) = constants(graph)
    assert to_text(graph) == GOLDEN.replace("DIGEST", key)
    assert "constant f32[2, 3, 3, 3] ...\n" in to_text(graph, digests=False)


def test_parsing_gives_the_same_graph() -> None:
    graph = sample()
    again = parse(to_text(graph), constants(graph))
    assert to_text(again) == to_text(graph)
    assert again.symbols == graph.symbols and again.guards == graph.guards
    assert [node.op for node in again.nodes] == [node.op for node in graph.nodes]
    assert [node.origin for node in again.nodes] == [node.origin for node in graph.nodes]
    assert [again.output_name(i) for i in range(2)] == ["cut", "second output"]
    small = next(value for value in again.constants() if value.name == "small")
    assert small.data is not None and np.signbit(small.data[1])
    # Names that the text uses are not handed out again.
    assert again.unique_name("y") == "y.1"


def test_blank_lines_and_comments_are_skipped() -> None:
    graph = sample()
    text = to_text(graph).replace("  input %x", "\n  # the image\n  input %x")
    assert to_text(parse(text, constants(graph))) == to_text(graph)


def test_the_text_does_not_depend_on_the_process() -> None:
    code = "from tests.ir.test_text import *; print(to_text(sample()), end='')"
    texts = set()
    for seed in ("0", "1"):
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
        )  # fmt: skip
        texts.add(done.stdout)
    assert texts == {to_text(sample())}


@pytest.mark.parametrize(
    "name",
    ["x", "a.b/c-d_1", "a b", "%", 'say "x"', "new\nline", "\x1b[31m", "\u202e", "\ud800", "\x7f", "", "é"],
)
def test_names_are_quoted_where_needed_and_are_ascii(name: str) -> None:
    graph = Graph(name)
    x = graph.add_input(name, TensorType(DType.F32, ()))
    graph.add_output(GraphBuilder(graph, origin=(name,)).add(Unary("neg"), x, names=[name]), name)
    text = to_text(graph)
    assert text.isascii() and all(line.isprintable() for line in text.split("\n"))
    again = parse(text)
    assert again.name == name and again.inputs[0].name == name and again.nodes[0].origin == (name,)
    assert again.output_name(0) == name


@pytest.mark.parametrize(
    "dtype", [d for d in DType if d.kind.value != "complex"], ids=lambda dtype: dtype.text
)
def test_small_constants_keep_every_bit(dtype: DType) -> None:
    if dtype is DType.STRING:
        data = np.array(["a", 'b"\n'], dtype=object)
    elif dtype.is_float:
        # All bit patterns of the small types, a few of the others.
        bits = np.arange(256) if dtype.bits <= 8 else np.array([0, 1, 0x3F80, 0x7F7F, 0x8000, 0xFF80])
        width = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}[dtype.itemsize]
        shift = max(0, 8 * dtype.itemsize - 16)
        data = (
            (bits.astype(width) << width(shift)).view(dtype.numpy)
            if dtype.bits >= 8
            else np.arange(8).astype(dtype.numpy)
        )
    else:
        data = np.array([0, 1], dtype=dtype.numpy)
    for start in range(0, len(data), 8):
        graph = Graph()
        value = GraphBuilder(graph).constant(data[start : start + 8], "c")
        graph.add_output(value)
        (again,) = parse(to_text(graph), constants(graph)).outputs
        assert again.data is not None and value.data is not None
        if dtype is DType.STRING:
            assert again.data.tolist() == value.data.tolist()
        else:
            assert again.data.tobytes() == value.data.tobytes()


def test_constants_that_text_would_change_go_by_digest() -> None:
    payload = np.array([0x7FC00001], np.uint32).view(np.float32)  # a NaN other than the usual one
    assert inline_text(payload, DType.F32) is None
    assert inline_text(np.array([1 + 2j], np.complex64), DType.C64) is None
    assert inline_text(np.zeros(17, np.float32), DType.F32) is None


@given(st.floats(width=64) | st.integers() | st.text() | st.booleans() | st.none())
def test_attributes_round_trip(item: Any) -> None:
    text = (
        f"graph g {{\n  input %x: f32[]\n  %y = Clip(low={attribute_text(item)}, high=none)(%x) : f32[]\n}}\n"
    )
    op = parse(text).nodes[0].op
    assert isinstance(op, Clip)
    # Of floats, repr also tells -0.0 from 0.0 and finds NaN equal to itself.
    assert type(op.low) is type(item) and repr(op.low) == repr(item)


@pytest.mark.parametrize(
    "layout", [None, blocked_channels(4, 16), blocked_channels(4, 16, HALOS, ZERO)], ids=str
)
def test_layouts_are_attributes(layout: Layout | None) -> None:
    graph = Graph()
    x = graph.add_input("x", TensorType(DType.F32, (1, 24, 8, 8)))
    graph.add_output(GraphBuilder(graph).add(Relayout(layout), x))
    assert parse(to_text(graph)).nodes[0].op == Relayout(layout)


@pytest.mark.parametrize(
    "type_",
    [
        TensorType(DType.BF16, ()),
        TensorType(DType.F32, (N, 2 * N + 1, minimum(N, 3))),
        TensorType(DType.F32, (1, 24, 8, 8), blocked_channels(4, 16)),
        TensorType(DType.F32, (1, 24, 8, 8), blocked_channels(4, 16, HALOS, ZERO)),
        TensorType(DType.F32, (4, 4), blocked_channels(2, 8, pad=Fill(FillKind.VALUE, -1.5))),
        OpenTensorType(DType.F32, None),
        SequenceType(OpenTensorType(DType.I64, (N, None, 3))),
        SequenceType(OpenTensorType(DType.I64, ())),
        OptionalType(SequenceType(OpenTensorType(DType.STRING, (2, 2)))),
        OptionalType(OpenTensorType(DType.STRING, None)),
    ],
    ids=str,
)  # fmt: skip
def test_types_round_trip(type_: Any) -> None:
    graph = Graph()
    graph.add_input("x", type_)
    assert parse(to_text(graph)).inputs[0].type == type_


def test_regions_follow_their_node() -> None:
    graph, body = Graph("outer"), Graph("body")
    x = graph.add_input("x", TensorType(DType.F32, (N,)))
    graph.symbols[N] = ShapeSource("x", 0)
    inner = body.add_input("v", TensorType(DType.F32, (N,)))
    body.add_output(GraphBuilder(body).add(Unary("exp"), inner, names=["e"]))
    y = Value("y", TensorType(DType.F32, (N,)))
    graph.nodes.append(Node(Unary("neg"), [x], [y], ("loop",), [body, body]))
    graph.add_output(y)
    text = to_text(graph)
    again = parse(text)
    assert to_text(again) == text
    assert [region.name for region in again.nodes[0].regions] == ["body", "body"]
    assert again.nodes[0].regions[0].inputs[0].type == inner.type


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("%y = Nothing()(%x) : f32[n]", "there is no operator 'Nothing'"),
        ('%y = Unary(fn="none")(%x) : f32[n]', "there is no unary function"),
        ('%y = Unary(fm="neg")(%x) : f32[n]', "fm"),
        ('%y = Unary(fn="neg")(%z) : f32[n]', "'z' is not defined before"),
        ('%x = Unary(fn="neg")(%x) : f32[n]', "'x' is defined twice"),
        ('%y = Unary(fn="neg")(%x) : f32[m]', "unknown symbol m"),
        ('%y = Unary(fn="neg")(%x) : f33[n]', "no such type"),
        ('%y = Unary(fn="neg")(%x) : f32[n] trailing', "end of the line"),
        ('%y, %z = Unary(fn="neg")(%x) : f32[n]', "2 results have 1 types"),
        ("%y = Unary(fn=neg)(%x) : f32[n]", "unknown symbol neg"),
        ('%y = Unary(fn="neg"(%x) : f32[n]', r"expected '\)'"),
        ("%y = constant f32[2] [1.0]", "1 elements do not fill"),
        ("%y = constant f32[2] sha256:00", "no constant with digest 00"),
        ("symbol q = somewhere(%x, 0)", "cannot come from 'somewhere'"),
        ('guard n < , "", ""', "expected an integer"),
        ("import os", "no statement 'import'"),
        ("output y = %nothing", "'nothing' is not defined"),
    ],
)
def test_syntax_errors_name_the_line(line: str, problem: str) -> None:
    text = f"graph g {{\n  symbol n\n  input %x: f32[n]\n  {line}\n}}\n"
    with pytest.raises(InputError, match=problem) as caught:
        parse(text)
    assert caught.value.message.startswith("line 4, column")


def test_a_text_that_ends_early() -> None:
    with pytest.raises(InputError, match="ends within a graph"):
        parse("graph g {\n  input %x: f32[]\n")


def test_operators_have_distinct_names_and_fields_with_a_text_form() -> None:
    classes = operator_classes()
    assert {"Conv", "MatMul", "Unary", "Reshape"} <= classes.keys()
    assert all(cls.__name__ == name for name, cls in classes.items())
    for op in (Activation("elu", 1.0), Binary("add"), Cast(DType.BF16)):
        assert type(op) is classes[op.name]


def test_reserved_words_cannot_be_mistaken_for_symbols() -> None:
    assert {"none", "true", "f32", "i4", "inf", "floordiv"} <= RESERVED
    assert name_text("plain") == "plain" and name_text("with space") == '"with space"'
    assert quoted("\x7f\x1b\u2028") == '"\\u007f\\u001b\\u2028"'
