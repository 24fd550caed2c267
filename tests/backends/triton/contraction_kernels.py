"""Matrix products and convolutions as text of the kernel IR, and their runs by generated functions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from dlc.backends.triton.emulate import emulate_kernel
from dlc.backends.triton.select import GpuKernel, emit_kernel
from dlc.ir.dims import evaluate
from dlc.ir.dtypes import from_text
from dlc.lowering.evaluate import evaluate_kernel
from dlc.lowering.kernel import Kernel, Param
from dlc.lowering.parse import parse
from dlc.lowering.tensors import Memory
from dlc.lowering.verify import verify_kernel
from dlc.target import GpuTarget, resolve_gpu

SM_80, SM_90 = resolve_gpu("cuda:sm_80"), resolve_gpu("cuda:sm_90")
EPILOGUES = {
    "none": "%0",
    "relu": "select(%0 < 0.0, 0.0, %0)",
    "gelu": "%0 * 0.5 * (1.0 + erf(%0 * 0.70710678))",
    "silu": "%0 * sigmoid(%0)",
    "tanh": "tanh(%0)",
}


def _converted(dtype: str, kind: str, text: str) -> str:
    return text if dtype == kind else f"{kind}({text})"


def matmul(
    m: int | str,
    n: int | str,
    k: int | str,
    dtype: str = "f16",
    *,
    transposed: bool = False,
    batch: int | str | None = None,
    epilogue: str = "relu",
    symbols: str = "",
) -> Kernel:
    """x[m, k] times w[k, n] (`transposed`: w[n, k]), plus bias[n], through an epilogue; i8 sums in i32."""
    total = "i32" if dtype in ("i8", "u8") else "f32"
    lead, size, roles = ("b, ", f"{batch}, ", "batch(b) ") if batch else ("", "", "")
    result = total if total == "i32" else dtype
    shape, index = (f"{n}, {k}", "j, c") if transposed else (f"{k}, {n}", "c, j")
    left, right = (_converted(dtype, total, f"{t}[{lead}{i}]") for t, i in (("x", "i, c"), ("w", index)))
    value = EPILOGUES["none" if total == "i32" else epilogue]
    text = f"""kernel product {{
      {symbols}
      read x: {dtype}[{size}{m}, {k}]
      read constant w: {dtype}[{size}{shape}]
      read constant bias: {total}[{n}]
      write y: {result}[{size}{m}, {n}]
      {f"axis b: {batch}" if batch else ""}
      axis i: {m}
      axis j: {n}
      axis c: {k} reduce
      for {lead}i, j: sum: {total} = contract over c of {left}, {right} with {roles}rows(i) columns(j)
      for {lead}i, j: y[{lead}i, j] = {_converted(total, result, value)} where %0 = sum[{lead}i, j] + bias[j]
    }}"""
    return parsed(text)


def convolution(
    batch: int | str,
    channels: int,
    sizes: tuple[int, ...],
    outputs: int,
    taps: int,
    dtype: str = "f16",
    *,
    stride: int = 1,
    dilation: int = 1,
    pad: int | None = None,
    groups: int = 1,
    channels_last: bool = False,
    packed: bool = False,
    epilogue: str = "relu",
    symbols: str = "",
) -> Kernel:
    """A convolution over one to three axes; `channels_last` of the image, `packed`: of the weights."""
    pad = (taps - 1) * dilation // 2 if pad is None else pad
    rank = len(sizes)
    places, windows, outs = "pqt"[:rank], "rsv"[:rank], []
    entries, masks, roles = [], [], []
    for size, place, tap in zip(sizes, places, windows):
        outs.append((size + 2 * pad - dilation * (taps - 1) - 1) // stride + 1)
        entry = place if stride == 1 else f"{stride}*{place}"
        if taps > 1:
            entry += f" + {tap}" if dilation == 1 else f" + {dilation}*{tap}"
            entry += f" - {pad}" if pad else ""
            roles.append(f"window({place}, {tap}, {stride}, {dilation}, {pad})")
        entries.append(entry)
        masks.append(f"0 <= {entry} < {size}")
    order = f" <0.{'.'.join(map(str, range(2, 2 + rank)))}.1 pad(zero)>"
    image, weights = (order if channels_last else ""), (order if packed else "")
    o, c = (f"{outputs // groups}*g + o", f"{channels // groups}*g + c") if groups > 1 else ("o", "c")
    points = ["b", *(["g"] if groups > 1 else []), "o", *places]
    reduced = ["c", *(windows if taps > 1 else "")]
    mask = f" | {', '.join(masks)} | 0.0:{dtype}" if pad else ""
    inside = [*(windows if taps > 1 else ["0"] * rank)]
    all_points = ", ".join(points)
    left = _converted(dtype, "f32", f"x[b, {c}, {', '.join(entries)}{mask}]")
    right = _converted(dtype, "f32", f"w[{o}, c, {', '.join(inside)}]")
    value = _converted("f32", dtype, EPILOGUES[epilogue])
    axes = [("b", batch, ""), ("o", outputs // groups, ""), ("c", channels // groups, " reduce")]
    axes += [("g", groups, "")] if groups > 1 else []
    axes += [(place, out, "") for place, out in zip(places, outs)]
    axes += [(tap, taps, " reduce") for tap in windows] if taps > 1 else []
    text = f"""kernel convolution {{
      {symbols}
      read x: {dtype}[{batch}, {channels}, {", ".join(map(str, sizes))}]{image}
      read constant w: {dtype}[{outputs}, {channels // groups}, {", ".join([str(taps)] * rank)}]{weights}
      read constant bias: f32[{outputs}]
      write y: {dtype}[{batch}, {outputs}, {", ".join(map(str, outs))}]{image}
      {chr(10).join(f"axis {name}: {extent}{kind}" for name, extent, kind in axes)}
      for {all_points}: sum: f32 = contract over {", ".join(reduced)} of {left}, {right} with \
{"batch(g) " if groups > 1 else ""}rows(b, {", ".join(places)}) columns(o) {" ".join(roles)}
      for {all_points}: y[b, {o}, {", ".join(places)}] = {value} where %0 = sum[{all_points}] + bias[{o}]
    }}"""
    return parsed(text)


def parsed(text: str) -> Kernel:
    """A kernel from lines of text, verified."""
    kernel = parse("\n".join(line for line in text.splitlines() if line.strip()))
    verify_kernel(kernel)
    return kernel


def arrays_of(kernel: Kernel, numbers: Mapping[str, int], seed: int = 0) -> dict[str, Any]:
    """Memory for every parameter, random where it is read."""
    rng = np.random.default_rng(seed)
    arrays: dict[str, Any] = {}
    for param in kernel.params:
        shape = tuple(evaluate(dim, numbers) for dim in param.type.physical_shape)
        dtype = param.type.dtype
        if dtype.is_float:
            arrays[param.name] = rng.standard_normal(shape).astype(np.float32).astype(dtype.numpy)
        else:
            info = np.iinfo(dtype.numpy)
            numbers_of = rng.integers(int(info.min), int(info.max), shape, np.int64, endpoint=True)
            arrays[param.name] = np.asarray(numbers_of).astype(dtype.numpy)
    return arrays


def compare(
    kernel: Kernel,
    numbers: Mapping[str, int] | None = None,
    target: GpuTarget = SM_90,
    code: GpuKernel | None = None,
) -> GpuKernel:
    """Run the functions of `kernel` and its evaluation on the same numbers; they must agree."""
    numbers = numbers or {}
    code = code or emit_kernel(kernel, target)
    start = arrays_of(kernel, numbers)
    wanted, found = ({name: array.copy() for name, array in start.items()} for _ in range(2))

    def memory(param: Param, array: Any) -> Memory:
        return Memory(array, param.type, tuple(evaluate(dim, numbers) for dim in param.type.shape))

    evaluate_kernel(kernel, {p.name: memory(p, wanted[p.name]) for p in kernel.params}, numbers)
    emulate_kernel(code, {name: array.reshape(-1) for name, array in found.items()}, numbers)
    for param in kernel.params:
        one, other = (memory(param, arrays[param.name]).whole() for arrays in (wanted, found))
        if not param.type.dtype.is_float:
            np.testing.assert_array_equal(other, one)
            continue
        # Sums are taken in another order, and results rounded to their type.
        one, other = one.astype(np.float64), other.astype(np.float64)
        scale = max(1.0, float(np.abs(one).max(initial=0.0)))
        eps = {16: 2.0**-10, 8: 2.0**-3}.get(param.type.dtype.bits, 1e-5)
        if param.type.dtype is from_text("bf16"):
            eps = 2.0**-7
        np.testing.assert_allclose(other, one, rtol=0, atol=scale * eps)
    return code
