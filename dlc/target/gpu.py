"""GPU targets: the GPU at hand, or a named architecture.

A target fixes what the generation and the choice of GPU kernels may depend on. The named architectures are
pure data, each with the figures of one representative product, so that code for them is the same wherever
it is generated; figures are those of the vendors' data sheets and of the tables of compute capabilities in
the CUDA C++ Programming Guide.
"""

from __future__ import annotations

import ctypes
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dlc.errors import InputError, UnsupportedError

_KIB = 1024
_GB = 10**9
_LIBRARY = "libcuda.so.1"
#: Tensor cores with asynchronous copies, without which generated kernels spill registers.
_OLDEST_CAPABILITY = 80
#: From this capability on, binaries use features of exactly their own architecture ("sm_90a").
_OWN_FEATURES_CAPABILITY = 90

_AMPERE = frozenset({"tf32", "f16", "bf16", "i8"})
_ADA = _AMPERE | {"f8e4m3fn", "f8e5m2"}


@dataclass(frozen=True)
class GpuTarget:
    """A GPU as code generation sees it.

    `name` is what :func:`resolve_gpu` understands ("cuda:sm_90"). `backend` ("cuda" or "hip") and `arch`
    (the compute capability times ten, or "gfx942") are Triton's names. `warp_size` counts threads;
    `shared_bytes` is the most shared memory that a block may have (CUDA: when it opts in); `registers` of 32
    bits and `multiprocessors` are the size of the machine, `bandwidth` that of its memory in bytes a second.
    `dots` are the operand types of matrix instructions, as IR text names dtypes, and "tf32" for float32
    rounded to 10 bits of mantissa. `has_tma`: copies of tiles by descriptor; `has_wgmma`: matrix
    instructions of four warps that read shared memory. `f32_products` is how code for the target multiplies
    matrices of f32, which the user chooses: "ieee", or "tf32" where `dots` has that.
    """

    name: str
    backend: str
    arch: int | str
    warp_size: int
    shared_bytes: int
    registers: int
    multiprocessors: int
    bandwidth: int
    dots: frozenset[str]
    has_tma: bool
    has_wgmma: bool
    f32_products: str = "ieee"

    def multiplies(self, dtype: str) -> bool:
        """Whether products of matrices of `dtype` are done by matrix instructions."""
        if dtype == "f32":
            return self.f32_products in self.dots
        return dtype in self.dots

    def runs_on(self, machine: GpuTarget) -> bool:
        """Whether code for this target can run on `machine`: the same architecture, or for those before
        sm_90 a later one of the same generation."""
        if self.backend != machine.backend or self.warp_size != machine.warp_size:
            return False
        if isinstance(self.arch, int) and isinstance(machine.arch, int):
            same_generation = self.arch // 10 == machine.arch // 10
            if self.arch < _OWN_FEATURES_CAPABILITY and same_generation:
                return self.arch <= machine.arch
        return self.arch == machine.arch


def resolve_gpu(name: str) -> GpuTarget:
    """The target called `name`: "cuda" for the GPU at hand, or an architecture like "cuda:sm_90".

    Raises InputError for an unknown name, UnsupportedError where "cuda" finds no GPU that dlc can serve.
    """
    if name == "cuda":
        return gpu_at_hand()
    if name in _ARCHITECTURES:
        return _ARCHITECTURES[name]
    known = ", ".join(["cuda", *_ARCHITECTURES])
    raise InputError(f"unknown GPU target {name!r}", hint=f"use one of {known}", code="input/option")


def gpu_at_hand(library: Any = None) -> GpuTarget:
    """The first GPU that the CUDA driver shows to this process (CUDA_VISIBLE_DEVICES says which it shows).

    `library` has libcuda's functions; by default it is libcuda itself. Raises UnsupportedError without a
    driver, without a GPU, or with one older than sm_80.
    """
    driver = _Driver(_load_driver() if library is None else library)
    capability = 10 * driver.attribute(_CAPABILITY_MAJOR) + driver.attribute(_CAPABILITY_MINOR)
    if capability < _OLDEST_CAPABILITY:
        raise _unsupported(f"the GPU at hand is of architecture sm_{capability}")
    named = _ARCHITECTURES.get(f"cuda:sm_{capability}")
    # Twice, as memory transfers on both edges of its clock.
    measured = 2 * driver.attribute(_MEMORY_CLOCK_KHZ) * 1000 * driver.attribute(_MEMORY_BUS_BITS) // 8
    return _cuda(
        capability,
        shared_bytes=driver.attribute(_SHARED_BYTES_OPTIN),
        registers=driver.attribute(_REGISTERS),
        multiprocessors=driver.attribute(_MULTIPROCESSORS),
        bandwidth=measured or (named.bandwidth if named else _ARCHITECTURES["cuda:sm_80"].bandwidth),
    )


