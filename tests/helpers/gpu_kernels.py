"""Small Triton functions written by hand, for the tests of what loads, compiles and interprets them."""

from __future__ import annotations

from typing import Any

import numpy as np

from dlc.backends.triton.function import TritonFunction
from dlc.ir.dtypes import DType

Array = np.ndarray[Any, Any]

_HEADER = """# hand-written
import triton
import triton.language as tl
from triton.language.extra import libdevice


"""
_TRITON_TYPES = {
    DType.F32: "tl.float32",
    DType.F16: "tl.float16",
    DType.BF16: "tl.bfloat16",
    DType.F8E4M3FN: "tl.float8e4nv",
    DType.F8E5M2: "tl.float8e5",
    DType.I32: "tl.int32",
    DType.I8: "tl.int8",
}
_GUARD = 64
_CANARY = 0xA5


def kernel(
    body: str,
    pointers: tuple[tuple[str, DType], ...],
    scalars: tuple[str, ...] = (),
    before: str = "",
    **options: Any,
) -> TritonFunction:
    """The function `k` over `pointers` and `scalars` with the lines of `body`; `before` stands above it."""
    names = ", ".join([*(name for name, _ in pointers), *scalars])
    lines = "\n".join("    " + line if line else "" for line in body.strip("\n").splitlines())
    text = f"{_HEADER}{before}@triton.jit\ndef k({names}):\n{lines}\n"
    return TritonFunction("k", text, pointers, scalars, (1,), **options)


def gelu(dtype: DType, block: int) -> TritonFunction:
    """y = GELU(x) of n elements, computed in float32; one program for `block` elements."""
    body = f"""
i = tl.program_id(0) * {block} + tl.arange(0, {block})
x = tl.load(x + i, mask=i < n, other=0.0).to(tl.float32)
r = 0.5 * x * (1.0 + libdevice.erf(x * 0.7071067811865476))
tl.store(y + i, r.to({_TRITON_TYPES[dtype]}), mask=i < n)
"""
    return kernel(body, (("x", dtype), ("y", dtype)), ("n",))


def softmax(dtype: DType, columns: int, block: int) -> TritonFunction:
    """y = softmax of each row of x of [programs, `columns`], at most `block` of them."""
    body = f"""
j = tl.arange(0, {block})
at = tl.program_id(0) * {columns} + j
x = tl.load(x + at, mask=j < {columns}, other=float("-inf")).to(tl.float32)
e = tl.exp(x - tl.max(x, axis=0))
tl.store(y + at, (e / tl.sum(e, axis=0)).to({_TRITON_TYPES[dtype]}), mask=j < {columns})
"""
    return kernel(body, (("x", dtype), ("y", dtype)))


def matmul(
    dtype: DType,
    result: DType,
    n: int,
    k: int,
    blocks: tuple[int, int, int],
    precision: str = "ieee",
    **options: Any,
) -> TritonFunction:
    """c = a @ b.T for a of [m, `k`] and b of [`n`, `k`], with blocks of [rows, columns, summands]."""
    rows, columns, depth = blocks
    total, zero = ("tl.int32", "0") if dtype is DType.I8 else ("tl.float32", "0.0")
    body = f"""
i = tl.program_id(0) * {rows} + tl.arange(0, {rows})
j = tl.program_id(1) * {columns} + tl.arange(0, {columns})
total = tl.zeros(({rows}, {columns}), {total})
for start in range(0, {k}, {depth}):
    p = start + tl.arange(0, {depth})
    x = tl.load(a + i[:, None] * {k} + p[None, :], mask=(i[:, None] < m) & (p[None, :] < {k}), other={zero})
    y = tl.load(b + j[None, :] * {k} + p[:, None], mask=(j[None, :] < {n}) & (p[:, None] < {k}), other={zero})
    total = tl.dot(x, y, total, input_precision="{precision}", out_dtype={total})
inside = (i[:, None] < m) & (j[None, :] < {n})
tl.store(c + i[:, None] * {n} + j[None, :], total.to({_TRITON_TYPES[result]}), mask=inside)
"""
    return kernel(body, (("a", dtype), ("b", dtype), ("c", result)), ("m",), **options)


def attention(dtype: DType, size: int, blocks: tuple[int, int], **options: Any) -> TritonFunction:
    """o = softmax(q @ k.T / 8) @ v, row by row without storing the scores, for q of [m, `size`], k and v of
    [n, `size`]; blocks of [queries, keys]."""
    rows, keys = blocks
    cast = _TRITON_TYPES[dtype]
    body = f"""
i = tl.program_id(0) * {rows} + tl.arange(0, {rows})
d = tl.arange(0, {size})
query = tl.load(q + i[:, None] * {size} + d[None, :], mask=i[:, None] < m, other=0.0)
largest = tl.full(({rows},), float("-inf"), tl.float32)
total = tl.zeros(({rows},), tl.float32)
result = tl.zeros(({rows}, {size}), tl.float32)
for start in range(0, n, {keys}):
    j = start + tl.arange(0, {keys})
    key = tl.load(keys + j[None, :] * {size} + d[:, None], mask=j[None, :] < n, other=0.0)
    scores = tl.dot(query, key, input_precision="ieee", out_dtype=tl.float32) * 0.125
    scores = tl.where(j[None, :] < n, scores, float("-inf"))
    top = tl.maximum(largest, tl.max(scores, axis=1))
    scale = tl.exp(largest - top)
    weights = tl.exp(scores - top[:, None])
    total = total * scale + tl.sum(weights, axis=1)
    value = tl.load(values + j[:, None] * {size} + d[None, :], mask=j[:, None] < n, other=0.0)
    result = result * scale[:, None]
    result = tl.dot(weights.to({cast}), value, result, input_precision="ieee", out_dtype=tl.float32)
    largest = top
tl.store(o + i[:, None] * {size} + d[None, :], (result / total[:, None]).to({cast}), mask=i[:, None] < m)
"""
    names = ("q", "keys", "values", "o")
    return kernel(body, tuple((name, dtype) for name in names), ("m", "n"), **options)


class Guarded:
    """A vector with the elements of `content`, between two zones of a fixed pattern."""

    def __init__(self, content: Array) -> None:
        size = content.nbytes
        room = np.full(size + 2 * _GUARD + 16, _CANARY, dtype=np.uint8)
        begin = _GUARD + -(room.ctypes.data + _GUARD) % 16
        self._zones = room[:begin], room[begin + size :]
        self.array: Array = room[begin : begin + size].view(content.dtype)
        self.array[:] = content.reshape(-1)

    def is_intact(self) -> bool:
        """Whether nothing was written outside of the vector."""
        return all((zone == _CANARY).all() for zone in self._zones)


def random_array(shape: tuple[int, ...], dtype: DType, seed: int) -> Array:
    """Normal numbers, or all values of int8 alike."""
    generator = np.random.default_rng(seed)
    if dtype is DType.I8:
        return generator.integers(-128, 128, shape).astype(np.int8)
    return generator.standard_normal(shape).astype(dtype.numpy)
