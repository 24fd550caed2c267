"""Object code: what comes out of LLVM and what is refused before it gets there."""

from __future__ import annotations

import pytest

from dlc.backends.cpu.module import Module
from dlc.backends.cpu.objects import (
    compile_assembly,
    compile_module,
    compile_object,
    instruction_statistics,
)
from dlc.backends.cpu.types import f32, i64, ptr, vector
from dlc.errors import InternalError
from dlc.target import CpuTarget, resolve


def gemm_tile(target: CpuTarget, rows: int, columns: int) -> Module:
    """C[rows][16 * columns] += A[k][rows] * B[k][16 * columns]: the inner loop of a matrix product."""
    module = Module(target)
    b = module.function("tile", [("a", ptr), ("b", ptr), ("c", ptr), ("k", i64)])
    pa, pb, pc, k = b.params
    v = vector(16, f32)
    cells = [(r, j) for r in range(rows) for j in range(columns)]
    at = {(r, j): b.offset(pc, (r * columns + j) * 16, f32) for r, j in cells}
    with b.loop(0, k, carry=[b.load(at[cell], v) for cell in cells]) as loop:
        right = [
            b.load(b.offset(pb, b.add(b.mul(loop.iv, 16 * columns), 16 * j), f32), v) for j in range(columns)
        ]
        left = [b.load_splat(b.offset(pa, b.add(b.mul(loop.iv, rows), r), f32), f32) for r in range(rows)]
        loop.next = [b.fma(left[r], right[j], acc) for (r, j), acc in zip(cells, loop.carried)]
    for cell, total in zip(cells, loop.results):
        b.store(total, at[cell])
    return module


@pytest.mark.parametrize(
    "level,rows,columns,register",
    [("x86-64-v4", 12, 2, "zmm"), ("x86-64-v4", 8, 3, "zmm"), ("x86-64-v3", 6, 1, "ymm")],
)
def test_a_matrix_tile_stays_in_registers(level: str, rows: int, columns: int, register: str) -> None:
    module = gemm_tile(resolve(level), rows, columns)
    stats = instruction_statistics(compile_assembly(module.text(), module.target), "tile")
    fused = sum(count for name, count in stats.by_name.items() if name.startswith("vfmadd"))
    assert fused == rows * columns * (1 if register == "zmm" else 2), "one copy of the loop body"
    assert stats.spills == 0 and stats.calls == 0
    assert getattr(stats, register) > fused // 2


def test_a_tile_that_is_too_large_is_seen_to_spill() -> None:
    module = gemm_tile(resolve("x86-64-v3"), 12, 2)
    stats = instruction_statistics(compile_assembly(module.text(), module.target))
    assert stats.spills > 20 and stats.zmm == 0


def test_objects_are_deterministic_and_relocatable() -> None:
    target = resolve("x86-64-v3")
    first, second = (compile_module(gemm_tile(target, 6, 1)) for _ in range(2))
    assert first == second
    assert first[:4] == b"\x7fELF" and first[16] == 1, "a relocatable ELF file"


def test_wrong_text_is_an_internal_error() -> None:
    with pytest.raises(InternalError, match="LLVM rejects"):
        compile_object("define void @f() { %a = add i32 1, 2.0 ret void }", resolve("x86-64-v3"))
    with pytest.raises(InternalError, match="LLVM rejects"):
        compile_object("define i32 @f() {\nentry:\n  br label %x\nx:\n  %a = add i32 %b, 1\n"
                       "  %b = add i32 %a, 1\n  ret i32 %b\n}", resolve("x86-64-v3"))


def test_unknown_function_has_no_statistics() -> None:
    with pytest.raises(InternalError, match="no function"):
        instruction_statistics("f:\n\tretq\n.Lfunc_end0:\n", "g")
