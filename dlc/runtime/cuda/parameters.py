"""How the arguments of a compiled Triton function lie in memory.

The parameters of the kernel are those of the function in order, without what was compiled in, each aligned to
its size; then two pointers to scratch memory, for the function and for Triton's profiler, which are always
there and 0 where nothing is needed. The same in Triton 3.6 and 3.9, read from their launchers and cubins.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from dlc.errors import LimitError, PackageError, printable

#: Triton's type -> format of the struct module. Every pointer is "*".
_FORMATS = {
    "*": "Q",
    "i1": "B",
    "i8": "b",
    "i16": "h",
    "i32": "i",
    "i64": "q",
    "u1": "B",
    "u8": "B",
    "u16": "H",
    "u32": "I",
    "u64": "Q",
    "fp32": "f",
    "fp64": "d",
}
_SCRATCH = ("*scratch", "*profile")


@dataclass(frozen=True)
class Parameter:
    """A parameter of `type` ("*fp32", "i64"), `offset` bytes from the start of the block, `size` bytes."""

    type: str
    offset: int
    packing: struct.Struct
    is_pointer: bool

    @property
    def size(self) -> int:
        return self.packing.size

    def pack(self, block: memoryview, value: int | float) -> None:
        """Write `value` into the parameter block; LimitError if the type cannot hold it."""
        try:
            self.packing.pack_into(block, self.offset, value)
        except (struct.error, OverflowError) as error:
            raise LimitError(
                f"a kernel's parameter of type {self.type} cannot hold {value:,}",
                hint="use smaller inputs, or compile for these sizes",
            ) from error


def parameter_block(types: tuple[str, ...]) -> tuple[Parameter, ...]:
    """The kernel's parameters for a function's `types`, the two scratch pointers included. PackageError if a
    type is not one of pointers, integers, fp32 and fp64."""
    parameters = []
    end = 0
    for name in (*types, *_SCRATCH):
        is_pointer = name.startswith("*")
        form = _FORMATS.get("*" if is_pointer else name)
        if form is None:
            raise PackageError(
                f"a kernel has a parameter of type {printable(name)!r}, which cannot be passed",
                hint="compile the model again with this version of dlc",
            )
        packing = struct.Struct("<" + form)
        offset = -(-end // packing.size) * packing.size
        parameters.append(Parameter(name, offset, packing, is_pointer))
        end = offset + packing.size
    return tuple(parameters)
