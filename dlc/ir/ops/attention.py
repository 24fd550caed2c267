"""Scaled dot-product attention and rotary position embedding, as ONNX defines them from opset 23 on."""
from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from dlc.errors import IndexFault
from dlc.ir import dims
from dlc.ir.dims import Dim
from dlc.ir.dtypes import DType
from dlc.ir.operator import (
    Array,
    EvaluateDim,
    InferenceError,
    Operator,
    OperatorClass,
    compute_dtype,
    tensor,
)
from dlc.ir.ops.checks import optional, require_equal, require_rank, require_shape
from dlc.ir.ops.common import FLOATS, given, require_broadcastable
from dlc.ir.types import TensorType, Type


@dataclasses.dataclass(frozen=True)
class Attention(Operator):
    """softmax(softcap(q k^T * scale) + bias) v, head by head.

    Operands: q [B, Hq, S, D], k [B, Hk, T, D], v [B, Hk, T, Dv] with Hq a multiple of Hk (query head h reads
    key head h // (Hq / Hk)); mask or absent, bool (True attends) or floats of any type (added), broadcastable
    to [B, Hq, S, P + T]; past_k [B, Hk, P, D] and past_v [B, Hk, P, Dv] or both absent, put before k and v;
    nonpad_kv_seqlen [B] i64 or absent: keys from there on are padding. Results: y [B, Hq, S, Dv]; present_k
    and present_v when past is given; the scores [B, Hq, S, P + T] when `qk_output` is not None: 0 the scaled
    products, 1 after the soft cap, 2 with bias, 3 the probabilities.

    Let offset be P, or nonpad_kv_seqlen - S, or 0: query i stands at position offset + i. `causal` lets it
    see keys up to there, `left_window` and `right_window` only so many keys before and after it (-1: all).
    A query that may see no key gives zeros. `softcap` 0 means none. q and k are each multiplied by
    sqrt(scale).
    """

    scale: float
    causal: bool = False
    softcap: float = 0.0
    qk_output: int | None = None
    left_window: int = -1
    right_window: int = -1

    kind: ClassVar[OperatorClass] = OperatorClass.CONTRACTION

    def infer(self, inputs: Sequence[Type | None]) -> tuple[Type, ...]:
        q, k, v = (require_rank(inputs[index], 4, what) for index, what in enumerate("qkv"))
        _check_types(q, k, v)
        batch, heads, length, width = q.shape
        require_equal(batch, k.shape[0], "the batch of q and k")
        require_equal(width, k.shape[3], "the head sizes of q and k")
        require_shape(v, (*k.shape[:3], v.shape[3]), "v")
        if isinstance(heads, int) and isinstance(k.shape[1], int) and (not k.shape[1] or heads % k.shape[1]):
            raise InferenceError(f"{heads} query heads are no multiple of {k.shape[1]} key heads")
        past_k, past_v = optional(inputs, 4), optional(inputs, 5)
        if (past_k is None) != (past_v is None):
            raise InferenceError("past_k and past_v come together")
        total = k.shape[2]
        present: tuple[Type, ...] = ()
        if past_k is not None:
            past = require_rank(past_k, 4, "past_k").shape[2]
            require_shape(past_k, (*k.shape[:2], past, width), "past_k")
            require_shape(past_v, (*k.shape[:2], past, v.shape[3]), "past_v")
            total = past + total
            present = tuple(t.with_shape((*t.shape[:2], total, t.shape[3])) for t in (k, v))
        scores = q.with_shape((batch, heads, length, total))
        self._check_mask(optional(inputs, 3), scores)
        if (nonpad := optional(inputs, 6)) is not None:
            if past_k is not None:
                raise InferenceError("nonpad_kv_seqlen and past_k exclude each other")
            require_shape(nonpad, (batch,), "nonpad_kv_seqlen")
        y = q.with_shape((batch, heads, length, v.shape[3]))
        return (y, *present, *(() if self.qk_output is None else (scores,)))

    @staticmethod
    def _check_mask(mask: Type | None, scores: TensorType) -> None:
        if mask is None:
            return
        type_ = tensor(mask, "the mask")
        if type_.dtype is not DType.BOOL and type_.dtype not in FLOATS:
            raise InferenceError(f"the mask must be bool or floating-point, but is {type_.dtype}")
        if type_.rank > 4:
            raise InferenceError(f"the mask must have at most 4 axes, but has {type_.rank}")
        require_broadcastable(type_, scores.shape, "the mask")

    def evaluate(self, inputs: Sequence[Array | None], dim: EvaluateDim) -> tuple[Array, ...]:
        q, k, v = (given(operand) for operand in inputs[:3])
        mask, past_k, past_v, nonpad = (*inputs[3:], *[None] * 4)[:4]
        present: tuple[Array, ...] = ()
        if past_k is not None and past_v is not None:
            k, v = np.concatenate((past_k, k), axis=2), np.concatenate((past_v, v), axis=2)
            present = (k, v)
        offset = np.zeros((1, 1, 1, 1), np.int64)
        if past_k is not None:
            offset += past_k.shape[2]
        elif nonpad is not None:
            offset = nonpad.astype(np.int64).reshape(-1, 1, 1, 1) - q.shape[2]
        carrier = compute_dtype(q.dtype)
        root = carrier.type(np.sqrt(self.scale))
        stages = [_per_key_head(q.astype(carrier) * root, np.swapaxes(k.astype(carrier), 2, 3) * root)]
        stages.append(self.softcap * np.tanh(stages[0] / self.softcap) if self.softcap else stages[0])
        bias = self._bias(q.shape[2], k.shape[2], offset, mask, nonpad, carrier.type)
        with np.errstate(invalid="ignore"):
            stages.append(stages[1] + bias)
        empty = np.isneginf(bias.max(axis=-1, keepdims=True, initial=-np.inf))
        stages.append(np.where(empty, 0, _softmax(stages[2])))
        y = _per_key_head(stages[3], v.astype(carrier))
        wanted = () if self.qk_output is None else (stages[self.qk_output].astype(q.dtype, copy=False),)
        return (y.astype(q.dtype, copy=False), *present, *wanted)

    def _bias(self, queries: int, keys: int, offset: Array, mask: Array | None, nonpad: Array | None,
              number: type) -> Array:
        """What is added to the scores: the mask, and -inf where a query may not see a key."""
        position = offset + np.arange(queries)[:, None]
        key = np.arange(keys)
        allowed = np.ones((1, 1, queries, keys), np.bool_)
        if self.causal:
            allowed = allowed & (key <= position)
        if self.left_window >= 0:
            allowed = allowed & (key >= position - self.left_window)
        if self.right_window >= 0:
            allowed = allowed & (key <= position + self.right_window)
        if nonpad is not None:
            allowed = allowed & (key < nonpad.reshape(-1, 1, 1, 1))
        if mask is not None and mask.dtype == np.bool_:
            allowed = allowed & mask
        bias: Array = np.where(allowed, number(0), number(-np.inf))
        return bias if mask is None or mask.dtype == np.bool_ else bias + mask.astype(number)

    def flops(self, inputs: Sequence[Type | None], outputs: Sequence[Type]) -> Dim:
        q, k, v = (tensor(inputs[index], what) for index, what in enumerate("qkv"))
        past = optional(inputs, 4)
        total = k.shape[2] + (tensor(past, "past_k").shape[2] if past is not None else 0)
        return dims.product(q.shape[:3]) * total * (q.shape[3] + v.shape[3]) * 2


