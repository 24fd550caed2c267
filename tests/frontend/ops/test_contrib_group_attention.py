"""onnxruntime's GroupQueryAttention."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from dlc.errors import UnsupportedError
from dlc.frontend.onnx.importer import import_model
from dlc.verify.tolerances import Work
from tests.helpers.extension_cases import check_contrib
from tests.helpers.onnx_cases import Array, feeds_of, one_node_model, run_evaluator, run_onnxruntime

rng = np.random.default_rng(17)
HEADS, KEY_HEADS, SIZE = 4, 2, 32
OPERATOR = "GroupQueryAttention"
HEAD_COUNTS = {"num_heads": HEADS, "kv_num_heads": KEY_HEADS}


def draw(*shape: int, dtype: Any = np.float32) -> Array:
    """Normal numbers."""
    return rng.standard_normal(shape).astype(dtype)


class Step:
    """Operands of a call: `length` new tokens, a cache of `past` places, `tokens` of each sequence in all."""

    def __init__(self, length: int, past: int, tokens: Sequence[int], dtype: Any = np.float32) -> None:
        batch = len(tokens)
        widths = HEADS * SIZE, KEY_HEADS * SIZE, KEY_HEADS * SIZE
        self.new: list[Array | None] = [draw(batch, length, width, dtype=dtype) for width in widths]
        shape = batch, KEY_HEADS, past, SIZE
        self.cache = [draw(*shape, dtype=dtype) for _ in range(2)] if past else [None, None]
        self.length, self.tokens, self.total = length, tokens, max(tokens)
        self.counts = [np.array(tokens, np.int32) - 1, np.array(self.total, np.int32)]

    @property
    def inputs(self) -> list[Array | None]:
        """The operands up to total_sequence_length."""
        return [*self.new, *self.cache, *self.counts]

    def specified(self, outputs: Sequence[Array]) -> list[Array]:
        """The tokens of each sequence in the results y, present_key and present_value."""
        first = self.total == self.length
        y = [rows[: count if first else None] for rows, count in zip(outputs[0], self.tokens)]
        kept = [rows[:, :count] for cache in outputs[1:3] for rows, count in zip(cache, self.tokens)]
        return [*y, *kept, *outputs[3:]]

    def check(self, *more: Array | None, outputs: int = 3, **options: Any) -> None:
        """Compare one call; options that `check_contrib` does not know are attributes."""
        known = {key: options.pop(key) for key in ("constants", "symbolic", "native") if key in options}
        attributes = {**HEAD_COUNTS, **options}
        inputs = [*self.inputs, *more]
        check_contrib(
            OPERATOR, inputs, Work.CONTRACTION, outputs, attributes, specified=self.specified, **known
        )


STEPS = {
    "prompt": (5, 0, [5]),
    "prompts of two lengths": (5, 0, [5, 3]),
    "prompt into a cache": (4, 9, [4]),
    "prompts into a cache": (4, 9, [4, 4]),
    "token": (1, 6, [7]),
    "tokens": (1, 6, [7, 7, 7]),
    "token into a larger cache": (1, 9, [6]),
    "tokens of two lengths": (1, 8, [9, 4]),
    "some tokens": (3, 6, [9]),
    "some tokens into a larger cache": (3, 20, [9]),
    "first token": (1, 0, [1]),
}


@pytest.mark.parametrize("name", STEPS)
def test_steps(name: str) -> None:
    step = Step(*STEPS[name])
    step.check(constants=(6,) if step.total % 2 else ())
    step.check(symbolic=True, scale=0.3, native="larger cache" in name)


@pytest.mark.parametrize("name", ["prompt", "some tokens"])
@pytest.mark.parametrize(
    "attributes",
    [
        {"softcap": 2.0},
        {"local_window_size": 1},
        {"local_window_size": 3},
        {"causal": 0},
        {"smooth_softmax": 1},
        {"smooth_softmax": 1, "softcap": 1.5, "local_window_size": 4},
        {"smooth_softmax": 0},
    ],
    ids=str,
)
def test_attributes(name: str, attributes: dict[str, Any]) -> None:
    Step(*STEPS[name]).check(**attributes, native=name == "some tokens")


@pytest.mark.parametrize("name", ["prompts of two lengths", "some tokens", "tokens of two lengths"])
@pytest.mark.parametrize("interleaved", [0, 1])
@pytest.mark.parametrize("part", [1, 2])
def test_rotation(name: str, interleaved: int, part: int) -> None:
    step = Step(*STEPS[name])
    tables = [draw(30, SIZE // 2 // part) for _ in range(2)]
    step.check(*tables, do_rotary=1, rotary_interleaved=interleaved, constants=(7, 8), native=part == 1)
    positions = np.stack([np.arange(count - step.length, count) for count in step.tokens]).clip(0)
    if step.total == step.length:
        # Of a first prompt only the first position counts.
        positions = rng.integers(0, 9, positions.shape)
        positions[:] = positions[0, 0] + np.arange(step.length)
    step.check(*tables, positions, do_rotary=1, rotary_interleaved=interleaved, native=part == 2)


@pytest.mark.parametrize("name", ["prompt", "tokens", "some tokens into a larger cache"])
@pytest.mark.parametrize("causal", [0, 1])
def test_bias_and_sinks(name: str, causal: int) -> None:
    step = Step(*STEPS[name])
    bias = draw(len(step.tokens), HEADS, step.length, step.total)
    step.check(None, None, None, bias[:1, :1], causal=causal, softcap=3.0, native=not causal)
    step.check(None, None, None, bias, draw(HEADS), causal=causal, native=bool(causal))
    step.check(None, None, None, None, draw(HEADS), causal=causal, softcap=2.0, native=False)


@pytest.mark.parametrize("name", ["prompt", "token", "some tokens"])
@pytest.mark.parametrize("kind", [1, 2])
def test_scores(name: str, kind: int) -> None:
    step = Step(*STEPS[name])
    step.check(outputs=4, qk_output=kind, native=kind == 1)
    step.check(None, None, None, None, draw(HEADS), outputs=4, qk_output=kind, native=kind == 2)


@pytest.mark.parametrize("name", ["prompt", "tokens", "some tokens"])
def test_packed(name: str) -> None:
    step = Step(*STEPS[name])
    step.new = [np.concatenate([array for array in step.new if array is not None], -1), None, None]
    step.check()


def test_half_precision() -> None:
    for name in ("prompt", "token", "some tokens"):
        Step(*STEPS[name], dtype=np.float16).check()


def test_norms_of_heads() -> None:
    # onnxruntime has them on GPUs only; the same as norms before the operator.
    step = Step(*STEPS["some tokens"])
    weights = [draw(SIZE) for _ in range(2)]

    def normalized(x: Array, weight: Array) -> Array:
        heads = x.reshape(*x.shape[:2], -1, SIZE).astype(np.float64)
        y = heads / np.sqrt(np.square(heads).mean(-1, keepdims=True) + 1e-3) * weight
        return np.asarray(y.reshape(x.shape).astype(np.float32))

    q, k, v = (array for array in step.new if array is not None)
    plain = [normalized(q, weights[0]), normalized(k, weights[1]), v, *step.inputs[3:]]
    model = one_node_model(OPERATOR, plain, 3, HEAD_COUNTS, domain="com.microsoft")
    expected = run_onnxruntime(model, feeds_of(model, plain))
    inputs = [*step.inputs, *[None] * 7, *weights]
    attributes = {**HEAD_COUNTS, "qk_norm_epsilon": 1e-3}
    check_contrib(OPERATOR, inputs, Work.CONTRACTION, 3, attributes, expected=expected)


def test_several_sequences_that_continue() -> None:
    # onnxruntime refuses what one sequence after the other gives.
    step = Step(3, 20, [9, 8])
    model = one_node_model(OPERATOR, step.inputs, 3, HEAD_COUNTS, domain="com.microsoft")
    outputs = run_evaluator(model, feeds_of(model, step.inputs))
    for row, count in enumerate(step.tokens):
        alone = Step(3, 20, [count])
        alone.new = [array[row : row + 1] for array in step.new if array is not None]
        alone.cache = [array[row : row + 1] for array in step.cache if array is not None]
        single = one_node_model(OPERATOR, alone.inputs, 3, HEAD_COUNTS, domain="com.microsoft")
        expected = run_onnxruntime(single, feeds_of(single, alone.inputs)) or []
        for got, want in zip(outputs, expected):
            got = got[row] if got.ndim == 3 else got[row][:, :count]
            np.testing.assert_allclose(got, want[0] if want.ndim == 3 else want[0][:, :count], 1e-5, 1e-6)


@pytest.mark.parametrize(
    ("attributes", "more", "message"),
    [
        ({"k_quant_type": "PER_TENSOR"}, [], "'k_quant_type'"),
        ({"sliding_window_cache": 1, "local_window_size": 4}, [], "'sliding_window_cache'"),
        ({"kv_cache_bit_width": 4}, [], "cache is quantized"),
        ({}, [None] * 5 + [np.ones(1, np.float32)], "scale of a quantized cache"),
    ],
)
def test_refusals(attributes: dict[str, Any], more: list[Array | None], message: str) -> None:
    inputs = [*Step(1, 6, [7]).inputs, *more]
    model = one_node_model(OPERATOR, inputs, 3, {**HEAD_COUNTS, **attributes}, domain="com.microsoft")
    with pytest.raises(UnsupportedError) as caught:
        import_model(model)
    assert message in caught.value.findings[0].reason
