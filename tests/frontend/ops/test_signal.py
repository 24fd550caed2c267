"""Fourier transforms, windows and mel filters against the reference and onnxruntime, natively."""

from __future__ import annotations

import dataclasses
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import dlc
from dlc.errors import LimitError, ModelError
from dlc.frontend.onnx.importer import import_model
from tests.helpers.native_nodes import check_native_node, run_native
from tests.helpers.onnx_cases import (
    assert_agrees,
    backend_node_cases,
    check_backend_case,
    feeds_of,
    one_node_model,
    run_evaluator,
)

WINDOWS = ("HannWindow", "HammingWindow", "BlackmanWindow")
CASES = backend_node_cases(["DFT", "STFT", "MelWeightMatrix", *WINDOWS])
#: Sums of many terms: relative to the largest bin, not to each.
CLOSE = {"float32": (1e-4, 2e-4), "float64": (1e-10, 1e-10), "float16": (1e-2, 3e-2), "bfloat16": (2e-2, 0.3)}
DTYPES = [np.float32, np.float64, np.float16, ml_dtypes.bfloat16]
rng = np.random.default_rng(8)


def draw(*shape: int, dtype: Any = np.float32) -> np.ndarray[Any, Any]:
    """Numbers of a normal distribution."""
    return rng.standard_normal(shape).astype(dtype)


def scalar(number: int) -> np.ndarray[Any, Any]:
    return np.array(number, dtype=np.int64)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_backend_node_cases(case: Any) -> None:
    # What cancels is noise of 2e-7 in the stored outputs, more than their tolerance.
    axis = (2,) if case.model.graph.node[0].op_type == "DFT" else ()
    check_backend_case(dataclasses.replace(case, atol=1e-6), constants=axis)


