"""Reduction: models with a planted fault shrink to what shows it, and to nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest

from dlc.errors import InputError, ResourceError
from dlc.verify.examine import Kind
from dlc.verify.reduce import Reduction, reduce
from dlc.verify.reduction import Candidate, Search, steps
from tests.helpers.planted import plant

Array = np.ndarray[Any, Any]


def parse(text: str, opset: int = 17) -> onnx.ModelProto:
    return onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}]> {text}')


LARGE = parse(
    """g (float[n, 6] x, float[6, 4] w) => (float[n, 4] y, float[n, 6] z, float[n, 24] r)
    <float[4] bias = {1, 2, 3, 4}> {
        a = Abs (x)  b = Add (a, x)  c = Mul (b, a)  d = Tanh (c)  e = Sigmoid (d)
        f = MatMul (e, w)  h = Add (f, bias)  y = Relu (h)
        i = Neg (b)  j = Exp (i)  z = Softmax (j)
        k = Concat <axis = 1> (a, b, c, d)  l = Identity (k)  r = Floor (l)
    }"""
)


def inputs(rows: int = 7) -> dict[str, Array]:
    random = np.random.default_rng(0)
    shapes = {"x": (rows, 6), "w": (6, 4)}
    return {name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def operators(reduction: Reduction) -> list[str]:
    return [node.op_type for node in reduction.model.graph.node]


def test_a_wrong_answer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    plant(monkeypatch, "wrong")
    lines: list[str] = []
    reduction = reduce(LARGE, inputs=inputs(), progress=lines.append, threads=1)
    assert operators(reduction) == ["Tanh"] and reduction.symptom.kind is Kind.WRONG
    assert reduction.nodes_before == 14 and reduction.nodes == 1
    assert sum(array.size for array in reduction.inputs.values()) == 1
    assert len(reduction.model.graph.initializer) == 0 and reduction.tried < 60
    onnx.checker.check_model(reduction.model, full_check=True)
    assert "1 nodes, 1 elements" in lines[-1]
    assert "14 nodes reduced to 1 (Tanh)" in str(reduction) and reduction.to_dict()["operators"] == ["Tanh"]
    path = tmp_path / "small.onnx"
    arrays = reduction.save(path)
    assert arrays == tmp_path / "small.npz"
    again = reduce(path, inputs=arrays, threads=1)
    assert again.symptom.is_like(reduction.symptom) and operators(again) == ["Tanh"]
    with pytest.raises(ResourceError, match="cannot write"):
        reduction.save(tmp_path / "missing" / "small.onnx")


@pytest.mark.parametrize("fault, kind", [("error", Kind.ERROR), ("crash", Kind.CRASH)])
def test_errors_and_crashes(fault: str, kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, fault)
    model = parse("g (float[2] x) => (float[2] y) { a = Neg (x) b = Tanh (a) y = Abs (b) }")
    reduction = reduce(model, inputs={"x": np.ones(2, np.float32)}, against="reference", threads=1)
    assert operators(reduction) == ["Tanh"] and reduction.symptom.kind is kind


def test_a_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, "hang")
    model = parse("g (float[2] x) => (float[2] y) { a = Neg (x) b = Tanh (a) y = Abs (b) }")
    small = reduce(model, inputs={"x": np.ones(2, np.float32)}, seconds_each=0.7, seconds=20, threads=1)
    assert operators(small) == ["Tanh"] and small.symptom.kind is Kind.TOO_LONG


def test_extents_shrink_as_far_as_the_fault_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, "wrong if long")
    model = parse("g (float[5, 40] x) => (float[40, 5] y) { a = Tanh (x) y = Transpose (a) }")
    reduction = reduce(model, inputs={"x": np.full((5, 40), 0.3, np.float32)}, threads=1)
    assert operators(reduction) == ["Tanh"]
    assert reduction.inputs["x"].shape == (1, 8)


def test_a_fault_within_a_subgraph(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, "error")
    model = parse(
        """g (bool c, float[3] x) => (float[3] y) {
            a = Neg (x)
            b = If (c) <then_branch = t () => (float[3] p) { u = Exp (a) v = Tanh (u) p = Abs (v) },
                        else_branch = e () => (float[3] q) { q = Identity (a) }>
            y = Sqrt (b) }"""
    )
    small = reduce(model, inputs={"c": np.array(True), "x": np.ones(3, np.float32)}, threads=1)
    found = {node.op_type for graph in steps.all_graphs(small.model.graph) for node in graph.node}
    assert operators(small) == ["If"] and "Tanh" in found and not found & {"Exp", "Neg", "Sqrt"}


def test_functions_are_inlined_first(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, "error")
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17, "local" : 1]>
        g (float[2] x) => (float[2] y) { a = Neg (x) y = local.two (a) }
        <domain: "local", opset_import: ["" : 17]> two (a) => (b) { c = Tanh (a) b = Exp (c) }"""
    )
    small = reduce(model, inputs={"x": np.ones(2, np.float32)}, threads=1)
    assert operators(small) == ["Tanh"] and not small.model.functions


