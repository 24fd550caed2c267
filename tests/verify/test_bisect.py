"""Planted faults: each is located at its level and place, and a healthy model shows none.

Five kinds: a wrong rewrite, a wrong index in a lowering rule, a tail mask off by one in a template, a race
between chunks, and memory that is given away too early.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest

import dlc
from dlc.backends.cpu.builder import FunctionBuilder
from dlc.backends.cpu.templates import nest
from dlc.errors import VerificationError
from dlc.ir.builder import GraphBuilder
from dlc.ir.graph import Node, Value
from dlc.ir.ops.movement import Slice, Transpose
from dlc.ir.ops.pointwise import Binary, Unary
from dlc.lowering.draft import Draft
from dlc.lowering.memory import Lifetime
from dlc.lowering.rules import registry
from dlc.models import digits_path
from dlc.options import Options
from dlc.passes.canonicalize import Canonicalize
from dlc.passes.constant_folding import ConstantFolding
from dlc.passes.rewrite import rule
from dlc.verify.bisect import bisect
from dlc.verify.bisection import BisectionReport, Level

DIGITS = digits_path()


def parse(body: str, inputs: str, outputs: str) -> onnx.ModelProto:
    """A model of nodes whose names are those of their first outputs."""
    text = f'<ir_version: 8, opset_import: ["" : 17]> g ({inputs}) => ({outputs}) {{ {body} }}'
    model = onnx.parser.parse_model(text)
    for node in model.graph.node:
        node.name = f"node_{node.output[0]}"
    return model


def random(*shapes: Sequence[int]) -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [generator.standard_normal(shape).astype(np.float32) for shape in shapes]


def run(model: onnx.ModelProto, **inputs: np.ndarray) -> BisectionReport:
    return bisect(model, inputs, options=Options(threads=2))


CHAIN = parse(
    "a = Tanh (x)  t = Transpose <perm = [1, 0]> (a)  m = MatMul (t, w)  y = Sub (m, v)",
    "float[24, 37] x, float[24, 19] w, float[37, 19] v",
    "float[37, 19] y",
)


def chain_inputs() -> dict[str, np.ndarray]:
    return dict(zip("xwv", random((24, 37), (24, 19), (37, 19))))


def test_a_healthy_model_shows_no_difference() -> None:
    report = run(CHAIN, **chain_inputs())
    assert report and report.culprit is None and report.notes == ()
    assert [level for level, _ in report.checked] == [Level.PASS, Level.LOWERING, Level.CODE, Level.THREADS]
    assert all(count > 0 for _, count in report.checked)
    assert "no difference" in str(report) and json.loads(report.to_json())["culprit"] is None


def test_the_demo_model_shows_no_difference() -> None:
    result = dlc.verify(DIGITS, shapes={"batch": 5}, bisect=True)
    assert result and result.bisection is not None and result.bisection.culprit is None
    assert "no difference" in str(result)


# --- 1. passes


@rule(Binary)
def sub_to_add(node: Node, builder: GraphBuilder) -> Value | None:
    """a - b to a + b."""
    return builder.add(Binary("add"), *node.operands) if node.op == Binary("sub") else None


def test_a_wrong_rewrite(monkeypatch: pytest.MonkeyPatch) -> None:
    rules = Canonicalize().rules()
    monkeypatch.setattr(Canonicalize, "rules", lambda self: (sub_to_add, *rules))
    report = run(CHAIN, **chain_inputs())
    culprit = report.culprit
    assert not report and culprit is not None and culprit.level is Level.PASS
    assert culprit.pass_name == "canonicalize" and culprit.nodes == ("node_y",)
    assert culprit.rewrite is not None and culprit.rewrite.startswith("sub_to_add")
    assert culprit.difference is not None and culprit.difference.first == (0, 0)
    assert [level for level, _ in report.checked] == [Level.PASS]
    text, data = str(report), json.loads(report.to_json())
    assert "pass: canonicalize" in text and "nodes: node_y" in text and "the first at [0, 0]" in text
    assert data["culprit"]["level"] == "pass" and data["culprit"]["pass"] == "canonicalize"


def test_a_pass_without_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first node with a wrong value is named where there are no single rewrites to try."""
    apply = ConstantFolding.apply

    def fold(self: ConstantFolding, graph: Any) -> Any:
        for node in graph.nodes:
            if node.op == Unary("tanh"):
                node.op = Unary("sigmoid")
        return apply(self, graph)

    monkeypatch.setattr(ConstantFolding, "apply", fold)
    culprit = run(CHAIN, **chain_inputs()).culprit
    assert culprit is not None and culprit.pass_name == "constant-folding" and culprit.nodes == ("node_a",)


