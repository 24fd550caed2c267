"""Registers and stack as read from binaries, beside what the assembler says."""

from __future__ import annotations

import pytest

pytest.importorskip("triton")

from dlc.backends.triton.binary import compile_function
from dlc.backends.triton.footprint import footprint
from dlc.backends.triton.function import TritonFunction
from dlc.backends.triton.resources import measure
from dlc.errors import InternalError
from dlc.ir.dtypes import DType
from dlc.target import resolve_gpu

SOURCE = """# many values at once
import triton
import triton.language as tl


@triton.jit
def many(x, y):
    i = tl.arange(0, 128)[:, None] * 64 + tl.arange(0, 64)[None, :]
    v = tl.load(x + i)
    w = tl.load(x + 64 * i)
    total = tl.sum(v, axis=0)[None, :] + tl.sum(w, axis=1)[:, None]
    tl.store(y + i, v + w * total)
"""


@pytest.mark.parametrize("warps", [1, 4])
@pytest.mark.parametrize("target", ["cuda:sm_80", "cuda:sm_90"])
def test_figures_are_those_of_the_assembler(target: str, warps: int) -> None:
    pointers = (("x", DType.F32), ("y", DType.F32))
    binary = compile_function(
        TritonFunction("many", SOURCE, pointers, (), (1,), num_warps=warps), resolve_gpu(target)
    )
    found, wanted = footprint(binary.code), measure(binary)
    assert found.registers == wanted.registers
    assert (found.stack_bytes > 0) == (wanted.spill_bytes > 0)
    assert (found.stack_bytes > 0) == (warps == 1)  # or else the kernel tests nothing


@pytest.mark.parametrize("content", [b"", b"\x7fELF" * 40, bytes(200)])
def test_what_is_no_binary_is_refused_or_empty(content: bytes) -> None:
    try:
        found = footprint(content)
    except InternalError:
        return
    assert (found.registers, found.stack_bytes) == (0, 0)