def test_only_the_same_symptom_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """An UnsupportedError, a symptom of its own kind, hides the wrong answer: it is what is reduced."""
    plant(monkeypatch, "wrong")
    model = parse(
        """g (float[5] x, int64[1] k) => (float[?] y, float[5] z)
        <int64[1] zero = {0}> { z = Tanh (x) y = Slice (x, zero, k, zero, k) }"""
    )
    values = {"x": np.ones(5, np.float32), "k": np.array([2])}
    assert operators(reduce(model, inputs=values, threads=1)) == ["Slice"]


def test_a_healthy_model_is_not_reduced() -> None:
    with pytest.raises(InputError, match="shows no fault"):
        reduce(LARGE, inputs=inputs(), threads=1)
    with pytest.raises(InputError, match="cannot judge by 'tensorrt'"):
        reduce(LARGE, against="tensorrt")


def test_the_time_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, "wrong")
    reduction = reduce(LARGE, inputs=inputs(), seconds=0, threads=1)
    assert reduction.tried == 0 and reduction.nodes == 14


# --- the search, without compiling anything


def searched(model: onnx.ModelProto, values: dict[str, Array], check: Callable[[Candidate], bool]) -> Search:
    search = Search(Candidate(model, values), check, 60, lambda _: None)
    search.run()
    return search


def holds(*needed: str) -> Callable[[Candidate], bool]:
    """A fault that needs nodes of all these operators, in a valid model."""

    def check(candidate: Candidate) -> bool:
        onnx.checker.check_model(candidate.model)
        return set(needed) <= {node.op_type for node in candidate.nodes}

    return check


@pytest.mark.parametrize("needed", [("Abs",), ("Tanh", "Softmax"), ("MatMul", "Relu"), ("Concat",)])
def test_every_candidate_is_valid(needed: tuple[str, ...]) -> None:
    search = searched(LARGE, inputs(), holds(*needed))
    assert sorted(node.op_type for node in search.best.nodes) == sorted(needed)
    read = {name for node in search.best.nodes for name in node.input}
    assert {info.name for info in search.best.model.graph.input} <= read
    assert search.best.inputs.keys() == {info.name for info in search.best.model.graph.input}


def test_values_that_are_cut_off_keep_their_types() -> None:
    model = parse(
        """g (bfloat16[2] x) => (int64[2] y)
        { a = Abs (x)  b = Cast <to = 1> (a)  c = Floor (b)  y = Cast <to = 7> (c) }"""
    )
    values = {"x": np.array([1.5, -2], ml_dtypes.bfloat16)}
    search = searched(model, values, holds("Floor"))
    (info,) = search.best.model.graph.input
    assert info.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    (array,) = search.best.inputs.values()
    assert array.dtype == np.float32


def test_attributes_and_last_operands_go() -> None:
    text = """g (float[4, 4] a, float[4, 4] b, float[4] c) => (float[4, 4] y)
        { y = Gemm <alpha = 2.0, transA = 1> (a, b, c) }"""
    random = np.random.default_rng(0)
    values = {"a": random.random((4, 4)), "b": random.random((4, 4)), "c": random.random(4)}
    arrays = {name: value.astype(np.float32) for name, value in values.items()}

    def check(candidate: Candidate) -> bool:
        return any(attribute.name == "transA" for attribute in candidate.nodes[0].attribute)

    best = searched(parse(text), arrays, check).best
    assert [attribute.name for attribute in best.nodes[0].attribute] == ["transA"]
    assert len(best.nodes[0].input) < 3 and "c" not in best.inputs


def test_numbers_become_simple() -> None:
    text = "g (float[3] x) => (float[3] y) <float[3] w = {0.3, 0.7, 0.9}> { y = Mul (x, w) }"
    values = {"x": np.array([0.3, 4.7, 1e9], np.float32)}
    best = searched(parse(text), values, holds("Mul")).best
    assert best.inputs["x"].tolist() == [0] and best.size == (1, 2, 1)
