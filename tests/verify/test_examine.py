"""Examination: each symptom of a planted fault, who is to blame for a death, and what no symptom is."""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest

from dlc.ir.builder import GraphBuilder
from dlc.limits import Limits
from dlc.verify import judges
from dlc.verify.engines import Reference
from dlc.verify.examine import Examination, Finished, Kind, examine, examine_isolated, in_child
from dlc.verify.isolate import Ending, isolated
from tests.helpers.planted import plant

Array = np.ndarray[Any, Any]


def parse(text: str, opset: int = 17) -> onnx.ModelProto:
    return onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}]> {text}')


TANH = parse("g (float[n] x) => (float[n] y) { t = Neg (x) y = Tanh (t) }")
X = {"x": np.linspace(0.5, 1, 4, dtype=np.float32)}


def found(
    model: onnx.ModelProto = TANH, inputs: Sequence[dict[str, Array]] = (X,), **how: Any
) -> Examination:
    return examine_isolated(model, inputs, options={"threads": 1}, **how)


def test_a_healthy_model_agrees() -> None:
    examination = found()
    assert examination == Examination(None, Finished.AGREES)
    assert Examination.from_dict(examination.to_dict()) == examination


@pytest.mark.parametrize(
    "fault, kind, text",
    [
        ("wrong", Kind.WRONG, "output y differs from onnxruntime and reference: 4 of 4 elements"),
        ("error", Kind.ERROR, "KeyError"),
        ("crash", Kind.CRASH, "died of SIGABRT in compile"),
        ("hang", Kind.TOO_LONG, "compile"),
    ],
)
def test_symptoms(fault: str, kind: Kind, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, fault)
    seconds = 1 if fault == "hang" else 60
    symptom = found(seconds=seconds).symptom
    assert symptom is not None and symptom.kind is kind and text in symptom.text
    assert symptom.is_like(found(seconds=seconds).symptom)
    assert not symptom.is_like(None)
    for judges_ in ((), ("reference",)):
        alone = found(seconds=seconds, judges=judges_).symptom
        assert alone is None if kind is Kind.WRONG and not judges_ else symptom.is_like(alone)


def test_a_difference_that_only_one_engine_sees_is_doubtful(monkeypatch: pytest.MonkeyPatch) -> None:
    """onnxruntime has no Atanh in double precision, so the reference runs it for both judges."""
    model = parse("g (double[n] x) => (double[n] y) { t = Atanh (x) y = Tanh (t) }")
    inputs = {"x": np.array([0.25, 0.5])}
    assert found(model, [inputs]).finished is Finished.AGREES
    plant(monkeypatch, "wrong")
    symptom = found(model, [inputs]).symptom
    assert symptom is not None and symptom.kind is Kind.DOUBTFUL and "Atanh" in symptom.text
    salted = {"x": np.array([0.25, np.nan])}
    assert found(model, [salted]).symptom is None
    padded = parse("g (double[n] x) => (double[m] y) { t = Atanh (x) p = Pad (t, two) y = Tanh (p) }")
    padded.graph.initializer.append(onnx.numpy_helper.from_array(np.array([1, 1]), "two"))
    plant(monkeypatch, "wrong")
    symptom = found(padded, [inputs]).symptom
    assert symptom is not None and symptom.kind is Kind.DOUBTFUL
    assert found(padded, [{"x": np.ones(0)}]).symptom is None


def test_inputs_that_others_refuse_have_to_be_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = parse("g (float[2, n] x, float[m, 3] w) => (float[2, 3] y) { y = MatMul (x, w) }")
    good = {"x": np.ones((2, 4), np.float32), "w": np.ones((4, 3), np.float32)}
    bad = {**good, "w": np.ones((9, 3), np.float32)}
    assert found(model, [good, bad]).finished is Finished.AGREES
    monkeypatch.setattr("dlc.frontend.onnx.ops.contraction.require_equal", lambda *_: None)
    monkeypatch.setattr(GraphBuilder, "_guard", lambda *_: None)
    symptom = found(model, [good, bad]).symptom
    assert symptom is not None and symptom.kind is Kind.LENIENT


def test_what_engines_refuse_without_elements_is_inconclusive() -> None:
    """A mean over 2 positions of each of no channels is no mean; onnxruntime and the reference fail on it."""
    model = parse("g (float[1, c, 2] x) => (float[1, d, 1] y) { y = GlobalAveragePool (x) }")
    good, empty = {"x": np.ones((1, 2, 2), np.float32)}, {"x": np.ones((1, 0, 2), np.float32)}
    examination = found(model, [good, empty])
    assert examination.symptom is None and examination.notes == ("no engine runs it without elements",)


