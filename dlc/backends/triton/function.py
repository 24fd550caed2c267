"""A generated GPU function: its Triton source, what it is called with, and how many programs run it."""

from __future__ import annotations

import dataclasses
import hashlib

from dlc.ir.dims import Dim
from dlc.ir.dtypes import DType

#: How Triton names the types of memory. A bool is a byte, as are elements that Triton holds as codes.
POINTER_TYPES = {
    DType.F64: "fp64",
    DType.F32: "fp32",
    DType.F16: "fp16",
    DType.BF16: "bf16",
    DType.F8E4M3FN: "fp8e4nv",
    DType.F8E5M2: "fp8e5",
    DType.I64: "i64",
    DType.I32: "i32",
    DType.I16: "i16",
    DType.I8: "i8",
    DType.U64: "u64",
    DType.U32: "u32",
    DType.U16: "u16",
    DType.U8: "u8",
    DType.BOOL: "u8",
    DType.F8E4M3FNUZ: "u8",
    DType.F8E5M2FNUZ: "u8",
    DType.F8E8M0: "u8",
    DType.F4E2M1: "u8",
    DType.I4: "u8",
    DType.I2: "u8",
    DType.U4: "u8",
    DType.U2: "u8",
    DType.C64: "i64",
}


@dataclasses.dataclass(frozen=True)
class TritonFunction:
    """One `@triton.jit` function in a module of its own.

    `text` is the whole module, whose first line tells where it comes from; sizes of blocks stand in it as
    constants, so that it has no compile-time parameters. The function takes `pointers` (name and element type
    of the memory, which is aligned to 16 bytes), then `scalars`: the numbers of symbols, of type `index` (i32
    or i64). `grid` is the number of programs along up to three axes, over the kernel's symbols; any of 0
    means that nothing is to be done.
    """

    name: str
    text: str
    pointers: tuple[tuple[str, DType], ...]
    scalars: tuple[str, ...]
    grid: tuple[Dim, ...]
    num_warps: int = 4
    num_stages: int = 3
    index: str = "i32"

    @property
    def signature(self) -> dict[str, str]:
        """Triton's type of each parameter, in order: ``{"x": "*fp32", "n": "i32"}``."""
        types = {name: "*" + POINTER_TYPES[dtype] for name, dtype in self.pointers}
        return {**types, **dict.fromkeys(self.scalars, self.index)}

    @property
    def digest(self) -> str:
        """The SHA-256 of everything that decides the binary, for a target; the first line is a comment."""
        code = self.text.partition("\n")[2]
        parts = (code, repr(self.signature), str(self.num_warps), str(self.num_stages))
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()
