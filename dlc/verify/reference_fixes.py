"""Corrections of the ONNX reference evaluator (onnx 1.23) where it departs from the standard."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
from onnx.reference.op_run import OpRun
from onnx.reference.ops import op_loop, op_one_hot

from dlc.verify.compare import Array
from dlc.verify.reference_pools import MaxPool
from dlc.verify.tolerances import is_float

if TYPE_CHECKING:
    import onnx


class BatchNormalization(OpRun):
    """Inference form for opsets 7 to 13, where one output means the given statistics.

    The evaluator mixes the batch's own mean and variance into them by `momentum`, as only training does.
    """

    op_domain = ""

    def _run(
        self, x: Array, scale: Array, bias: Array, mean: Array, var: Array, epsilon: float = 1e-5, **_: Any
    ) -> tuple[Array]:
        along_channels = (-1, *(1,) * (x.ndim - 2))
        scale, bias, mean, var = (p.reshape(along_channels) for p in (scale, bias, mean, var))
        return ((scale * (x - mean) / np.sqrt(var + epsilon) + bias).astype(x.dtype),)


class DequantizeLinear(OpRun):
    """Opsets 10 to 18, which the evaluator leaves out: (x - zero point) * scale, per tensor or per axis."""

    op_domain = ""

    def _run(
        self, x: Array, scale: Array, zero_point: Array | None = None, axis: int = 1, **_: Any
    ) -> tuple[Array]:
        shape = [-1 if i == axis % max(x.ndim, 1) else 1 for i in range(x.ndim)] if scale.size > 1 else []
        wide = x.astype(np.float64)
        if zero_point is not None:
            wide = wide - zero_point.astype(np.float64).reshape(shape)
        return ((wide * scale.reshape(shape)).astype(scale.dtype),)


class Erf(OpRun):
    """In the precision of its operand; the evaluator's is float32, which stays that of integers."""

    op_domain = ""

    def _run(self, x: Array) -> tuple[Array]:
        wide = np.asarray(np.vectorize(math.erf, otypes=[np.float64])(x.astype(np.float64)))
        return (wide.astype(x.dtype if is_float(x.dtype) else np.float32).astype(x.dtype),)


class Gelu(OpRun):
    """By the complementary error function and exp: 1 + erf and 1 + tanh cancel for negative operands."""

    op_domain = ""

    def _run(self, x: Array, approximate: str = "none") -> tuple[Array]:
        wide = x.astype(np.float64)
        if approximate == "tanh":
            with np.errstate(all="ignore"):
                cubic = 2 * math.sqrt(2 / math.pi) * (wide + 0.044715 * wide**3)
                return ((wide / (1 + np.exp(-cubic))).astype(x.dtype),)
        tail = np.asarray(np.vectorize(math.erfc, otypes=[np.float64])(-wide / math.sqrt(2)))
        return ((0.5 * wide * tail).astype(x.dtype),)


class Hardmax(OpRun):
    """Before opset 13, when the axes from `axis` on count as one; the evaluator knows the later form only."""

    op_domain = ""

    def _run(self, x: Array, axis: int = 1) -> tuple[Array]:
        rows = x.reshape(math.prod(x.shape[: axis % x.ndim]), math.prod(x.shape[axis % x.ndim :]))
        y = np.zeros_like(rows)
        if rows.size:
            y[np.arange(len(rows)), rows.argmax(axis=1)] = 1
        return (y.reshape(x.shape),)


class Softmax(OpRun):
    """Before opset 13, as Hardmax."""

    op_domain = ""

    def _run(self, x: Array, axis: int = 1) -> tuple[Array]:
        return (np.exp(_log_softmax(x, axis)).astype(x.dtype),)


class LogSoftmax(OpRun):
    """Before opset 13, as Hardmax."""

    op_domain = ""

    def _run(self, x: Array, axis: int = 1) -> tuple[Array]:
        return (_log_softmax(x, axis).astype(x.dtype),)


def _log_softmax(x: Array, axis: int) -> Array:
    """In float64, of the axes from `axis` on as one."""
    rows = x.reshape(math.prod(x.shape[: axis % x.ndim]), -1).astype(np.float64)
    if not rows.size:
        return x
    with np.errstate(all="ignore"):
        shifted = rows - rows.max(axis=1, keepdims=True)
        return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))).reshape(x.shape)


class LpNormalization(OpRun):
    """Division by the norm; the evaluator's 1-norm is a sum of the elements, not of their absolute values."""

    op_domain = ""

    def _run(self, x: Array, axis: int = -1, p: int = 2) -> tuple[Array]:
        norm = np.linalg.norm(x, ord=p, axis=axis, keepdims=True)
        with np.errstate(all="ignore"):
            return (np.where(norm == 0, 0, x / norm).astype(x.dtype),)


class Mean(OpRun):
    """Of operands that broadcast; the evaluator adds all to a copy of the first."""

    op_domain = ""

    def _run(self, *operands: Array) -> tuple[Array]:
        total = sum(operand.astype(np.float64) for operand in operands)
        return (np.asarray(total / len(operands)).astype(operands[0].dtype),)


class GlobalMaxPool(OpRun):
    """Over all spatial axes; the evaluator is right for two."""

    op_domain = ""

    def _run(self, x: Array) -> tuple[Array]:
        return (np.asarray(x.max(axis=tuple(range(2, x.ndim)), keepdims=True)),)