def test_refusing_good_inputs_is_a_symptom(monkeypatch: pytest.MonkeyPatch) -> None:
    """But for extents for which a compilation of its own refuses them, too."""
    model = parse("g (float[n] x, float[m] s) => (float[?] y) { y = PRelu (x, s) }")
    good = {"x": np.ones(3, np.float32), "s": np.ones(3, np.float32)}
    wide = {"x": np.ones(1, np.float32), "s": np.ones(3, np.float32)}  # against the standard; engines run it
    assert found(model, [good, wide]).finished is Finished.AGREES
    other = {"x": np.ones(5, np.float32), "s": np.ones(1, np.float32)}
    assert found(model, [good, other]).finished is Finished.AGREES
    monkeypatch.setattr("dlc.runtime.call._LARGEST_EXTENT", 4)
    assert found(model, [good]).symptom is None
    symptom = found(model, [other]).symptom
    assert symptom is not None and symptom.kind is Kind.ERROR and "ShapeError" in symptom.text


def test_refusals_are_symptoms_on_request() -> None:
    model = parse("g (float[n] x, int64[1] k) => (float[?] y) { y = Slice (x, k, k, zero, k) }")
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros(1, np.int64), "zero"))
    inputs = {"x": np.ones(5, np.float32), "k": np.array([1])}
    examination = found(model, [inputs])
    assert examination.symptom is None and examination.finished is Finished.UNSUPPORTED
    assert examination.notes[0].startswith("Slice: ")
    symptom = found(model, [inputs], refusals=True).symptom
    assert symptom is not None and symptom.kind is Kind.ERROR and "UnsupportedError" in symptom.text
    limited = examine(TANH, [X], options={"limits": Limits(nodes=1)})
    assert limited.symptom is None and limited.finished is Finished.LIMITED


def test_a_judge_that_dies_alone_is_not_dlcs_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Reference, "run", lambda *_: os.abort())
    examination = found()
    assert examination.symptom is None and examination.notes == ("judge reference died of SIGABRT",)


def test_a_judge_that_dies_after_dlc_dies_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    run, started = Reference.run, []

    def fragile(self: Reference, inputs: Any) -> Any:
        return os.abort() if started else run(self, inputs)

    monkeypatch.setattr(Reference, "run", fragile)
    module = importlib.import_module("dlc.api.compile")
    build = module.build

    def recorded(*operands: Any) -> Any:
        started.append(True)
        return build(*operands)

    monkeypatch.setattr(module, "build", recorded)
    symptom = found().symptom
    assert symptom is not None and symptom.kind is Kind.CRASH
    assert "judge reference, which lives where dlc has not run" in symptom.text


def test_judges_that_disagree_decide_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, "wrong")
    run = Reference.run
    monkeypatch.setattr(Reference, "run", lambda self, x: {n: v + 1 for n, v in run(self, x).items()})
    monkeypatch.setattr("dlc.verify.examine.exactly", lambda *_: None)
    examination = found()
    assert examination.symptom is None and examination.finished is Finished.INCONCLUSIVE
    assert judges.JUDGES.keys() == {"onnxruntime", "reference"}


# --- children


def test_children() -> None:
    assert isolated(lambda: [1, "a"]).value == [1, "a"]
    assert isolated(os.abort).ending is Ending.DIED
    assert isolated(lambda: os._exit(0)).ending is Ending.DIED
    slow = isolated(lambda: os.read(os.pipe()[0], 1), seconds=0.5)
    assert slow.ending is Ending.TOO_LONG and str(slow) == "took too long"
    failed = isolated(lambda: {}["key"])
    assert failed.ending is Ending.RAISED and failed.error is not None and failed.error.kind == "KeyError"


def test_a_child_has_little_memory() -> None:
    outcome = isolated(lambda: len(np.ones(1 << 28)), memory=1 << 28)
    assert outcome.ending is Ending.RAISED and outcome.error is not None
    assert "MemoryError" in outcome.error.kind


def test_a_child_that_fails_before_it_tells_its_stage() -> None:
    def child(ours: bool) -> Examination:
        os.abort()

    examination = in_child(child)
    assert examination.symptom is None and examination.notes == ("the child died of SIGABRT",)
