"""The whole comparison, with stand-ins for the compiled model: right, wrong, and in between."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import dlc
from dlc.errors import InputError, ModelError, UnsupportedError, VerificationError
from dlc.models import digits_path
from dlc.verify import Tolerance, Verdict, Verification, Work, verify
from dlc.verify.engines import OnnxRuntime
from dlc.verify.verification import judge, load_model, model_label, typical_extents, widest_input

DIGITS = digits_path()


class StandIn:
    """onnxruntime in the place of a compiled model, with its logits changed by `fault`."""

    def __init__(self, fault: Any = None) -> None:
        self.engine = OnnxRuntime(onnx.load(DIGITS), threads=1)
        self.fault = fault

    def __call__(self, values: Mapping[str, Any]) -> dict[str, Any]:
        outputs: dict[str, Any] = dict(self.engine.run(values))
        if self.fault is not None:
            outputs["logits"] = self.fault(outputs["logits"])
        return outputs


def changed(logits: np.ndarray, size: float) -> np.ndarray:
    logits = logits.copy()
    logits[1, 4] += np.float32(size)
    return logits


def test_a_right_model_agrees() -> None:
    result = verify(DIGITS, model=StandIn(), shapes={"batch": 3}, seed=1, threads=1)
    assert result and result.agrees and result.notes == ()
    (out,) = result.outputs
    assert out.verdict is Verdict.WITHIN_TOLERANCE and out.difference.shape == (3, 10)
    assert out.ours_to_float64 == out.theirs_to_float64 and 0 < (out.ours_to_float64 or 0) < 1e-5
    assert "digits.onnx agrees with onnxruntime" in str(result) and "distance to float64" in str(result)
    result.raise_for_difference()


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (lambda y: changed(y, 0.1), "worst at [1, 4]"),
        (lambda y: changed(y, np.nan), "1 of 30 elements outside the tolerance, 1 of them NaN or infinite"),
        (lambda y: y[:, :9], "shape [3, 9], [3, 10] expected"),
        (lambda y: y.astype(np.float64), "dtype float64, float32 expected"),
        (lambda y: y[::-1].copy(), "differs"),
    ],
)
def test_a_wrong_model_is_found(fault: Any, words: str) -> None:
    result = verify(DIGITS, model=StandIn(fault), shapes={"batch": 3})
    assert not result and words in str(result)
    with pytest.raises(VerificationError, match="logits"):
        result.raise_for_difference()


@pytest.mark.parametrize("against", ["reference", "golden"])
def test_other_engines(against: str, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).uniform(0, 16, (3, 1, 8, 8)).astype(np.float32)
    np.savez(tmp_path / "in.npz", image=pixels)
    if against == "golden":
        np.savez(tmp_path / "out.npz", **StandIn()({"image": pixels}))
        against = str(tmp_path / "out.npz")
    for fault, agrees in ((None, True), (lambda y: changed(y, 0.1), False)):
        result = verify(DIGITS, model=StandIn(fault), against=against, inputs=tmp_path / "in.npz")
        assert result.agrees is agrees and result.outputs[0].difference.shape == (3, 10)


def test_own_tolerances_replace_the_table() -> None:
    slightly_off = StandIn(lambda y: changed(y, 0.1))
    assert verify(DIGITS, model=slightly_off, shapes={"batch": 3}, atol=0.11, float64=False)
    assert not verify(DIGITS, model=slightly_off, shapes={"batch": 3}, atol=0.09, float64=False)
    barely_off = StandIn(lambda y: changed(y, 1e-4))
    assert verify(DIGITS, model=barely_off, shapes={"batch": 3})
    assert not verify(DIGITS, model=barely_off, shapes={"batch": 3}, rtol=0.0, atol=0.0)


def test_the_reference_steps_in_where_onnxruntime_cannot() -> None:
    newer = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 22]> g (bfloat16[4] x) => (bfloat16[4] y) { y = Asinh (x) }'
    )
    engine: Any = __import__("dlc.verify.engines", fromlist=["Reference"]).Reference(newer)
    result = verify(newer, model=engine.run)
    assert result and "reference" in result.against
    assert "onnxruntime" in result.notes[0] and "compared with the reference instead" in result.notes[0]


def test_float64_decides_between_engines_that_disagree() -> None:
    exact = np.array([1.0, 2.0, 1e-6])
    expected, ours = exact.astype(np.float32), exact.astype(np.float32)
    expected[2] += np.float32(2e-3)
    ours[2] -= np.float32(4e-3)
    (fine,) = judge("y", ours, expected, exact, Work.MODEL)
    assert not fine.difference.agrees and fine.verdict is Verdict.AS_CLOSE_TO_FLOAT64
    ours[2] -= np.float32(1.0)
    for exact_values in (exact, None):
        (wrong,) = judge("y", ours, expected, exact_values, Work.MODEL)
        assert wrong.verdict is Verdict.DIFFERS
    (own,) = judge("y", expected, ours, exact, Work.MODEL, Tolerance(0, 0, 0, absolute=True))
    assert own.verdict is Verdict.DIFFERS


def test_json_has_no_infinities() -> None:
    result = verify(DIGITS, model=StandIn(lambda y: changed(y, np.inf)), shapes={"batch": 3})
    data = json.loads(result.to_json(), parse_constant=lambda name: pytest.fail(name))
    assert data["agrees"] is False and data["outputs"][0]["ours_to_float64"] == "inf"


def test_hostile_names_are_escaped() -> None:
    model = onnx.load(DIGITS)
    model.graph.name = "evil\x1b[2Jname\n"
    model.graph.output[0].name = model.graph.node[-1].output[0] = "out\x1b]0;x\x07"
    text = str(verify(model, model=OnnxRuntime(model).run, shapes={"batch": 1}))
    assert "\x1b" not in text and "\x07" not in text and "evil\\x1b[2Jname\\n" in text


@pytest.mark.parametrize(
    ("source", "error", "code"),
    [
        (b"\xff\xfe not protobuf", ModelError, "model/protobuf"),
        ("no/such/file.onnx", InputError, "input/file"),
        (Path("."), InputError, "input/file"),
    ],
)
def test_unreadable_models(source: Any, error: type[dlc.Error], code: str) -> None:
    with pytest.raises(error) as caught:
        load_model(source)
    assert caught.value.code == code


def test_unknown_opponents_and_missing_outputs() -> None:
    with pytest.raises(InputError, match="cannot compare with 'tensorrt'"):
        verify(DIGITS, model=StandIn(), against="tensorrt")
    with pytest.raises(InputError, match="no output 'logits'"):
        verify(DIGITS, model=lambda values: {})


def test_both_causes_are_named_where_no_engine_runs_the_inputs() -> None:
    with pytest.raises(UnsupportedError, match=r"onnxruntime .* cannot .*reference .* cannot"):
        verify(DIGITS, model=StandIn(), inputs={"image": np.zeros((1, 3, 8, 8), np.float32)})


def test_labels() -> None:
    assert model_label(Path("a/b.onnx")) == "b.onnx"
    assert model_label(Path("zoo/resnet50/model.onnx")) == "resnet50/model.onnx"
    assert "\x1b" not in model_label(Path("\x1b[2J/model.onnx"))


def test_typical_extents() -> None:
    shapes = {"batch": 2, "seq": (1, 8, 64), "x": (1, 3, 5), "y": ("batch", None)}
    assert typical_extents(shapes, {"x", "y"}) == {"batch": 2, "seq": 8, "x": [1, 3, 5]}


def test_the_module_is_the_function() -> None:
    import dlc.verify.compare as by_path

    assert dlc.verify(DIGITS, model=StandIn(), float64=False)
    assert dlc.verify.compare is by_path and dlc.Verification is Verification


def test_an_output_wider_than_the_inputs_is_judged_by_their_dtype() -> None:
    exact = np.linspace(1, 2, 7)
    rounded = exact.astype(np.float32).astype(np.float64)
    single, double = np.dtype(np.float32), np.dtype(np.float64)
    for widest, agrees in ((single, True), (double, False), (None, False)):
        (result,) = judge("y", rounded, exact, None, Work.MODEL, widest=widest)
        assert (result.verdict is Verdict.WITHIN_TOLERANCE) is agrees
    narrow = exact.astype(np.float32)
    (result,) = judge("y", narrow * 2, narrow, None, Work.MODEL, widest=double)
    assert result.verdict is Verdict.DIFFERS


def test_the_widest_input_is_a_floating_point_one() -> None:
    def model(*dtypes: int) -> onnx.ModelProto:
        inputs = [onnx.helper.make_tensor_value_info(f"x{i}", dtype, [1]) for i, dtype in enumerate(dtypes)]
        return onnx.helper.make_model(onnx.helper.make_graph([], "g", inputs, []))

    kinds = onnx.TensorProto
    assert widest_input(model(kinds.FLOAT, kinds.INT64, kinds.FLOAT16)) == np.dtype(np.float32)
    assert widest_input(model(kinds.INT64)) is None
