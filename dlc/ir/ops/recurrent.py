"""LSTM, GRU and simple RNN over time, one layer, one or two directions, as ONNX defines them (layout 0).

T steps, B sequences, I inputs, H hidden units, D directions (2 when bidirectional), G gates:
x [T, B, I], w [D, G*H, I], r [D, G*H, H], b [D, 2*G*H], sequence_lens [B], initial_h [D, B, H].
Outputs: y [T, D, B, H] and y_h [D, B, H]. Steps after the end of a sequence leave its state alone and give 0.
"""
from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np

from dlc.ir.dims import Dim
from dlc.ir.operator import (
    Array,
    EvaluateDim,
    InferenceError,
    Operator,
    OperatorClass,
    compute_dtype,
    tensor,
)
from dlc.ir.ops.checks import optional, require_rank, require_shape
from dlc.ir.ops.common import given
from dlc.ir.types import TensorType, Type


def _sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)) without overflow."""
    small = np.exp(-np.abs(x))
    result: Array = np.where(x >= 0, 1, small) / (1 + small)
    return result


#: What each activation computes of (x, alpha, beta), by its name in `activations`.
ACTIVATIONS: dict[str, Callable[[Array, float, float], Array]] = {
    "affine": lambda x, alpha, beta: alpha * x + beta,
    "elu": lambda x, alpha, beta: np.where(x >= 0, x, alpha * np.expm1(np.minimum(x, 0))),
    "hard_sigmoid": lambda x, alpha, beta: np.clip(alpha * x + beta, 0, 1),
    "leaky_relu": lambda x, alpha, beta: np.where(x >= 0, x, alpha * x),
    "relu": lambda x, alpha, beta: np.maximum(x, 0),
    "scaled_tanh": lambda x, alpha, beta: alpha * np.tanh(beta * x),
    "sigmoid": lambda x, alpha, beta: _sigmoid(x),
    "softplus": lambda x, alpha, beta: np.logaddexp(x, 0),
    "softsign": lambda x, alpha, beta: x / (1 + np.abs(x)),
    "tanh": lambda x, alpha, beta: np.tanh(x),
    "thresholded_relu": lambda x, alpha, beta: np.where(x >= alpha, x, 0),
}


@dataclasses.dataclass(frozen=True)
class _Recurrent(Operator):
    """What the three cells share.

    `direction` is "forward", "reverse" or "bidirectional". `activations` names the functions of one direction
    after the other, `alphas` and `betas` are aligned with it (0 where a function has none). `clip` bounds the
    arguments of the activations of gates to [-clip, clip]; not that of h in LSTM, as onnxruntime reads
    "applied to the input of activations".
    """

    hidden: int
    direction: str
    activations: tuple[str, ...]
    alphas: tuple[float, ...]
    betas: tuple[float, ...]
    clip: float | None

    kind: ClassVar[OperatorClass] = OperatorClass.RECURRENT
    gates: ClassVar[int]
    functions: ClassVar[int]

    @property
    def directions(self) -> int:
        """1, or 2 when bidirectional."""
        return 2 if self.direction == "bidirectional" else 1

    def reverses(self, direction: int) -> bool:
        """Whether that direction (0 or 1) walks from the last step to the first."""
        return self.direction == "reverse" or direction == 1

    def _infer_common(self, inputs: Sequence[Type | None]) -> tuple[TensorType, TensorType]:
        """Types of y and y_h, after checking x, w, r, b, sequence_lens and initial_h."""
        if self.direction not in ("forward", "reverse", "bidirectional"):
            raise InferenceError(f"direction {self.direction!r} is none of forward, reverse, bidirectional")
        wanted = self.directions * self.functions
        if not wanted == len(self.activations) == len(self.alphas) == len(self.betas):
            raise InferenceError(f"{wanted} activations are needed, each with alpha and beta, "
                                 f"but there are {len(self.activations)}")
        for name in self.activations:
            if name not in ACTIVATIONS:
                raise InferenceError(f"{name!r} is no activation of a recurrent cell")
        x = require_rank(inputs[0], 3, "x")
        if not x.dtype.is_float:
            raise InferenceError(f"x must be floating-point, but is {x.dtype}")
        steps, batch, width = x.shape
        count, rows = self.directions, self.gates * self.hidden
        require_shape(inputs[1], (count, rows, width), "w")
        require_shape(inputs[2], (count, rows, self.hidden), "r")
        shapes: tuple[tuple[int, tuple[Dim, ...], str], ...] = (
            (3, (count, 2 * rows), "b"),
            (4, (batch,), "sequence_lens"),
            (5, (count, batch, self.hidden), "initial_h"),
        )
        for index, shape, what in shapes:
            if (operand := optional(inputs, index)) is not None:
                require_shape(operand, shape, what)
        return x.with_shape((steps, count, batch, self.hidden)), x.with_shape((count, batch, self.hidden))

    def _activate(self, direction: int, index: int, x: Array, clipped: bool = True) -> Array:
        """The activation number `index` of a direction, of `x` after clipping."""
        at = direction * self.functions + index
        if clipped and self.clip is not None:
            x = np.clip(x, -self.clip, self.clip)
        return ACTIVATIONS[self.activations[at]](x, self.alphas[at], self.betas[at])

    def flops(self, inputs: Sequence[Type | None], outputs: Sequence[Type]) -> Dim:
        steps, batch, width = tensor(inputs[0], "x").shape
        return steps * batch * (width + self.hidden) * (2 * self.directions * self.gates * self.hidden)


@dataclasses.dataclass
class _Operands:
    """Operands of one direction in the type of the computation, absent ones filled in."""

    x: Array
    w: Array
    r: Array
    input_bias: Array
    recurrent_bias: Array
    lengths: Array
    hidden: Array

    @property
    def gates(self) -> Array:
        """x times w plus the input's bias, for all steps: [T, B, G*H]."""
        result: Array = self.x @ self.w.T + self.input_bias
        return result


