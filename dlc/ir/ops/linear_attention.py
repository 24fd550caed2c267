"""Linear attention: a matrix of a fixed size per head that each token updates and reads.

The recurrences of linear attention (Katharopoulos et al. 2020), gated linear attention (Yang et al. 2023),
and (gated) DeltaNet (Yang et al. 2024), as ONNX defines them from opset 27 on.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from dlc.ir.dims import Dim
from dlc.ir.operator import Array, EvaluateDim, InferenceError, Operator, OperatorClass, tensor
from dlc.ir.ops.checks import optional, require_equal, require_rank, require_shape
from dlc.ir.ops.common import FLOATS, given, require_dtype
from dlc.ir.types import Type


@dataclasses.dataclass(frozen=True)
class LinearAttention(Operator):
    """y_t = scale * q_t S_t with S_t = d_t * S_(t-1) + k_t (x) u_t, head by head.

    Operands: q [B, T, G * H, K] (query head g reads key head g // G), k [B, T, H, K], v [B, T, H, V]; the
    state before the first token [B, H, K, V], or absent for zeros; decay [B, T, H, K] or [B, T, H, 1], or
    absent; beta [B, T, H] or [B, T, 1], or absent. Results: y [B, T, G * H, V], the state after the last
    token [B, H, K, V] in the type of the state given, or of q.

    d_t is exp(decay_t), or 1 without; u_t is beta_t (v_t - k_t (d_t * S_(t-1))), or v_t without beta.
    Computed in f32, and in f64 for f64.
    """

    kind: ClassVar[OperatorClass] = OperatorClass.RECURRENT

    scale: float

    def infer(self, inputs: Sequence[Type | None]) -> tuple[Type, ...]:
        q, k = require_rank(inputs[0], 4, "q"), require_rank(inputs[1], 4, "k")
        batch, steps, heads, width = k.shape
        v = require_shape(inputs[2], (batch, steps, heads, require_rank(inputs[2], 4, "v").shape[3]), "v")
        groups = self.groups(q.shape[2], heads)
        require_shape(q, (batch, steps, heads * groups, width), "q")
        result = (batch, heads, width, v.shape[3])
        dtype = q.dtype
        if (state := optional(inputs, 3)) is not None:
            dtype = require_shape(state, result, "the state").dtype
        for index, what in ((4, "decay"), (5, "beta")):
            if (operand := optional(inputs, index)) is not None:
                self._check_gate(tensor(operand, what).shape, (batch, steps, heads, width), what)
        for operand in inputs:
            if operand is not None:
                require_dtype(tensor(operand, "an operand"), FLOATS, "an operand")
        return q.with_shape((batch, steps, q.shape[2], v.shape[3])), dataclasses.replace(
            q.with_shape(result), dtype=dtype
        )

    @staticmethod
    def groups(query_heads: Dim, heads: Dim) -> int:
        """Query heads for each key head; InferenceError when they are no whole number."""
        if not isinstance(query_heads, int) or not isinstance(heads, int) or heads < 1:
            raise InferenceError(f"{query_heads} and {heads} are no known, positive numbers of heads")
        if query_heads % heads or not query_heads:
            raise InferenceError(f"{query_heads} query heads are no multiple of {heads} key heads")
        return query_heads // heads

    @staticmethod
    def _check_gate(shape: Sequence[Dim], wanted: Sequence[Dim], what: str) -> None:
        """A gate has the leading extents of k; its last one may be 1."""
        rank = 4 if what == "decay" else 3
        if len(shape) != rank:
            raise InferenceError(f"{what} must have rank {rank}, but has rank {len(shape)}")
        for axis, (extent, other) in enumerate(zip(shape, wanted)):
            if axis < rank - 1 or extent != 1:
                require_equal(extent, other, f"axis {axis} of {what}")

    def evaluate(self, inputs: Sequence[Array | None], dim: EvaluateDim) -> tuple[Array, ...]:
        x, past, decay, beta = inputs[:3], *(*inputs[3:], *[None] * 3)[:3]
        dtype = given(x[0]).dtype
        wide = np.dtype(np.float64) if dtype == np.float64 else np.dtype(np.float32)
        q, k, v = (np.asarray(given(operand).astype(wide)) for operand in x)
        batch, steps, heads, width = k.shape
        groups = q.shape[2] // heads
        state: Array = np.zeros((batch, heads, width, v.shape[3]), wide)
        if past is not None:
            state = past.astype(wide)
        y = np.zeros((*q.shape[:3], v.shape[3]), wide)
        for step in range(steps):
            if decay is not None:
                state = state * np.exp(decay[:, step].astype(wide))[..., None]
            update = v[:, step]
            if beta is not None:
                known = np.einsum("bhk,bhkv->bhv", k[:, step], state)
                update = beta[:, step].astype(wide)[..., None] * (update - known)
            state = state + k[:, step][..., None] * update[:, :, None]
            read = np.einsum("bhk,bhkv->bhv", q[:, step], np.repeat(state, groups, axis=1))
            y[:, step] = wide.type(self.scale) * read
        return y.astype(dtype), state.astype(dtype if past is None else past.dtype)

    def flops(self, inputs: Sequence[Type | None], outputs: Sequence[Type]) -> Dim:
        batch, steps, heads, values = tensor(outputs[0], "y").shape
        return batch * steps * heads * values * tensor(inputs[0], "q").shape[3] * 8
