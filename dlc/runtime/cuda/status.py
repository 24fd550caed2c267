"""What a return code of the CUDA driver means for the caller: which typed error, with which remedy."""

from __future__ import annotations

from enum import IntEnum

from dlc.errors import Error, InternalError, PackageError, ResourceError, UnsupportedError

#: What to do where no GPU can be used.
NO_GPU_HINT = (
    "compile on this machine for a named GPU and run the package where one is, or choose the CPU as target; "
    "`nvidia-smi` shows what the driver sees"
)
#: What to do in a forked process.
FORK_HINT = "start processes with multiprocessing's method 'spawn', or use the GPU first in the child"


class Status(IntEnum):
    """The codes (CUresult) that something is decided by."""

    SUCCESS = 0
    OUT_OF_MEMORY = 2
    NOT_INITIALIZED = 3
    INVALID_IMAGE = 200
    NO_BINARY_FOR_GPU = 209
    NOT_FOUND = 500
    NOT_READY = 600
    ILLEGAL_ADDRESS = 700
    GRAPH_EXEC_UPDATE_FAILURE = 910


#: No driver, no device, or one that does not serve this process: stub library, newer driver needed, device
#: unavailable, no device, invalid device, not licensed, uncorrectable hardware errors, system not ready,
#: mismatched installation, MPS server.
_UNAVAILABLE = frozenset({34, 36, 46, 100, 101, 102, 214, 220, *range(802, 811)})

#: Invalid image, invalid PTX, invalid source.
_DAMAGED = frozenset({Status.INVALID_IMAGE, 218, 300})

#: No binary for the GPU, no compiler for PTX, unsupported version of PTX, compilation disabled.
_OTHER_DEVICE = frozenset({Status.NO_BINARY_FOR_GPU, 221, 222, 223})

#: A kernel did what it must not: address, time limit, assertion, stack, instruction, alignment, address
#: space, program counter, unspecified. The context is lost: every later call returns the same code.
_FAULTS = frozenset({Status.ILLEGAL_ADDRESS, 702, 710, *range(714, 720)})


def error_for(status: int, text: str, what: str) -> Error:
    """The error for a failed call. `text` is the driver's name and description of `status`; `what` says what
    dlc was doing ("launching kernel 'matmul_3'").

    UnsupportedError without a usable GPU, ResourceError out of memory, PackageError for code that the driver
    does not take, InternalError for faults of kernels and for everything else.
    """
    message = f"{what}: {text}"
    if status in _UNAVAILABLE:
        return UnsupportedError(f"no usable GPU: {message}", code="unsupported/target", hint=NO_GPU_HINT)
    if status == Status.NOT_INITIALIZED:
        return UnsupportedError(
            f"the GPU cannot be used in this process, probably a fork of one that used it: {message}",
            code="unsupported/target",
            hint=FORK_HINT,
        )
    if status == Status.OUT_OF_MEMORY:
        return ResourceError(
            f"not enough memory: {message}", hint="use smaller inputs, or free memory that others hold"
        )
    if status in _DAMAGED:
        return PackageError(
            f"GPU code is damaged, or newer than the driver: {message}",
            hint="compile the model again, or update the NVIDIA driver",
        )
    if status in _OTHER_DEVICE:
        return PackageError(
            f"GPU code is made for another device: {message}", hint="compile the model for this GPU"
        )
    if status in _FAULTS:
        return InternalError(
            f"a kernel failed on the GPU: {message}; this process cannot use the GPU any more",
            hint="this is a bug in dlc: report it with the model; with CUDA_LAUNCH_BLOCKING=1 in the "
            "environment the message names the kernel",
        )
    return InternalError(f"the CUDA driver refused a call: {message}")