def _operands(op: _Recurrent, inputs: Sequence[Array | None], direction: int) -> _Operands:
    x, w, r = (given(operand) for operand in inputs[:3])
    b, lengths, hidden = (*inputs[3:], *[None] * 3)[:3]
    carrier = compute_dtype(x.dtype)
    steps, batch, _ = x.shape
    rows = op.gates * op.hidden
    bias = np.zeros(2 * rows, carrier) if b is None else b[direction].astype(carrier)
    return _Operands(
        x=x.astype(carrier),
        w=w[direction].astype(carrier),
        r=r[direction].astype(carrier),
        input_bias=bias[:rows],
        recurrent_bias=bias[rows:],
        lengths=np.full(batch, steps) if lengths is None else lengths,
        hidden=np.zeros((batch, op.hidden), carrier) if hidden is None else hidden[direction].astype(carrier),
    )


def _walk(op: _Recurrent, direction: int, lengths: Array, gates: Array, state: tuple[Array, ...],
          step: Callable[[Array, tuple[Array, ...]], tuple[Array, ...]]) -> tuple[Array, tuple[Array, ...]]:
    """Run `step` over time on (gates of the step, state); the state's first part is the hidden one.

    Returns the hidden states of all steps [T, B, H] and the state at each sequence's end.
    """
    steps = len(gates)
    y = np.zeros((steps, *state[0].shape), state[0].dtype)
    for t in reversed(range(steps)) if op.reverses(direction) else range(steps):
        active = (t < lengths)[:, None]
        following = step(gates[t], state)
        state = tuple(np.where(active, new, old) for new, old in zip(following, state, strict=True))
        y[t] = np.where(active, state[0], 0)
    return y, state


def _stack(parts: list[tuple[Array, tuple[Array, ...]]], like: Array) -> tuple[Array, ...]:
    """Outputs y, y_h (and y_c) of all directions, in the type of `like`."""
    y = np.stack([part for part, _ in parts], axis=1)
    states = (np.stack(state) for state in zip(*(state for _, state in parts), strict=True))
    return tuple(array.astype(like.dtype, copy=False) for array in (y, *states))


