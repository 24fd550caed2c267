"""What the templates of routines share: functions whose bodies are written line by line."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from dlc.backends.triton import tiles
from dlc.backends.triton.expressions import loaded, stored
from dlc.backends.triton.function_builder import FunctionBuilder
from dlc.backends.triton.parts import Workspace
from dlc.backends.triton.templates.template import Declined
from dlc.ir.dims import Dim
from dlc.ir.dtypes import DType
from dlc.ir.types import TensorType
from dlc.lowering.kernel import Access, Axis, Kernel, Param, Routine


def routine_of(part: Kernel, *names: str) -> Routine | Declined:
    """The routine that a part consists of, if it has one of these names."""
    match part.body:
        case (Routine() as routine,) if routine.name in names:
            return routine
    return Declined(f"it is no {names[0]}")


def workspace(part: Kernel, name: str, dtype: DType, *shape: Dim) -> Workspace:
    """Memory between the launches of a part; `name` tells it from others of the part."""
    written = next((param.name for param in part.params if param.access is not Access.READ), "")
    return Workspace(f"w_{written}_{name}", TensorType(dtype, shape))


class RoutineBuilder(FunctionBuilder):
    """A function that is written line by line; `spaces` are parameters, too."""

    def __init__(self, part: Kernel, spaces: Sequence[Workspace] = ()) -> None:
        more = [Param(space.name, space.type, Access.UPDATE) for space in spaces]
        super().__init__(dataclasses.replace(part, params=(*part.params, *more), axes=()))

    def points(self, name: str, total: Dim, block: int, shape: str = "") -> str:
        """Write `name`, the points of this program's block of `total` points; returns where they exist."""
        first = f"{tiles.program_id(self, 0)} * {block}"
        self.alias(name)
        self.line(f"{name} = ({first} + tl.arange(0, {block})){shape}")
        return self.assign("there", f"{name} < {self.dim(total)}")

    def take_apart(self, flat: str, extents: Sequence[Dim]) -> tuple[Dim, ...]:
        """Write the indices along some extents, the last of which is the fastest, from their flat one."""
        if not extents:
            return ()
        names = [self.name("i") for _ in extents]
        indices = [self.alias(name) for name in names]
        tiles.take_apart(self, flat, [Axis(name, extent) for name, extent in zip(names, extents)])
        for name, extent in zip(names, extents):
            if extent == 1:
                self.line(f"{name} = {flat} * 0")  # of the shape that masks have, too
        return tuple(indices)

    def at(self, name: str, *index: Dim | str) -> str:
        """The source of the address of an element; entries that are texts name variables."""
        param = self.param(name)
        dims = [self.alias(entry) if isinstance(entry, str) else entry for entry in index]
        return f"{name} + ({self.dim(tiles.offset_of(param, dims))})"

    def load(self, name: str, *index: Dim | str, mask: str | None = None, other: str = "0") -> str:
        """Write a load into a new variable, and return that."""
        where = "" if mask is None else f", mask={mask}, other={other}"
        dtype = self.param(name).type.dtype
        return self.assign("v", loaded(dtype, f"tl.load({self.at(name, *index)}{where})"))

    def store(self, value: str, name: str, *index: Dim | str, mask: str | None = None) -> None:
        """Write a store."""
        where = "" if mask is None else f", mask={mask}"
        dtype = self.param(name).type.dtype
        self.line(f"tl.store({self.at(name, *index)}, {stored(dtype, value)}{where})")
