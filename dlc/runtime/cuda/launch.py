"""Prepared launches: everything that the driver reads of a launch, laid out once and kept."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from ctypes import Array, addressof, c_uint64, c_void_p

from dlc.errors import InputError, LimitError
from dlc.runtime.cuda.interface import CLUSTER_SPREAD, LaunchAttribute, LaunchAttributeId, LaunchConfig
from dlc.runtime.cuda.module import Kernel
from dlc.runtime.cuda.stream import Stream

#: Kernels are compiled for pointers aligned to this many bytes.
POINTER_ALIGNMENT = 16
#: Most blocks along x, and along y and z (CUDA programming guide, technical specifications).
_MOST_BLOCKS = ((1 << 31) - 1, (1 << 16) - 1, (1 << 16) - 1)
_BLOCK_ALIGNMENT = 8


class Launch:
    """A launch of `kernel` on a grid of programs, with `values` for its parameters: addresses of the
    pointers, numbers of the scalars. `scratch`: address of ``kernel.scratch_bytes(grid)`` bytes, where that
    is not 0.

    Call it with a stream to launch. An empty grid launches nothing. The kernel must stay loaded. One thread
    at a time may use it.

    Raises LimitError if a side of the grid, or a value for its parameter, is too large, InputError if a
    pointer is not aligned to 16 bytes.
    """

    def __init__(
        self, kernel: Kernel, grid: tuple[int, int, int], values: Sequence[int | float], *, scratch: int = 0
    ) -> None:
        expected = len(kernel.binary.parameters)
        if len(values) != expected:
            raise ValueError(f"kernel {kernel.name!r} takes {expected} values, not {len(values)}")
        if min(grid) < 0:
            raise ValueError(f"a grid has no negative side: {grid}")
        self.kernel = kernel
        self.grid = grid
        _check_grid(kernel, grid)
        _check_scratch(kernel, grid, scratch)
        last = kernel.parameters[-1]
        self._block = (c_uint64 * (-(-(last.offset + last.size) // _BLOCK_ALIGNMENT)))()
        self._bytes = memoryview(self._block).cast("B")
        start = addressof(self._block)
        self._pointers = (c_void_p * len(kernel.parameters))(
            *(start + parameter.offset for parameter in kernel.parameters)
        )
        self._attributes = _cluster_attributes(kernel.binary.num_ctas)
        self._config = LaunchConfig(
            grid_x=grid[0] * kernel.binary.num_ctas,
            grid_y=grid[1],
            grid_z=grid[2],
            block_x=kernel.threads,
            block_y=1,
            block_z=1,
            shared=kernel.binary.shared,
            attributes=self._attributes,
            attribute_count=len(self._attributes),
        )
        self._driver = kernel.device.driver
        self._arguments = (
            c_void_p(addressof(self._config)),
            c_void_p(kernel.handle),
            c_void_p(addressof(self._pointers)),
            None,
        )
        self._is_empty = 0 in grid
        for index, value in enumerate((*values, scratch, 0)):
            self.patch(index, value)

    def __call__(self, stream: Stream) -> None:
        """Put the launch into `stream`, within ``with device:``; it returns before the kernel runs.

        Errors of the launch are raised here; faults of the kernel where somebody waits for the stream.
        """
        if self._is_empty:
            return
        self._config.stream = stream.handle
        status = self._driver.launch_kernel(*self._arguments)
        if status:
            self._driver.check(status, f"launching kernel {self.kernel.name!r} on grid {self.grid}")

    def patch(self, index: int, value: int | float) -> None:
        """Pass `value` for the parameter number `index` from the next call on; launches under way and graphs
        keep what they had. Errors as from the constructor."""
        parameter = self.kernel.parameters[index]
        if parameter.is_pointer and int(value) % POINTER_ALIGNMENT:
            raise InputError(
                f"kernel {self.kernel.name!r} takes memory aligned to {POINTER_ALIGNMENT} bytes, and "
                f"parameter {index} lies at {int(value):#x}",
                code="input/array",
                hint="pass a copy of the array",
            )
        parameter.pack(self._bytes, value)

    def value(self, index: int) -> int | float:
        """What is passed for the parameter number `index`."""
        parameter = self.kernel.parameters[index]
        (value,) = struct.unpack_from(parameter.packing.format, self._bytes, parameter.offset)
        number: int | float = value
        return number


def _check_grid(kernel: Kernel, grid: tuple[int, int, int]) -> None:
    blocks = (grid[0] * kernel.binary.num_ctas, grid[1], grid[2])
    for axis, count, most in zip("xyz", blocks, _MOST_BLOCKS):
        if count > most:
            raise LimitError(
                f"kernel {kernel.name!r} would run {count:,} blocks along {axis}, and a GPU takes {most:,}",
                hint="use smaller inputs",
            )


def _check_scratch(kernel: Kernel, grid: tuple[int, int, int], scratch: int) -> None:
    needed = kernel.scratch_bytes(grid)
    if needed and not scratch:
        raise ValueError(f"kernel {kernel.name!r} needs {needed} bytes of scratch memory")
    if scratch % kernel.binary.scratch_alignment:
        raise ValueError(f"scratch memory of kernel {kernel.name!r} is not aligned")


def _cluster_attributes(num_ctas: int) -> Array[LaunchAttribute]:
    """Attributes that make `num_ctas` blocks along x a cluster, as Triton's launcher sets them; without
    clusters none."""
    if num_ctas == 1:
        return (LaunchAttribute * 0)()
    attributes = (LaunchAttribute * 2)()
    values = {
        LaunchAttributeId.CLUSTER_DIMENSION: struct.pack("<III", num_ctas, 1, 1),
        LaunchAttributeId.CLUSTER_SCHEDULING_POLICY: struct.pack("<i", CLUSTER_SPREAD),
    }
    for attribute, (identity, value) in zip(attributes, values.items()):
        attribute.id = identity
        attribute.value[: len(value)] = value
    return attributes
