"""The tests' kernel ``z = x + y`` as Triton compiles it."""

from __future__ import annotations

import functools
import importlib.util
import tempfile
from pathlib import Path

import pytest

from dlc.runtime.cuda.module import KernelBinary
from tests.runtime.cuda.cubins import ADD_TYPES

BLOCK = 256

SOURCE = f"""
import triton
import triton.language as tl


@triton.jit
def add(x, y, z, n):
    i = tl.program_id(0) * {BLOCK} + tl.arange(0, {BLOCK})
    inside = i < n
    tl.store(z + i, tl.load(x + i, mask=inside) + tl.load(y + i, mask=inside), mask=inside)
"""


@functools.cache
def compiled_add(arch: int, num_warps: int = 4, num_ctas: int = 1) -> KernelBinary:
    """The kernel for ``sm_<arch>``, compiled without a GPU; the test is skipped without Triton."""
    triton = pytest.importorskip("triton", reason="needs Triton to compile a kernel")
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "dlc_test_add.py"
        path.write_text(SOURCE)
        spec = importlib.util.spec_from_file_location("dlc_test_add", path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        compiled = triton.compile(
            ASTSource(module.add, dict(zip("xyzn", ADD_TYPES)), {}, {}),
            target=GPUTarget("cuda", arch, 32),
            options={"num_warps": num_warps, "num_ctas": num_ctas, "enable_fp_fusion": True},
        )
    metadata = compiled.metadata
    return KernelBinary(
        entry="add",
        code=compiled.asm["cubin"],
        shared=metadata.shared,
        num_warps=metadata.num_warps,
        num_ctas=metadata.num_ctas,
        parameters=ADD_TYPES,
        scratch=metadata.global_scratch_size,
        scratch_alignment=getattr(metadata, "global_scratch_align", 1),
        arch=f"sm_{arch}",
    )
