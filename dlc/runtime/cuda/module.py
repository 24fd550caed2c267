"""Compiled GPU kernels: what a binary says of itself, checked, and loaded into a device."""

from __future__ import annotations

import re
from ctypes import byref, c_int, c_void_p
from dataclasses import dataclass

from dlc.errors import InternalError, PackageError, UnsupportedError, printable
from dlc.runtime.cuda.cubin import ParameterSlot, kernel_parameters
from dlc.runtime.cuda.device import Device
from dlc.runtime.cuda.interface import CACHE_PREFER_SHARED, FunctionAttribute
from dlc.runtime.cuda.parameters import Parameter, parameter_block
from dlc.runtime.cuda.resource import Resource

WARP = 32
#: Bounds of the architecture: 1024 threads a block, 8 blocks a cluster (the portable size).
_MOST_WARPS = 32
_MOST_CTAS = 8
#: Dynamic and static shared memory beyond this many bytes a block must be opted in to.
_SHARED_WITHOUT_OPT_IN = 48 << 10
#: Scratch memory of one program; the largest that Triton makes are some hundred bytes a tensor descriptor.
_MOST_SCRATCH = 1 << 30
_SCRATCH_ALIGNMENTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


@dataclass(frozen=True)
class KernelBinary:
    """One kernel compiled for one architecture, with what launching it takes.

    `entry`: its name in `code`, a cubin. `shared`: bytes of dynamic shared memory a block. `num_warps`: warps
    of 32 threads a block. `num_ctas`: blocks that form a cluster and together run one program of the grid.
    `parameters`: Triton's types of what it is called with ("*fp32", "i32"), without the two scratch pointers
    that end the list in the cubin. `scratch`: bytes of scratch memory that each block needs, aligned to
    `scratch_alignment`. `arch`: what it runs on, "sm_90".
    """

    entry: str
    code: bytes
    shared: int
    num_warps: int
    num_ctas: int
    parameters: tuple[str, ...]
    scratch: int
    scratch_alignment: int
    arch: str

    def check(self) -> tuple[Parameter, ...]:
        """The parameters as the kernel takes them, the scratch pointers included.

        PackageError if a field is out of range, if `code` is damaged, or if its own table of parameters is
        another one.
        """
        in_range = {
            "entry": self.entry.isascii() and self.entry.isidentifier(),
            "shared": 0 <= self.shared < 1 << 31,
            "num_warps": 1 <= self.num_warps <= _MOST_WARPS,
            "num_ctas": 1 <= self.num_ctas <= _MOST_CTAS,
            "scratch": 0 <= self.scratch <= _MOST_SCRATCH,
            "scratch_alignment": self.scratch_alignment in _SCRATCH_ALIGNMENTS,
        }
        for field, holds in in_range.items():
            if not holds:
                raise self._unfit(f"its {field} is {printable(repr(getattr(self, field)))}")
        parameters = parameter_block(self.parameters)
        expected = tuple(ParameterSlot(each.offset, each.size) for each in parameters)
        if (found := kernel_parameters(self.code, self.entry)) != expected:
            raise self._unfit(
                f"its code takes {_listed(found)} where {_listed(expected)} would be passed (offset:size)"
            )
        return parameters

    def runs_on(self, capability: tuple[int, int]) -> bool:
        """Whether a GPU of this compute capability runs it: any of its generation that is not older, but from
        9.0 on, where compilers use what one chip alone has ("sm_90a"), that very one."""
        match = re.fullmatch(r"(?:sm_)?([0-9]{2,4})([af]?)", self.arch)
        if match is None:
            raise self._unfit(f"its arch is {printable(repr(self.arch))}")
        major, minor = divmod(int(match[1]), 10)
        if match[2] or major >= 9:
            return (major, minor) == capability
        return major == capability[0] and minor <= capability[1]

    def _unfit(self, why: str) -> PackageError:
        return PackageError(f"kernel {printable(self.entry)!r}: {why}", hint="compile the model again")


class Kernel(Resource):
    """`binary` loaded into `device`, ready to launch.

    `parameters`: what a launch passes, the scratch pointers last. `registers` a thread; `local_memory`: bytes
    a thread, where spilled registers lie; `static_shared` bytes of shared memory beyond the dynamic ones.

    Raises PackageError if the binary is damaged, describes itself wrongly or is for another device,
    UnsupportedError if it needs more shared memory than the device has.
    """

    def __init__(self, device: Device, binary: KernelBinary) -> None:
        super().__init__(device)
        self.binary = binary
        self.name = printable(binary.entry)
        self.parameters = binary.check()
        if not binary.runs_on(device.capability):
            raise PackageError(
                f"kernel {self.name!r} is compiled for {printable(binary.arch)}, and the GPU ({device.name}) "
                f"is {device.arch}",
                hint="compile the model for this GPU",
            )
        driver = device.driver
        module, function = c_void_p(), c_void_p()
        what = f"loading kernel {self.name!r} with a driver for CUDA {driver.cuda}"
        with device:
            driver.call("cuModuleLoadData", byref(module), binary.code, what=what)
            self._released_by("cuModuleUnload", module.value)
            driver.call("cuModuleGetFunction", byref(function), module, binary.entry.encode(), what=what)
            self.handle = function.value or 0
            self.registers = self._attribute(FunctionAttribute.REGISTERS)
            self.local_memory = self._attribute(FunctionAttribute.LOCAL_SIZE)
            self.static_shared = self._attribute(FunctionAttribute.SHARED_SIZE)
            self._check_threads()
            self._reserve_shared_memory()

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return WARP * self.binary.num_warps

    def scratch_bytes(self, grid: tuple[int, int, int]) -> int:
        """Bytes of scratch memory that a launch of so many programs needs."""
        x, y, z = grid
        return x * y * z * self.binary.num_ctas * self.binary.scratch

    def _check_threads(self) -> None:
        most = self._attribute(FunctionAttribute.MAX_THREADS_PER_BLOCK)
        if self.threads > most:
            raise InternalError(
                f"kernel {self.name!r} is launched with {self.threads} threads a block, and its "
                f"{self.registers} registers a thread allow {most}"
            )

    def _reserve_shared_memory(self) -> None:
        dynamic, needed = self.binary.shared, self.binary.shared + self.static_shared
        if needed > self.device.shared_memory:
            raise UnsupportedError(
                f"kernel {self.name!r} needs {needed:,} bytes of shared memory a block, and the GPU "
                f"({self.device.name}) has {self.device.shared_memory:,}",
                code="unsupported/target",
                hint="compile the model for this GPU",
            )
        if needed > _SHARED_WITHOUT_OPT_IN:
            driver, what = self.device.driver, f"reserving shared memory for kernel {self.name!r}"
            driver.call("cuFuncSetCacheConfig", self.handle, CACHE_PREFER_SHARED, what=what)
            attribute = FunctionAttribute.MAX_DYNAMIC_SHARED_SIZE
            driver.call("cuFuncSetAttribute", self.handle, attribute, dynamic, what=what)

    def _attribute(self, attribute: FunctionAttribute) -> int:
        value = c_int()
        what = f"asking for {attribute.name.lower()} of kernel {self.name!r}"
        self.device.driver.call("cuFuncGetAttribute", byref(value), attribute, self.handle, what=what)
        return value.value


def _listed(slots: tuple[ParameterSlot, ...]) -> str:
    return "(" + ", ".join(f"{slot.offset}:{slot.size}" for slot in slots) + ")"