class Loop(op_loop.Loop):
    """With a new first axis for what iterations give; the evaluator lengthens the axis that is there."""

    op_domain = ""

    def __init__(self, node: onnx.NodeProto, run_params: dict[str, Any]) -> None:
        super().__init__(node, run_params)  # type: ignore[no-untyped-call]
        self._shapes: list[list[tuple[int, ...]]] = []
        run_body: Callable[..., Any] = vars(self)["_run_body"]

        def recorded(*operands: Any, **attributes: Any) -> Any:
            outputs = run_body(*operands, **attributes)
            self._shapes.append([np.shape(output) for output in outputs[len(outputs) - self.K :]])
            return outputs

        vars(self)["_run_body"] = recorded

    def _run(self, *operands: Any, **attributes: Any) -> tuple[Any, ...]:
        self._shapes.clear()
        results = super()._run(*operands, **attributes)  # type: ignore[no-untyped-call]
        if not self._shapes:
            return tuple(results)
        carried, stacked = results[: self.N], results[self.N : self.N + self.K]
        rows = len(self._shapes)
        return *carried, *(s.reshape(rows, *shape) for s, shape in zip(stacked, self._shapes[0]))


class OneHot(op_one_hot.OneHot):
    """With a depth that is a vector of one element, too."""

    op_domain = ""

    def _run(self, indices: Array, depth: Array, values: Array, axis: int = -1) -> Any:
        (extent,) = np.asarray(depth).reshape(-1)
        return super()._run(indices, extent, values, axis=axis)  # type: ignore[no-untyped-call]


def _recurrent(name: str, opset: int) -> type[Any]:
    """The evaluator's LSTM, GRU or RNN where it computes what is asked; what it ignores is refused."""
    from onnx.reference.ops import load_op

    base: Any = load_op("", name, opset)
    ignored = ("clip", "input_forget") if name == "RNN" else ("clip", "input_forget", "activations")
    known = inspect.signature(base._run).parameters

    def run(self: Any, *operands: Array | None, **attributes: Any) -> Any:
        given = {attribute.name for attribute in self.onnx_node.attribute}
        if given.intersection(ignored) or (len(operands) > 4 and operands[4] is not None):
            raise NotImplementedError("the evaluator ignores sequence_lens, clip, input_forget, activations")
        return base._run(self, *operands, **_of_version(attributes, known))

    return type(name, (base,), {"op_domain": "", "_run": run})


def _quantization(opset: int) -> type[Any]:
    """QuantizeLinear that saturates what exceeds int32, to which the evaluator casts before it clamps."""
    from onnx.reference.ops import load_op

    base: Any = load_op("", "QuantizeLinear", opset)
    known = inspect.signature(base._run).parameters

    def run(self: Any, x: Array, scale: Array, zero_point: Array | None = None, **attributes: Any) -> Any:
        floats = attributes.get("output_dtype") if zero_point is None else is_float(zero_point.dtype)
        if not floats:
            beyond = min(float(scale.max(initial=0)) * 2**20, float(ml_dtypes.finfo(x.dtype).max))
            x = np.clip(x, np.asarray(-beyond, x.dtype), np.asarray(beyond, x.dtype))
        return base._run(self, x, scale, zero_point, **_of_version(attributes, known))

    return type("QuantizeLinear", (base,), {"op_domain": "", "_run": run})


#: Reductions whose results the evaluator widens to 64 bits, as NumPy's sums and products are.
_REDUCTIONS = ("ReduceL1", "ReduceL2", "ReduceProd", "ReduceSum", "ReduceSumSquare")


def _reductions(opset: int) -> list[type[Any]]:
    """The evaluator's reductions with results in the operand's type, as the standard has them."""
    from onnx.reference.ops import load_op

    return [_narrowed(load_op("", name, opset), name) for name in _REDUCTIONS]


def _narrowed(base: type[Any], name: str) -> type[Any]:
    known = inspect.signature(base._run).parameters

    def run(self: Any, x: Array, *operands: Any, **attributes: Any) -> tuple[Array]:
        (y,) = base._run(self, x, *operands, **_of_version(attributes, known))
        return (np.asarray(y).astype(x.dtype),)

    return type(name, (base,), {"op_domain": "", "_run": run})


def _of_version(attributes: Mapping[str, Any], known: Collection[str]) -> dict[str, Any]:
    """The attributes that an older version has; the evaluator gives those of the newest."""
    return {key: value for key, value in attributes.items() if key in known}


def corrected_operators(model: onnx.ModelProto) -> list[type[Any]]:
    """The classes that replace the evaluator's own for this model's opset (argument `new_ops`)."""
    opset = max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=1)
    corrected: list[type[Any]] = [Erf, Gelu, GlobalMaxPool, Loop, LpNormalization, MaxPool, Mean, OneHot]
    corrected += _reductions(opset)
    if 7 <= opset < 14:
        corrected.append(BatchNormalization)
    if opset < 13:
        corrected += [Hardmax, LogSoftmax, Softmax]
    corrected += [_recurrent(name, opset) for name in ("GRU", "LSTM", "RNN")]
    if opset >= 10:
        corrected.append(_quantization(opset))
    if 10 <= opset < 19:
        corrected.append(DequantizeLinear)
    return corrected