def test_a_pass_that_breaks_the_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    def fold(self: ConstantFolding, graph: Any) -> Any:
        graph.nodes.pop(0)

    monkeypatch.setattr(ConstantFolding, "apply", fold)
    culprit = run(CHAIN, **chain_inputs()).culprit
    assert culprit is not None and culprit.pass_name == "constant-folding"
    assert culprit.difference is None and "cannot be evaluated" in culprit.cause


# --- 2. lowering


def test_a_wrong_index_in_a_lowering_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    registry.lowered_operators()

    def shifted(draft: Draft, node: Node) -> None:
        """A slice that starts one element late, but for the last one."""
        axes = draft.axes_of(node.output.tensor.shape)
        op = node.op
        assert isinstance(op, Slice)
        index = [start + axis for start, axis in zip(op.starts, axes)]
        draft.store(node.output, axes, draft.load(draft.operand(0), (index[0], index[1] + 1)))

    monkeypatch.setitem(registry._RULES, Slice, shifted)
    model = parse(
        "zero = Constant <value_ints = [0, 3]> ()  end = Constant <value_ints = [9, 30]> ()"
        "  a = Exp (x)  s = Slice (a, zero, end)  y = MatMul (s, w)",
        "float[9, 32] x, float[27, 5] w",
        "float[9, 5] y, float[9, 27] s",
    )
    x, w = random((9, 32), (27, 5))
    culprit = run(model, x=x, w=w).culprit
    assert culprit is not None and culprit.level is Level.LOWERING and culprit.value == "s"
    assert "node_s" in culprit.nodes and culprit.step is not None and culprit.kernel is not None
    assert culprit.difference is not None and culprit.difference.first == (0, 0)
    assert culprit.template is None


def test_a_rule_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    registry.lowered_operators()

    def fail(draft: Draft, node: Node) -> None:
        raise KeyError("planted")

    monkeypatch.setitem(registry._RULES, Transpose, fail)
    culprit = run(CHAIN, **chain_inputs()).culprit
    assert culprit is not None and culprit.level is Level.LOWERING and "KeyError: 'planted'" in culprit.cause


DIAMOND = parse(
    "a = MatMul (x, w)  b = MatMul (a, w)  c = MatMul (b, w)  d = MatMul (c, w)  y = Add (d, a)",
    "float[8, 8] x, float[8, 8] w",
    "float[8, 8] y",
)


def diamond_inputs() -> dict[str, np.ndarray]:
    return dict(zip("xw", random((8, 8), (8, 8))))


def test_memory_reused_while_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lifetime of a value that is read three steps later ends with the step after it."""
    monkeypatch.setattr(Lifetime, "overlaps", lambda self, other: abs(self.first - other.first) <= 1)
    culprit = run(DIAMOND, **diamond_inputs()).culprit
    assert culprit is not None and culprit.level is Level.LOWERING and culprit.value == "a"
    assert "the memory of a is overwritten by step" in culprit.cause
    assert culprit.step == 2 and culprit.nodes == ("node_c",)


def test_memory_reused_by_its_last_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    """A product may not write over its own operand, which the evaluator alone would not notice."""

    def strictly(self: Lifetime, other: Lifetime) -> bool:
        return self.first < other.last and other.first < self.last

    monkeypatch.setattr(Lifetime, "overlaps", strictly)
    culprit = run(DIAMOND, **diamond_inputs()).culprit
    assert culprit is not None and culprit.level is Level.LOWERING and "while it reads that" in culprit.cause
    assert culprit.step == 2 and culprit.nodes == ("node_c",) and culprit.value == "b"


# --- 3. code generation


def test_a_wrong_tail_mask_in_a_template(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last element of an incomplete vector is not computed."""
    tail_mask = FunctionBuilder.tail_mask

    def short(self: FunctionBuilder, remaining: Any, lanes: int = 16) -> Any:
        return tail_mask(self, self.sub(remaining, 1), lanes)

    model = parse("a = Softmax (x)  y = Exp (a)", "float[3, 37] x", "float[3, 37] y, float[3, 37] a")
    monkeypatch.setattr(FunctionBuilder, "tail_mask", short)
    culprit = run(model, x=random((3, 37))[0]).culprit
    assert culprit is not None and culprit.level is Level.CODE and culprit.template == "nest"
    assert "node_a" in culprit.nodes and culprit.kernel is not None and culprit.kernel.startswith("k0_")
    assert culprit.difference is not None and culprit.difference.first is not None