def transformed(x: Any, n: int | None, axis: int, inverse: bool, onesided: bool) -> Any:
    """The transform in float64, by NumPy."""
    numbers = x[..., 0].astype(np.float64)
    if x.shape[-1] == 2:
        numbers = numbers + 1j * x[..., 1].astype(np.float64)
    axis = axis % x.ndim
    if inverse and onesided:
        return np.fft.irfft(numbers, n, axis)[..., None].astype(x.dtype)
    y = (np.fft.ifft if inverse else np.fft.fft)(numbers, n, axis)
    if onesided:
        y = np.take(y, range(y.shape[axis] // 2 + 1), axis)
    return np.stack([y.real, y.imag], -1).astype(x.dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: np.dtype(dtype).name)
@pytest.mark.parametrize("parts, inverse, onesided", [
    (1, 0, 0), (1, 0, 1), (2, 0, 0), (2, 1, 0), (2, 1, 1), (1, 1, 0),
])
def test_dft(parts: int, inverse: int, onesided: int, dtype: Any) -> None:
    attributes = {"inverse": inverse, "onesided": onesided}
    # onnxruntime scales inverse transforms by the f32 number nearest to 1 / n, and knows no IRFFT.
    onnxruntime = not inverse or (dtype is np.float32 and not onesided)
    onnxruntime = onnxruntime and dtype in (np.float32, np.float64)
    cases = [((2, 10, parts), 1, None), ((3, 9, 4, parts), -3, 12), ((2, 11, 3, parts), 2, 2)]
    for shape, axis, n in cases:
        x = draw(*shape, dtype=dtype)
        inputs = [x] if n is None else [x, scalar(n)]
        wanted = transformed(x, n, axis, bool(inverse), bool(onesided))
        tolerance = CLOSE[np.dtype(dtype).name]
        # NumPy judges; the reference has no bfloat16, and errors for a real operand of an inverse transform.
        reference = dtype in (np.float32, np.float64) and not (inverse and parts == 1)
        judges: dict[str, Any] = {"reference": reference, "onnxruntime": onnxruntime}
        for opset in (17, 20) if n is None else (20,):
            operands = inputs if opset == 17 else [*inputs, *[None] * (2 - len(inputs)), scalar(axis)]
            given = attributes | ({"axis": axis} if opset == 17 else {})
            if any(judges.values()):
                judges |= {"constants": (1, 2), "tolerance": tolerance}
                check_native_node("DFT", operands, 1, given, opset, **judges)
            model = one_node_model("DFT", operands, 1, given, opset, constants=(1, 2))
            assert_agrees(run_evaluator(model, feeds_of(model, operands)), [wanted], tolerance)


@pytest.mark.parametrize("n", [1536, 2 * 1031])
@pytest.mark.parametrize("inverse, onesided, parts", [(0, 0, 1), (0, 1, 1), (0, 0, 2), (1, 0, 2), (1, 1, 2)])
def test_long_transforms(n: int, inverse: int, onesided: int, parts: int) -> None:
    """Split into shorter ones, or into a convolution where n is prime."""
    x = draw(2, n // 2 + 1 if inverse and onesided else n, parts)
    operands = [x, scalar(n)]
    attributes = {"inverse": inverse, "onesided": onesided}
    model = one_node_model("DFT", operands, 1, attributes, 20, constants=(1,))
    wanted = transformed(x, n, 1, bool(inverse), bool(onesided))
    scale = float(np.abs(wanted).max())
    for y in (run_evaluator(model, {"x0": x}), run_native(model, {"x0": x})):
        assert_agrees([part / scale for part in y], [wanted / np.float32(scale)], (1e-4, 2e-6))


def test_a_long_transform_in_f64() -> None:
    x = draw(1, 1400, 1, dtype=np.float64)
    model = one_node_model("DFT", [x], 1, {}, 20)
    (y,) = run_native(model, {"x0": x})
    np.testing.assert_allclose(y, transformed(x, None, 1, False, False), rtol=0, atol=1e-10)


@pytest.mark.parametrize("parts, inverse, onesided", [(1, 0, 0), (1, 0, 1), (2, 0, 0), (2, 1, 0), (2, 1, 1)])
@pytest.mark.parametrize("extent, n", [(5, 9), (7, None)])
def test_run_time_length(extent: int, n: int | None, parts: int, inverse: int, onesided: int) -> None:
    x = draw(2, extent, 3, parts)
    operands = [x, None if n is None else scalar(n), scalar(1)]
    attributes = {"inverse": inverse, "onesided": onesided}
    model = one_node_model("DFT", operands, 1, attributes, 20, constants=(2,), symbolic=True)
    model.graph.input[0].type.tensor_type.shape.dim[3].dim_value = parts
    wanted = [transformed(x, n, 1, bool(inverse), bool(onesided))]
    assert_agrees(run_evaluator(model, feeds_of(model, operands)), wanted, CLOSE["float32"])
    assert_agrees(run_native(model, feeds_of(model, operands)), wanted, CLOSE["float32"])


@pytest.mark.parametrize("opset, attributes, shape, message", [
    (17, {"axis": 2}, (2, 4, 1), "last axis"),
    (17, {"axis": -4}, (2, 4, 1), "axis"),
    (17, {"onesided": 1}, (2, 4, 2), "onesided"),
    (20, {"onesided": 1, "inverse": 1}, (2, 4, 1), "onesided"),
    (20, {"onesided": 2}, (2, 4, 1), "0 or 1"),
    (20, {}, (2, 4, 3), "1 or 2"),
    (20, {}, (2, 0, 1), "at least 1 point"),
])
def test_dft_refuses(opset: int, attributes: dict[str, int], shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        import_model(one_node_model("DFT", [draw(*shape)], 1, attributes, opset))


def test_a_bomb_of_twiddle_factors_is_refused() -> None:
    operands = [draw(1, 4, 1), scalar(1 << 33)]
    with pytest.raises(LimitError, match="twiddle factors"):
        import_model(one_node_model("DFT", operands, 1, {}, 20, constants=(1,)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("onesided", [0, 1])
@pytest.mark.parametrize("window, length", [(True, None), (False, 16), (True, 16), (False, None)])
def test_stft(window: bool, length: int | None, onesided: int, dtype: Any) -> None:
    signal = draw(2, 50, 1, dtype=dtype)
    weights = np.hanning(16).astype(dtype) if window else None
    operands = [signal, scalar(5), weights, None if length is None else scalar(length)]
    # onnxruntime wants a window or a length.
    judges = {"onnxruntime": window or length is not None}
    tolerance = CLOSE[np.dtype(dtype).name]
    check_native_node(
        "STFT", operands, 1, {"onesided": onesided}, 17, constants=(1, 3), tolerance=tolerance, **judges
    )


def test_stft_of_complex_numbers() -> None:
    operands = [draw(2, 40, 2), scalar(4), np.hamming(12).astype(np.float32)]
    check_native_node("STFT", operands, 1, {"onesided": 0}, 17, constants=(1,), tolerance=CLOSE["float32"])
    with pytest.raises(ModelError, match="onesided"):
        import_model(one_node_model("STFT", operands, 1, {}, 17, constants=(1,)))


@pytest.mark.parametrize("frozen", [(), (1,), (1, 2)])
def test_stft_of_a_symbolic_signal(frozen: tuple[int, ...]) -> None:
    operands = [draw(1, 33, 1), scalar(3), np.hanning(8).astype(np.float32)]
    model = one_node_model("STFT", operands, 1, {"onesided": 1}, 17, constants=frozen, symbolic=True)
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 1
    frames = np.lib.stride_tricks.sliding_window_view(operands[0][0, :, 0], 8)[::3] * operands[2]
    y = np.fft.rfft(frames)[None]
    wanted = [np.stack([y.real, y.imag], -1).astype(np.float32)]
    assert_agrees(run_native(model, feeds_of(model, operands)), wanted, CLOSE["float32"])


@pytest.mark.parametrize("operands, message", [
    ([draw(1, 8, 1), scalar(0), None, scalar(4)], "frame_step"),
    ([draw(1, 8, 1), scalar(2), None, scalar(9)], "longer than the signal"),
    ([draw(1, 8, 1), scalar(2), draw(4), scalar(5)], "must be equal"),
    ([draw(8, 1), scalar(2), draw(4)], "batch, length"),
])
def test_stft_refuses(operands: list[Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        import_model(one_node_model("STFT", operands, 1, {}, 17, constants=(1, 3)))


@pytest.mark.parametrize("op_type", WINDOWS)
@pytest.mark.parametrize(
    "periodic, output", [(0, 1), (1, 11), (None, None), (0, 10), (1, 16), (0, 2), (1, 6)]
)
def test_windows(op_type: str, periodic: int | None, output: int | None) -> None:
    attributes = {"periodic": periodic, "output_datatype": output}
    for size, dtype, frozen in ((10, np.int64, (0,)), (7, np.int32, ())):
        # Integers: the peak is 1 to rounding, which Cast cuts off; the reference computes in float64, as dlc.
        operands = [np.array(size, dtype=dtype)]
        floats = output in (None, 1, 11)
        tolerance = (1e-5, 1e-6) if floats else None
        judges = {"onnxruntime": floats, "tolerance": tolerance, "constants": frozen}
        check_native_node(op_type, operands, 1, attributes, 17, **judges)


def test_windows_of_no_element() -> None:
    (y,) = run_native(one_node_model("HannWindow", [scalar(0)], 1, {}, 17, constants=(0,)), {})
    assert y.shape == (0,)
    with pytest.raises(ModelError, match="negative"):
        import_model(one_node_model("HannWindow", [scalar(-1)], 1, {}, 17, constants=(0,)))


@pytest.mark.parametrize("frozen", [(0, 1, 2, 3, 4), (0, 1), ()])
@pytest.mark.parametrize("mels, length, rate, low, high", [
    (8, 16, 8192, 0, 4096), (20, 256, 16000, 80, 7600), (40, 64, 8000, 0, 4000), (0, 8, 100, 0, 50),
])
def test_mel_weight_matrix(mels: int, length: int, rate: int, low: float, high: float, frozen: Any) -> None:
    operands = [*map(scalar, (mels, length, rate)), np.float32(low), np.float32(high)]
    model = one_node_model("MelWeightMatrix", operands, 1, {}, 17, constants=frozen)
    if mels:
        check_native_node("MelWeightMatrix", operands, 1, {}, 17, constants=frozen, onnxruntime=length < 256)
    else:
        (y,) = run_native(model, feeds_of(model, operands))
        assert y.shape == (5, 0)


@pytest.mark.parametrize("output", [1, 10, 11, 16, 3, 12])
def test_mel_weight_matrix_of_types(output: int) -> None:
    operands = [*map(scalar, (8, 64, 8192)), np.float64(0), np.float64(4096)]
    check_native_node("MelWeightMatrix", operands, 1, {"output_datatype": output}, 17,
                      onnxruntime=output in (1, 11))


def test_compiled_transform_serves_all_lengths() -> None:
    model = one_node_model("DFT", [draw(1, 4, 1)], 1, {"onesided": 1}, 20, symbolic=True)
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 1
    with dlc.compile(model, strict=True, threads=1, cache=False) as compiled:
        for n in (1, 2, 7, 30):
            x = draw(2, n, 1)
            assert_agrees(list(compiled({"x0": x})), [transformed(x, None, 1, False, True)], CLOSE["float32"])
