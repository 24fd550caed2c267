"""Cases of onnxruntime's attention of decoders with a cache."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from dlc.verify.tolerances import Work
from tests.frontend.contrib.cases import Array, Operand, Size, Structure, counted, normal

HEADS, KEY_HEADS, WIDTH = 4, 2, 32
COUNTS = {"num_heads": HEADS, "kv_num_heads": KEY_HEADS}

#: `b` sequences with `s` new tokens, a cache of `p` places; `n` tokens in all, less `d` in every other one.
PROMPTS = [
    {"b": 1, "s": 5, "n": 5, "d": 0},
    {"b": 2, "s": 5, "n": 5, "d": 2},
    {"b": 3, "s": 1, "n": 1, "d": 0},
]
CACHED_PROMPTS = [{"b": 1, "s": 4, "p": 9, "n": 4, "d": 0}, {"b": 2, "s": 4, "p": 4, "n": 4, "d": 1}]
TOKENS = [
    {"b": 1, "s": 1, "p": 6, "n": 7, "d": 0},
    {"b": 3, "s": 1, "p": 6, "n": 7, "d": 0},
    {"b": 1, "s": 1, "p": 9, "n": 6, "d": 0},
    {"b": 2, "s": 1, "p": 8, "n": 9, "d": 5},
]
CONTINUED = [{"b": 1, "s": 3, "p": 6, "n": 9, "d": 0}, {"b": 1, "s": 3, "p": 20, "n": 9, "d": 0}]
STEPS = [*CACHED_PROMPTS, *TOKENS, *CONTINUED]


def structures() -> Iterator[Structure]:
    """All cases."""
    yield _step(PROMPTS, {}, past=False)
    yield _step(STEPS, {})
    yield _step(STEPS[:4], {}, dtype=np.float16)
    yield _step(PROMPTS, {"scale": 0.3}, past=False, packed=True)
    yield _step(TOKENS, {"scale": 0.3}, packed=True)
    attributes: list[dict[str, Any]] = [
        {"softcap": 2.0},
        {"local_window_size": 1},
        {"local_window_size": 3},
        {"causal": 0},
        {"smooth_softmax": 1},
        {"smooth_softmax": 1, "softcap": 1.5, "local_window_size": 4},
        {"smooth_softmax": 0},
    ]
    for index, more in enumerate(attributes):
        yield _step([PROMPTS, STEPS][index % 2], more, past=index % 2 > 0)
    for index, (interleaved, part) in enumerate(itertools.product((0, 1), (1, 2))):
        more = {"do_rotary": 1, "rotary_interleaved": interleaved}
        tables = [Operand((30, WIDTH // 2 // part), normal(), constant=True) for _ in range(2)]
        given = [counted(("b", "s"), _positions)] if index % 3 else []
        yield _step([PROMPTS, TOKENS][index % 2], more, [*tables, *given], past=index % 2 > 0)
        if index == 1:
            yield _step(CONTINUED, more, tables)
    for index, causal in enumerate((0, 1)):
        bias = Operand((1, 1, "s", "n"), normal())
        full = Operand(("b", HEADS, "s", "n"), normal())
        sink = Operand((HEADS,), normal(), constant=index > 0)
        yield _step(TOKENS[:3], {"causal": causal, "softcap": 3.0}, [None, None, None, bias])
        yield _step(CONTINUED, {"causal": causal}, [None, None, None, full, sink])
        yield _step(PROMPTS, {"causal": causal, "softcap": 2.0}, [None] * 4 + [sink], past=False)
    for kind in (1, 2):
        yield _step([PROMPTS[0], PROMPTS[2]], {"qk_output": kind}, past=False, outputs=4)
        yield _step([*TOKENS[:3], *CONTINUED], {"qk_output": kind}, outputs=4)


def _step(
    lengths: Sequence[Size],
    attributes: dict[str, Any],
    more: Sequence[Operand | None] = (),
    *,
    past: bool = True,
    packed: bool = False,
    dtype: Any = np.float32,
    outputs: int = 3,
) -> Structure:
    widths = HEADS * WIDTH, KEY_HEADS * WIDTH, KEY_HEADS * WIDTH
    new: list[Operand | None] = [Operand(("b", "s", width), normal(dtype)) for width in widths]
    if packed:
        new = [Operand(("b", "s", sum(widths)), normal(dtype)), None, None]
    cache: list[Operand | None] = [None, None]
    if past:
        cache = [Operand(("b", KEY_HEADS, "p", WIDTH), normal(dtype)) for _ in range(2)]
    counts = [
        counted(("b",), lambda size: np.array(_tokens(size), np.int32) - 1),
        counted((), lambda size: np.array(size["n"], np.int32)),
    ]
    return Structure(
        "GroupQueryAttention",
        [*new, *cache, *counts, *more],
        lengths,
        Work.CONTRACTION,
        {**COUNTS, **attributes},
        outputs,
        specified=_specified,
    )


def _tokens(size: Size) -> list[int]:
    """The tokens of each sequence with the new ones."""
    return [size["n"] - row % 2 * size["d"] for row in range(size["b"])]


def _positions(size: Size) -> Array:
    last = np.array(_tokens(size))[:, None]
    return np.maximum(last - size["s"] + np.arange(size["s"]), 0).astype(np.int64)


def _specified(size: Size, outputs: Sequence[Array]) -> Sequence[Array]:
    """The tokens of each sequence in the results y, present_key and present_value."""
    first = size["n"] == size["s"]
    counts = _tokens(size)
    y = [rows[: count if first else None] for rows, count in zip(outputs[0], counts)]
    kept = [rows[:, :count] for cache in outputs[1:3] for rows, count in zip(cache, counts)]
    return [*y, *kept, *outputs[3:]]
