"""Cases of onnxruntime's attention with a head of keys for each head of queries, and of rotations."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from dlc.verify.tolerances import Work
from tests.frontend.contrib.cases import (
    Array,
    Operand,
    Size,
    Structure,
    given,
    normal,
    sizes,
    some,
    uniform,
    whole,
)

HEADS, WIDTH = 2, 8
HIDDEN = HEADS * WIDTH
#: Batches, queries, past keys, new keys and all keys.
LENGTHS = sizes(b=[1, 3, 2], s=[6, 9, 1], p=[3, 1, 7], k=[7, 5, 11], t=[9, 10, 8])


def structures() -> Iterator[Structure]:
    """All cases."""
    yield from _attention()
    yield from _multi_head()
    yield from _packed()
    yield from _quantized()
    yield from _rotary()


def _ends(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """The lengths of sequences."""
    return rng.integers(1, 6, shape).astype(np.int32)


def _ends_and_starts(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    half = shape[0] // 2
    return np.concatenate([rng.integers(3, 6, half), rng.integers(0, 3, half)]).astype(np.int32)


def _cumulated(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """The lengths of two sequences, then what CUDA kernels need."""
    return np.array([5, 4, *range(6)], np.int32)


def _mask(kind: str | None, keys: str) -> Operand | None:
    """A mask of each form; those with several parts in a vector need a batch that is known to be 2."""
    match kind:
        case None:
            return None
        case "ends":
            return Operand(("b",), _ends)
        case "ends and starts":
            return Operand((4,), _ends_and_starts)
        case "cumulated":
            return Operand((8,), _cumulated)
        case "rows":
            return Operand(("b", keys), whole(np.int32, 0, 1))
        case _:
            return Operand(("b", "s", keys), whole(np.int32, 0, 1))


MASKS = [None, "ends", "ends and starts", "rows", "matrices", "cumulated"]


def _batch(kind: str | None) -> tuple[int | str, Sequence[Size]]:
    if kind not in ("ends and starts", "cumulated"):
        return "b", LENGTHS
    return 2, [size | {"b": 2} for size in LENGTHS[:2]]


def _structure(
    op_type: str,
    operands: Sequence[Operand | None],
    lengths: Sequence[Size],
    attributes: Mapping[str, Any],
    outputs: int | Sequence[str] = 1,
    judge: str = "",
) -> Structure:
    attributes = {"num_heads": HEADS, **attributes}
    return Structure(op_type, operands, lengths, Work.CONTRACTION, attributes, outputs, judge=judge)


def _projection(batch: int | str, columns: int = 3 * HIDDEN, constant: bool = True) -> list[Operand]:
    return [
        Operand((batch, "s", 12), normal()),
        Operand((12, columns), normal(scale=0.4), constant),
        Operand((columns,), normal(), constant),
    ]


def _attention() -> Iterator[Structure]:
    for index, (kind, causal) in enumerate(itertools.product(MASKS, (0, 1))):
        batch, lengths = _batch(kind)
        attributes = {"unidirectional": causal}
        attributes |= some([{}, {"scale": 0.2, "mask_filter_value": -3.0}], index // 2)
        projection = _projection(batch, constant=index % 3 > 0)
        yield _structure("Attention", [*projection, _mask(kind, "s")], lengths, attributes)
    for kind, causal in itertools.product((None, "rows", "matrices"), (0, 1)):
        past = Operand((2, "b", HEADS, "p", WIDTH), normal())
        operands = [*_projection("b"), _mask(kind, "t"), past]
        yield _structure("Attention", operands, LENGTHS, {"unidirectional": causal}, 2)
    for index, shape in enumerate(((1, 1, "s", "s"), ("b", HEADS, "s", "s"), (1, HEADS, "s", "s"))):
        mask = some([None, _mask("rows", "s")], index)
        operands = [*_projection("b"), mask, None, Operand(shape, normal())]
        yield _structure("Attention", operands, LENGTHS, {}, 2)
    attributes = {"qkv_hidden_sizes": [HIDDEN, HIDDEN, 24]}
    yield _structure("Attention", _projection("b", 2 * HIDDEN + 24), LENGTHS, attributes)


def _multi_head() -> Iterator[Structure]:
    for index, (kind, biased) in enumerate(itertools.product(MASKS, (False, True))):
        if kind == "ends and starts":
            continue  # onnxruntime has it in Attention only
        batch, lengths = _batch(kind)
        q = Operand((batch, "s", HIDDEN), normal())
        k, v = (Operand((batch, "k", width), normal()) for width in (HIDDEN, 24))
        bias = Operand((2 * HIDDEN + 24,), normal(), constant=index % 4 > 1) if biased else None
        more = some([{}, {"scale": 0.2, "mask_filter_value": -3.0}], index)
        extra = Operand((1, HEADS, "s", "k"), normal()) if index % 3 == 0 else None
        outputs = 1 if extra else 3
        yield _structure(
            "MultiHeadAttention", [q, k, v, bias, _mask(kind, "k"), extra], lengths, more, outputs
        )
    for kind, causal in itertools.product((None, "rows", "ends"), (0, 1)):
        new = [Operand(("b", "s", HIDDEN), normal()) for _ in range(3)]
        past = [Operand(("b", HEADS, "p", WIDTH), normal()) for _ in range(2)]
        operands = [*new, None, _mask(kind, "t"), None, *past]
        yield _structure("MultiHeadAttention", operands, LENGTHS, {"unidirectional": causal}, 3)
    for biased in (False, True):
        state = [Operand(("b", HEADS, "k", WIDTH), normal()) for _ in range(2)]
        bias = Operand((3 * HIDDEN,), normal(), constant=True) if biased else None
        q = Operand(("b", "s", HIDDEN), normal())
        yield _structure("MultiHeadAttention", [q, *state, bias], LENGTHS, {})


def _packed() -> Iterator[Structure]:
    """Packed operands, which onnxruntime knows on GPUs only; and half precision."""
    lines = """
        h = Constant <value_ints = [0, 0, 16]> ()
    """
    for count in (3, 2):
        parts = ["l", "m", "r"][:count]
        packed = "x0" if count == 3 else "x1"
        text = lines + f"{', '.join(parts)} = Split <axis = 3, num_outputs = {count}> ({packed})\n"
        text += " ".join(f"f{part} = Reshape ({part}, h)" for part in parts)
        names = ", ".join((["x0"] if count == 2 else []) + [f"f{part}" for part in parts])
        tensor = Operand(("b", "s", HEADS, count, WIDTH), normal())
        operands = [tensor] if count == 3 else [Operand(("b", "s", HIDDEN), normal()), tensor]
        judge = f"{text} y0 = com.microsoft.MultiHeadAttention <num_heads = {HEADS}> ({names})"
        yield _structure("MultiHeadAttention", operands, LENGTHS, {}, judge=judge)
    half = [Operand(("b", "s", HIDDEN), normal(np.float16)) for _ in range(3)]
    casts = " ".join(f"w{index} = Cast <to = 1> (x{index})" for index in range(3))
    judge = f"{casts} a = com.microsoft.MultiHeadAttention <num_heads = {HEADS}> (w0, w1, w2) "
    judge += "y0 = Cast <to = 10> (a)"
    yield _structure("MultiHeadAttention", half, LENGTHS, {}, judge=judge)


def _quantized() -> Iterator[Structure]:
    for index, (weight, columns, kind) in enumerate(
        itertools.product((np.uint8, np.int8), (False, True), (None, "ends", "rows"))
    ):
        x = Operand(("b", "s", 12), whole(np.uint8))
        low, high = (0, 255) if weight is np.uint8 else (-127, 127)
        w = Operand((12, 3 * HIDDEN), whole(weight, low, high), constant=True)
        vector = (3 * HIDDEN,) if columns else ()
        zero = some([128, 127, 1] if weight is np.uint8 else [0, 1, -1], index)
        w_zero = given(np.full(vector, zero), weight)
        scales = [given(0.02, np.float32), Operand(vector, uniform(0.003, 0.004), constant=True)]
        x_zero = given(some([120, 0, 128, 255], index), np.uint8)
        bias = Operand((3 * HIDDEN,), normal(), constant=True)
        past = Operand((2, "b", HEADS, "p", WIDTH), normal()) if index % 2 and kind != "ends" else None
        mask = _mask(kind, "s" if past is None else "t")
        operands = [x, w, bias, *scales, mask, x_zero, w_zero, past]
        if index % 4 == 3:
            continue
        yield _structure("QAttention", operands, LENGTHS, {"unidirectional": int(columns)}, 2)


def _rotary() -> Iterator[Structure]:
    lengths = sizes(b=[1, 2, 3], s=[1, 5, 7])
    forms = itertools.product((0, 1), (True, False), (False, True), (np.float32, np.float16))
    for interleaved, packed, partial, dtype in forms:
        x = Operand(("b", "s", 24) if packed else ("b", 3, "s", 8), normal(dtype))
        each = partial == packed
        at = Operand(("b", "s"), whole(np.int64, 0, 9)) if each else Operand((1,), whole(np.int64, 0, 3))
        tables = [Operand((12, 2 if partial else 4), normal(dtype), constant=each) for _ in range(2)]
        attributes = {"interleaved": interleaved}
        if partial:
            attributes |= {"num_heads": 3, "rotary_embedding_dim": 4}
        yield Structure("RotaryEmbedding", [x, at, *tables], lengths, attributes=attributes)