# Members of CUdevice_attribute in cuda.h.
_MULTIPROCESSORS = 16
_MEMORY_CLOCK_KHZ = 36
_MEMORY_BUS_BITS = 37
_CAPABILITY_MAJOR = 75
_CAPABILITY_MINOR = 76
_REGISTERS = 82
_SHARED_BYTES_OPTIN = 97


class _Driver:
    """The first device of an initialised CUDA driver."""

    def __init__(self, library: Any) -> None:
        self._library = library
        self._device = ctypes.c_int()
        self._check(library.cuInit(0))
        self._check(library.cuDeviceGet(ctypes.byref(self._device), 0))

    def attribute(self, number: int) -> int:
        """The value of a device's attribute."""
        value = ctypes.c_int()
        self._check(self._library.cuDeviceGetAttribute(ctypes.byref(value), number, self._device))
        return value.value

    def _check(self, status: int) -> None:
        if status:
            raise _unsupported(f"the CUDA driver finds no GPU that it can use (CUresult {status})")


def _load_driver() -> Any:
    try:
        return ctypes.CDLL(_LIBRARY)
    except OSError as error:
        raise _unsupported(f"this machine has no CUDA driver ({_LIBRARY})") from error


def _unsupported(message: str) -> UnsupportedError:
    return UnsupportedError(
        message,
        hint="target 'cuda' needs an NVIDIA GPU of architecture sm_80 or later; name an architecture "
        "('cuda:sm_90') to compile without one",
        code="unsupported/target",
    )


def _cuda(
    capability: int, *, shared_bytes: int, registers: int, multiprocessors: int, bandwidth: int
) -> GpuTarget:
    return GpuTarget(
        name=f"cuda:sm_{capability}",
        backend="cuda",
        arch=capability,
        warp_size=32,
        shared_bytes=shared_bytes,
        registers=registers,
        multiprocessors=multiprocessors,
        bandwidth=bandwidth,
        dots=_ADA if capability >= 89 else _AMPERE,
        has_tma=capability >= 90,
        has_wgmma=capability == 90,
    )


def _named(capability: int, shared_kib: int, multiprocessors: int, bandwidth_gb: int) -> GpuTarget:
    return _cuda(
        capability,
        shared_bytes=shared_kib * _KIB,
        registers=1 << 16,
        multiprocessors=multiprocessors,
        bandwidth=bandwidth_gb * _GB,
    )


_MI300X = GpuTarget(
    name="hip:gfx942",
    backend="hip",
    arch="gfx942",
    warp_size=64,
    shared_bytes=64 * _KIB,
    registers=1 << 17,
    multiprocessors=304,
    bandwidth=5300 * _GB,
    # Its fp8 are the FNUZ formats, so that ONNX's have no matrix instructions.
    dots=frozenset({"tf32", "f16", "bf16", "i8"}),
    has_tma=False,
    has_wgmma=False,
)
_MI350X = dataclasses.replace(
    _MI300X,
    name="hip:gfx950",
    arch="gfx950",
    shared_bytes=160 * _KIB,
    multiprocessors=256,
    bandwidth=8000 * _GB,
    dots=frozenset({"f16", "bf16", "i8", "f8e4m3fn", "f8e5m2"}),
)

_ARCHITECTURES: Mapping[str, GpuTarget] = {
    target.name: target
    for target in (
        _named(80, shared_kib=163, multiprocessors=108, bandwidth_gb=2039),  # A100 80 GB
        _named(86, shared_kib=99, multiprocessors=84, bandwidth_gb=696),  # A40
        _named(89, shared_kib=99, multiprocessors=142, bandwidth_gb=864),  # L40S
        _named(90, shared_kib=227, multiprocessors=132, bandwidth_gb=4800),  # H200
        _named(100, shared_kib=227, multiprocessors=148, bandwidth_gb=8000),  # B200
        _named(120, shared_kib=99, multiprocessors=170, bandwidth_gb=1792),  # RTX 5090
        _MI300X,
        _MI350X,
    )
}
