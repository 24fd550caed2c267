"""The structures and status codes of ``native/dlc.h``, for ctypes. A test compares the two."""

from __future__ import annotations

from ctypes import CFUNCTYPE, Structure, c_int64, c_void_p
from enum import IntEnum

#: Version of the interface between compiled models and the runtime; a package records the one it was made
#: for.
ABI_VERSION = 1

#: `Context.fault` while no kernel met a bad index.
NO_FAULT = -1

_FAULT_CHUNK_BITS = 40
_FAULT_ACCESS = 1 << 39


class Status(IntEnum):
    """What ``dlc_call`` returns. Values from GUARD on: guard `value - GUARD` failed during the run."""

    OK = 0
    CANCELLED = 1
    NO_MEMORY = 2
    FAULT = 3
    HOST_ERROR = 4
    LIMIT = 5
    ENDLESS = 6
    OVERFLOW = 7
    GUARD = 1024


class Context(Structure):
    """``dlc_context``: the state of one call at a time. Starts zeroed; set `pool` and `threads`."""

    _fields_ = (
        ("pool", c_void_p),
        ("threads", c_int64),
        ("scratch", c_void_p),
        ("scratch_bytes", c_int64),
        ("cancel", c_void_p),
        ("status", c_int64),
        ("fault", c_int64),
        ("host", c_void_p),
        ("host_data", c_void_p),
        ("profile", c_void_p),
        ("profile_capacity", c_int64),
        ("profile_count", c_int64),
        ("launches", c_int64),
        ("chunks", c_int64),
        ("storages", c_void_p),
        ("storage_count", c_int64),
        ("storage_limit", c_int64),
        ("step", c_int64),
        ("reserved", c_int64 * 2),
    )


class Storage(Structure):
    """``dlc_storage``: memory whose size is only known during a run."""

    _fields_ = (("address", c_void_p), ("bytes", c_int64))


class CallBlock(Structure):
    """``dlc_call_block``: what to run, and on what."""

    _fields_ = (
        ("driver", c_void_p),
        ("context", c_void_p),
        ("symbols", c_void_p),
        ("inputs", c_void_p),
        ("outputs", c_void_p),
        ("constants", c_void_p),
        ("arena", c_void_p),
    )


class LaunchRecord(Structure):
    """``dlc_launch_record``: one kernel of a profiled call, and the number of the step that launched it.

    Times are in nanoseconds of CLOCK_MONOTONIC.
    """

    _fields_ = (
        ("kernel", c_void_p),
        ("chunks", c_int64),
        ("start", c_int64),
        ("end", c_int64),
        ("step", c_int64),
    )


#: dlc_host_fn(host_data, step, buffers, symbols) -> 0 for success
HOST_FUNCTION = CFUNCTYPE(c_int64, c_void_p, c_int64, c_void_p, c_void_p)

#: dlc_call(call block) -> status
CALL_FUNCTION = CFUNCTYPE(c_int64, c_void_p)

#: dlc_shapes(symbols, out) -> 0, or 1 + the index of the first guard that fails
SHAPES_FUNCTION = CFUNCTYPE(c_int64, c_void_p, c_void_p)


def decode_fault(fault: int) -> tuple[int, int]:
    """(kernel, chunk) of a recorded fault."""
    return fault >> _FAULT_CHUNK_BITS, fault & ((1 << _FAULT_CHUNK_BITS) - 1)


def decode_access(chunk: int) -> int | None:
    """The number of the access outside of its memory that a fault's chunk stands for, if it is one."""
    return chunk ^ _FAULT_ACCESS if chunk & _FAULT_ACCESS else None