def test_a_kernel_that_writes_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    tail_mask = FunctionBuilder.tail_mask

    def long(self: FunctionBuilder, remaining: Any, lanes: int = 16) -> Any:
        return tail_mask(self, self.add(remaining, 1), lanes)

    model = parse("a = Exp (x)  y = MatMul (a, w)", "float[1, 37] x, float[37, 5] w", "float[1, 5] y")
    monkeypatch.setattr(nest._Nest, "_vector_loop", _with(nest._Nest._vector_loop, long))
    x, w = random((1, 37), (37, 5))
    culprit = run(model, x=x, w=w).culprit
    assert culprit is not None and culprit.level is Level.CODE
    assert "writes outside its buffers, at byte 148 of the arena" in culprit.cause
    assert culprit.nodes == ("node_a",)


def _with(method: Any, tail_mask: Any) -> Any:
    """`method`, with the builder's tail masks replaced while it runs."""

    def patched(*args: Any, **kwargs: Any) -> Any:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(FunctionBuilder, "tail_mask", tail_mask)
            return method(*args, **kwargs)

    return patched


# --- 4. threads


def overlapping(self: Any, begin: int) -> Any:
    """A nest's `emit` whose chunks begin `begin` points before their place."""
    b, em = self.b, self.em
    for local, (place, inner) in self.scratch_offsets.items():
        pointer = b.byte_offset(self.frame.scratch, em.dim(place))
        self._keep(nest._ScratchLocal(local, pointer, tuple(self.symbol[a] for a in inner)))
    points, chunks = em.dim(self.plan.points), em.dim(self.chunks)
    low = b.smax(b.sub(b.udiv(b.mul(self.frame.chunk, points), chunks), begin), 0)
    high = b.udiv(b.mul(b.add(self.frame.chunk, 1), points), chunks)
    with b.loop(low, high, name="point") as loop:
        self._bind_point(b.value(loop.iv))
        self._inner_outer_loops(list(self.plan.nested))
    return self.frame.finish("nest", self.chunks, self.scratch_bytes)


SOFTMAX = parse("a = Softmax (x)  y = Neg (a)", "float[64, 512] x", "float[64, 512] y, float[64, 512] a")


def test_chunks_that_overlap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two chunks that write the same number to one element: right in every order, and still a race."""
    monkeypatch.setattr(nest._Nest, "emit", lambda self: overlapping(self, 1))
    culprit = run(SOFTMAX, x=random((64, 512))[0]).culprit
    assert culprit is not None and culprit.level is Level.THREADS and culprit.template == "nest"
    assert "write one element" in culprit.cause and "node_a" in culprit.nodes and culprit.value == "a"


def test_chunks_that_update_in_place_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """An overlap in a kernel that overwrites its operand changes numbers, already in order."""
    monkeypatch.setattr(nest._Nest, "emit", lambda self: overlapping(self, 1))
    model = parse(
        "a = MatMul (x, w)  b = Softmax (a)  c = Exp (b)  y = MatMul (c, v)",
        "float[256, 16] x, float[16, 512] w, float[512, 3] v",
        "float[256, 3] y",
    )
    x, w, v = random((256, 16), (16, 512), (512, 3))
    culprit = run(model, x=x, w=w, v=v).culprit
    assert culprit is not None and culprit.level in (Level.CODE, Level.THREADS) and culprit.template == "nest"


# --- 0. import, and the whole


def test_a_wrong_evaluator_is_a_fault_of_the_import(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the graph means is compared with the reference before anything else."""
    evaluate = Unary.evaluate

    def wrong(self: Unary, inputs: Any, dim: Any) -> Any:
        (result,) = evaluate(self, inputs, dim)
        return (result * np.float32(1.5) if self.fn == "tanh" else result,)

    monkeypatch.setattr(Unary, "evaluate", wrong)
    expected = {"y": np.zeros((37, 19), np.float32)}
    report = bisect(CHAIN, chain_inputs(), expected=expected)
    assert report.culprit is not None and report.culprit.level is Level.IMPORT
    assert report.culprit.nodes == ("node_a",) and report.culprit.value == "a"


def test_verification_reports_what_the_bisection_found(monkeypatch: pytest.MonkeyPatch) -> None:
    rules = Canonicalize().rules()
    monkeypatch.setattr(Canonicalize, "rules", lambda self: (sub_to_add, *rules))
    result = dlc.verify(CHAIN, inputs=chain_inputs(), bisect=True, cache=False, float64=False)
    assert not result and not result.agrees and result.bisection is not None
    assert "pass: canonicalize" in str(result) and result.to_dict()["bisection"]["difference"] is True
    with pytest.raises(VerificationError):
        result.raise_for_difference()
