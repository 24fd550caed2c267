"""The operations of Triton's interpreter as the hardware performs them.

Triton's interpreter keeps a tensor as a `TensorHandle`: a NumPy array and Triton's element type, where
bfloat16 and fp8 are the bits in unsigned integers. The versions 3.6 to 3.9 multiply those bits as if they
were numbers, round by truncation and read and write any address. Here, conversions round to nearest even
(fp8: to the largest finite number beyond it, as the instructions `cvt.rn.satfinite` do), products of small
types are summed in float32, other arithmetic on bfloat16 and fp8 is refused (generated code computes in
float32), and every access must lie in the memory that was passed.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import ml_dtypes
import numpy as np
import triton.language as tl
from triton.runtime.interpreter import InterpreterBuilder, InterpreterOptions, TensorHandle

#: Triton's types whose arrays hold bits, with the NumPy type of the same bits.
SMALL_FLOATS = {
    tl.bfloat16: np.dtype(ml_dtypes.bfloat16),
    tl.float8e4nv: np.dtype(ml_dtypes.float8_e4m3fn),
    tl.float8e5: np.dtype(ml_dtypes.float8_e5m2),
}
_DOT_PRECISIONS = ("tf32", "tf32x3", "ieee", "bf16x3", "bf16x6")


class Builder(InterpreterBuilder):  # type: ignore[misc]
    """The interpreter's builder for one launch; `memory` are the address ranges [begin, end) of the buffers
    that the kernel may touch."""

    def __init__(self, memory: Sequence[tuple[int, int]]) -> None:
        super().__init__()
        self.memory = tuple(memory)
        self.options: Any = dataclasses.replace(
            InterpreterOptions(), allowed_dot_input_precisions=_DOT_PRECISIONS
        )

    # Conversions

    def cast_impl(self, src: Any, dst_type: Any) -> Any:
        """Any conversion of numbers that does not keep the bits."""
        source, target = src.dtype.scalar, dst_type.scalar
        if source not in SMALL_FLOATS and target not in SMALL_FLOATS:
            return super().cast_impl(src, dst_type)
        wide = values(src)
        if target in SMALL_FLOATS:
            return TensorHandle(_bits(wide, SMALL_FLOATS[target]), target)
        return super().cast_impl(TensorHandle(wide, tl.float32), dst_type)

    def create_fp_to_fp(self, src: Any, dst_type: Any, rounding_mode: Any) -> Any:
        """Conversion between types of which one is narrower than 16 bits, or bfloat16."""
        if rounding_mode is not None and "RTZ" in str(rounding_mode):
            return super().create_fp_to_fp(src, dst_type, rounding_mode)
        return self.cast_impl(src, dst_type)

    # Arithmetic

    def create_dot(self, a: Any, b: Any, d: Any, input_precision: Any, max_num_imprecise_acc: Any) -> Any:
        """``a @ b + d``. Integers are exact (float64 holds every sum of int8 products)."""
        accumulator = d.data.dtype
        if accumulator == np.int32:
            product = np.matmul(a.data.astype(np.float64), b.data.astype(np.float64)).astype(np.int64)
        else:
            compute = np.float64 if accumulator == np.float64 else np.float32
            product = np.matmul(values(a).astype(compute), values(b).astype(compute))
        return TensorHandle(product.astype(accumulator) + d.data, d.dtype.scalar)

    def binary_op(self, lhs: Any, rhs: Any, op: Any) -> Any:
        _refuse_small(op, lhs, rhs)
        return super().binary_op(lhs, rhs, op)

    def unary_op(self, arg: Any, op: Any) -> Any:
        _refuse_small(op, arg)
        return super().unary_op(arg, op)

    def ternary_op(self, lhs: Any, rhs: Any, other: Any, op: Any) -> Any:
        if op is not np.where:
            _refuse_small(op, lhs, rhs, other)
        return super().ternary_op(lhs, rhs, other, op)

    def create_fma(self, x: Any, y: Any, z: Any) -> Any:
        _refuse_small("fma", x, y, z)
        return super().create_fma(x, y, z)

    def create_splat(self, ret_ty: Any, arg: Any) -> Any:
        """A block of one number; a bool stays one."""
        return TensorHandle(np.full(ret_ty.shape, arg.data.item(), arg.data.dtype), arg.dtype.scalar)

    # Memory

    def create_masked_load(self, ptrs: Any, mask: Any, *arguments: Any, **keywords: Any) -> Any:
        self._check_addresses("load", ptrs, mask)
        return super().create_masked_load(ptrs, mask, *arguments, **keywords)

    def create_masked_store(self, ptrs: Any, value: Any, mask: Any, *arguments: Any, **keywords: Any) -> Any:
        self._check_addresses("store", ptrs, mask)
        return super().create_masked_store(ptrs, value, mask, *arguments, **keywords)

    def create_atomic_cas(self, ptr: Any, *arguments: Any) -> Any:
        self._check_addresses("atomic", ptr, None)
        return super().create_atomic_cas(ptr, *arguments)

    def create_atomic_rmw(self, operation: Any, ptr: Any, val: Any, mask: Any, *arguments: Any) -> Any:
        self._check_addresses("atomic", ptr, mask)
        _refuse_small(operation, val)
        return super().create_atomic_rmw(operation, ptr, val, mask, *arguments)

    def _check_addresses(self, access: str, ptrs: Any, mask: Any) -> None:
        """IndexError if an element that `mask` does not exclude lies outside of the memory passed."""
        element = ptrs.get_element_ty()
        size = max(1, element.primitive_bitwidth // 8)
        addresses = ptrs.data
        if mask is not None:
            addresses = np.broadcast_to(addresses, np.broadcast_shapes(addresses.shape, mask.data.shape))
            addresses = addresses[np.broadcast_to(mask.data, addresses.shape)]
        inside = np.zeros(addresses.shape, dtype=bool)
        for begin, end in self.memory:
            inside |= (addresses >= np.uint64(begin)) & (addresses + np.uint64(size) <= np.uint64(end))
        if not inside.all():
            stray = int(addresses[~inside].flat[0])
            begin = min((begin for begin, _ in self.memory), key=lambda begin: abs(stray - begin), default=0)
            where = f"element {(stray - begin) // size} from the start of the nearest buffer"
            raise IndexError(f"{access} of {element} out of bounds: {where}")


def values(handle: Any) -> np.ndarray[Any, Any]:
    """The numbers of a handle: those of bfloat16 and fp8 in float32, others as they are."""
    small = SMALL_FLOATS.get(handle.dtype.scalar)
    data: np.ndarray[Any, Any] = handle.data
    return data if small is None else data.view(small).astype(np.float32)


def _bits(numbers: np.ndarray[Any, Any], small: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """`numbers`, rounded to nearest even, as the bits of the type `small`."""
    wide = numbers.astype(np.float32)
    if small.itemsize == 1:
        largest = np.float32(ml_dtypes.finfo(small).max)
        wide = np.clip(wide, -largest, largest)
    bits: np.ndarray[Any, Any] = wide.astype(small).view(np.uint16 if small.itemsize == 2 else np.uint8)
    return bits


def reduce_by_halves(self: Any, operands: Sequence[Any]) -> list[Any]:
    """What stands for `ReduceOps.generic_reduce`, which combines numbers one by one: whole arrays at once."""
    axis = 0 if self.axis is None else self.axis
    dtypes = [operand.dtype for operand in operands]
    arrays = [operand.handle.data for operand in operands]
    rank = arrays[0].ndim
    if self.axis is None:
        arrays = [array.reshape(-1) for array in arrays]
    arrays = [np.moveaxis(array, axis, 0) for array in arrays]
    while len(arrays[0]) > 1:
        half = len(arrays[0]) // 2
        parts = [array[:half] for array in arrays] + [array[half:] for array in arrays]
        combined = self.combine_fn.fn(*map(self.to_tensor, parts, (*dtypes, *dtypes)))
        combined = combined if isinstance(combined, tuple) else (combined,)
        arrays = [each.handle.data.reshape(parts[0].shape) for each in combined]
    results = [array[0] for array in arrays]
    if self.keep_dims:
        shape = [1] * rank if self.axis is None else None
        results = [r.reshape(shape) if shape else np.expand_dims(r, axis) for r in results]
    return [self.to_tensor(result, dtype) for result, dtype in zip(results, dtypes)]


def _refuse_small(operation: Any, *operands: Any) -> None:
    for operand in operands:
        if operand.dtype.scalar in SMALL_FLOATS:
            name = getattr(operation, "__name__", str(operation))
            raise TypeError(f"{name} of {operand.dtype.scalar}: convert to float32 after the load")


# libdevice

_erf = np.vectorize(math.erf, otypes=[np.float64])
_erfc = np.vectorize(math.erfc, otypes=[np.float64])


def _log_gamma(x: float) -> float:
    return math.inf if math.isinf(x) or (x <= 0 and x == math.floor(x)) else math.lgamma(x)


#: Functions of libdevice by name, over NumPy arrays.
LIBDEVICE: dict[str, Callable[..., Any]] = {
    **{name: getattr(np, name) for name in ("cbrt ceil copysign cos cosh exp exp2 expm1 floor fmod".split())},
    **{name: getattr(np, name) for name in ("hypot isinf isnan log log10 log1p log2 rint sin sinh".split())},
    **{name: getattr(np, name) for name in ("signbit sqrt tan tanh trunc".split())},
    "abs": np.abs,
    "acos": np.arccos,
    "acosh": np.arccosh,
    "asin": np.arcsin,
    "asinh": np.arcsinh,
    "atan": np.arctan,
    "atan2": np.arctan2,
    "atanh": np.arctanh,
    "erf": _erf,
    "erfc": _erfc,
    "finitef": np.isfinite,
    "fma": lambda x, y, z: x.astype(np.float64) * y + z,
    "lgamma": np.vectorize(_log_gamma, otypes=[np.float64]),
    "nearbyint": np.rint,
    "nextafter": np.nextafter,
    "pow": np.power,
    "rsqrt": lambda x: 1 / np.sqrt(x),
}
_PREDICATES = ("finitef", "isinf", "isnan", "signbit")


def libdevice_function(name: str) -> Callable[..., Any]:
    """What stands for `libdevice.<name>` in an interpreted kernel: as in CUDA, the result has the operands'
    type, and predicates give int32. Calling one that is not in the table is a NotImplementedError."""
    implementation = LIBDEVICE.get(name)

    def call(*operands: Any, _semantic: Any = None) -> Any:
        if implementation is None:
            raise NotImplementedError(f"libdevice.{name} is not interpreted")
        first = next(operand for operand in operands if isinstance(operand, tl.tensor))
        scalar = first.dtype
        _refuse_small(f"libdevice.{name}", first.handle)
        arrays = [
            operand.handle.data if isinstance(operand, tl.tensor) else first.handle.data.dtype.type(operand)
            for operand in operands
        ]
        result = np.asarray(implementation(*arrays))
        kind = tl.int32 if name in _PREDICATES else scalar
        data = result.astype(np.int32 if name in _PREDICATES else first.handle.data.dtype)
        shape = [int(extent) for extent in data.shape] if first.type.is_block() else None
        return tl.tensor(TensorHandle(data, kind), kind if shape is None else tl.block_type(kind, shape))

    return call