def _check_types(q: TensorType, k: TensorType, v: TensorType) -> None:
    if not q.dtype.is_float or k.dtype is not q.dtype or not v.dtype.is_float:
        raise InferenceError(f"q, k and v must be floating-point and q and k of one type, "
                             f"but are {q.dtype}, {k.dtype}, {v.dtype}")


def _per_key_head(left: Array, right: Array) -> Array:
    """The matrix product of left [B, Hq, ...] with the head of right [B, Hk, ...] that each head reads."""
    batch, heads = left.shape[:2]
    grouped = left.reshape(batch, right.shape[1], heads // max(right.shape[1], 1), *left.shape[2:])
    product: Array = np.matmul(grouped, right[:, :, None])
    return product.reshape(batch, heads, *product.shape[3:])


def _softmax(x: Array) -> Array:
    """Softmax over the last axis; a row of -inf gives zeros."""
    largest = x.max(axis=-1, keepdims=True, initial=-np.inf)
    powers = np.exp(x - np.where(np.isneginf(largest), 0, largest))
    sums = powers.sum(axis=-1, keepdims=True)
    result: Array = powers / np.where(sums == 0, 1, sums)
    return result


@dataclasses.dataclass(frozen=True)
class RotaryEmbedding(Operator):
    """Rotate pairs of features by an angle that depends on the position (RoPE, arXiv:2104.09864).

    Operands: x [B, H, S, D]; cos and sin [positions, dim / 2] with position_ids [B, S] i64, or
    [B, S, dim / 2] without. The first `dim` features rotate, in pairs (2 i, 2 i + 1) when `interleaved`, else
    (i, i + dim / 2); the others pass. (a, b) becomes (a cos - b sin, a sin + b cos).
    """

    interleaved: bool
    dim: int

    kind: ClassVar[OperatorClass] = OperatorClass.ROUTINE

    def infer(self, inputs: Sequence[Type | None]) -> tuple[Type, ...]:
        x = require_rank(inputs[0], 4, "x")
        if not x.dtype.is_float:
            raise InferenceError(f"x must be floating-point, but is {x.dtype}")
        batch, _, length, width = x.shape
        if self.dim % 2 or self.dim <= 0 or (isinstance(width, int) and width < self.dim):
            raise InferenceError(f"{self.dim} features cannot rotate in pairs in a head of {width}")
        positions = optional(inputs, 3)
        for index, what in ((1, "cos"), (2, "sin")):
            if positions is None:
                require_shape(inputs[index], (batch, length, self.dim // 2), what)
            else:
                table = require_rank(inputs[index], 2, what)
                require_equal(table.shape[1], self.dim // 2, f"the width of {what}")
        if positions is not None:
            require_shape(positions, (batch, length), "position_ids")
        return (x,)

    def evaluate(self, inputs: Sequence[Array | None], dim: EvaluateDim) -> tuple[Array, ...]:
        x, cos, sin = (given(operand) for operand in inputs[:3])
        positions = (*inputs, None)[3]
        if positions is not None:
            if ((positions < 0) | (positions >= len(cos))).any():
                raise IndexFault(f"a position is outside the {len(cos)} rows of the table")
            cos, sin = cos[positions], sin[positions]
        carrier = compute_dtype(x.dtype)
        c, s = cos.astype(carrier)[:, None], sin.astype(carrier)[:, None]
        half = self.dim // 2
        first, second = ((slice(0, self.dim, 2), slice(1, self.dim, 2)) if self.interleaved
                         else (slice(0, half), slice(half, self.dim)))
        wide = x.astype(carrier)
        a, b = wide[..., first], wide[..., second]
        y = wide.copy()
        y[..., first], y[..., second] = c * a - s * b, s * a + c * b
        return (y.astype(x.dtype, copy=False),)