@dataclasses.dataclass(frozen=True)
class LSTM(_Recurrent):
    """Long short-term memory; gates in the order i, o, f, c; activations f, g, h.

    Further operands: initial_c [D, B, H] and peepholes p [D, 3*H] (i, o, f); a third output y_c [D, B, H].
    With `input_forget` the forget gate is 1 - i.
    """

    input_forget: bool

    gates: ClassVar[int] = 4
    functions: ClassVar[int] = 3

    def infer(self, inputs: Sequence[Type | None]) -> tuple[Type, ...]:
        y, state = self._infer_common(inputs)
        if (initial := optional(inputs, 6)) is not None:
            require_shape(initial, state.shape, "initial_c")
        if (peepholes := optional(inputs, 7)) is not None:
            require_shape(peepholes, (self.directions, 3 * self.hidden), "p")
        return y, state, state

    def evaluate(self, inputs: Sequence[Array | None], dim: EvaluateDim) -> tuple[Array, ...]:
        padded = (*inputs, *[None] * 8)[:8]
        return _stack([self._direction(padded, each) for each in range(self.directions)], given(inputs[0]))

    def _direction(self, inputs: Sequence[Array | None], direction: int) -> tuple[Array, tuple[Array, ...]]:
        operands = _operands(self, inputs, direction)
        initial, peepholes = inputs[6:8]
        carrier = operands.x.dtype
        cell = np.zeros_like(operands.hidden) if initial is None else initial[direction].astype(carrier)
        p = np.zeros(3 * self.hidden, carrier) if peepholes is None else peepholes[direction].astype(carrier)
        p_i, p_o, p_f = np.split(p, 3)

        def step(gates: Array, state: tuple[Array, ...]) -> tuple[Array, ...]:
            hidden, old = state
            i, o, f, c = np.split(gates + hidden @ operands.r.T + operands.recurrent_bias, 4, axis=-1)
            i = self._activate(direction, 0, i + p_i * old)
            f = 1 - i if self.input_forget else self._activate(direction, 0, f + p_f * old)
            new = f * old + i * self._activate(direction, 1, c)
            o = self._activate(direction, 0, o + p_o * new)
            return o * self._activate(direction, 2, new, clipped=False), new

        return _walk(self, direction, operands.lengths, operands.gates, (operands.hidden, cell), step)


@dataclasses.dataclass(frozen=True)
class GRU(_Recurrent):
    """Gated recurrent unit; gates in the order z, r, h; activations f, g.

    The reset gate multiplies the hidden state, or, with `linear_before_reset`, its product with the recurrent
    weights (and their bias).
    """

    linear_before_reset: bool

    gates: ClassVar[int] = 3
    functions: ClassVar[int] = 2

    def infer(self, inputs: Sequence[Type | None]) -> tuple[Type, ...]:
        return self._infer_common(inputs)

    def evaluate(self, inputs: Sequence[Array | None], dim: EvaluateDim) -> tuple[Array, ...]:
        return _stack([self._direction(inputs, each) for each in range(self.directions)], given(inputs[0]))

    def _direction(self, inputs: Sequence[Array | None], direction: int) -> tuple[Array, tuple[Array, ...]]:
        operands = _operands(self, inputs, direction)
        split = 2 * self.hidden
        r_zr, r_h = operands.r[:split].T, operands.r[split:].T
        b_zr, b_h = operands.recurrent_bias[:split], operands.recurrent_bias[split:]

        def step(gates: Array, state: tuple[Array, ...]) -> tuple[Array, ...]:
            (hidden,) = state
            z, r = np.split(self._activate(direction, 0, gates[:, :split] + hidden @ r_zr + b_zr), 2, axis=-1)
            recurrent = r * (hidden @ r_h + b_h) if self.linear_before_reset else (r * hidden) @ r_h + b_h
            candidate = self._activate(direction, 1, gates[:, split:] + recurrent)
            return ((1 - z) * candidate + z * hidden,)

        return _walk(self, direction, operands.lengths, operands.gates, (operands.hidden,), step)


@dataclasses.dataclass(frozen=True)
class RNN(_Recurrent):
    """Simple recurrent cell: h = f(x w + h r + b)."""

    gates: ClassVar[int] = 1
    functions: ClassVar[int] = 1

    def infer(self, inputs: Sequence[Type | None]) -> tuple[Type, ...]:
        return self._infer_common(inputs)

    def evaluate(self, inputs: Sequence[Array | None], dim: EvaluateDim) -> tuple[Array, ...]:
        return _stack([self._direction(inputs, each) for each in range(self.directions)], given(inputs[0]))

    def _direction(self, inputs: Sequence[Array | None], direction: int) -> tuple[Array, tuple[Array, ...]]:
        operands = _operands(self, inputs, direction)

        def step(gates: Array, state: tuple[Array, ...]) -> tuple[Array, ...]:
            (hidden,) = state
            return (self._activate(direction, 0, gates + hidden @ operands.r.T + operands.recurrent_bias),)

        return _walk(self, direction, operands.lengths, operands.gates, (operands.hidden,), step)
