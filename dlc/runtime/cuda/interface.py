"""The part of the CUDA driver's C interface (cuda.h) that dlc calls: constants, structures, prototypes.

Functions stand under the names that libcuda exports, which carry a version where the meaning of an older one
differs (cuda.h renames them with macros). All of them exist since CUDA 12.0 and return a CUresult.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from ctypes import POINTER, Structure, c_char, c_char_p, c_float, c_int, c_size_t, c_ubyte, c_uint, c_void_p
from enum import IntEnum
from typing import Any

#: As cuDriverGetVersion counts: 1000 * major + 10 * minor. CUDA 12.0 came with driver 525.
OLDEST_VERSION = 12_000

#: CUdeviceptr, and the flags of cuGraphInstantiateWithFlags.
_UINT64 = ctypes.c_ulonglong


class DeviceAttribute(IntEnum):
    """CUdevice_attribute."""

    MULTIPROCESSOR_COUNT = 16
    COMPUTE_CAPABILITY_MAJOR = 75
    COMPUTE_CAPABILITY_MINOR = 76
    MAX_SHARED_MEMORY_PER_BLOCK_OPTIN = 97


class FunctionAttribute(IntEnum):
    """CUfunction_attribute. Sizes in bytes; LOCAL is what a thread spills or indexes at run time."""

    MAX_THREADS_PER_BLOCK = 0
    SHARED_SIZE = 1
    LOCAL_SIZE = 3
    REGISTERS = 4
    MAX_DYNAMIC_SHARED_SIZE = 8


class LaunchAttributeId(IntEnum):
    """CUlaunchAttributeID."""

    CLUSTER_DIMENSION = 4
    CLUSTER_SCHEDULING_POLICY = 5


#: CUfunc_cache: more shared memory, less L1 cache.
CACHE_PREFER_SHARED = 1
#: CUclusterSchedulingPolicy: spread the blocks of a cluster over multiprocessors.
CLUSTER_SPREAD = 1
#: CUstream_flags: no implicit order with the legacy default stream.
STREAM_NON_BLOCKING = 1
#: CUstreamCaptureMode: calls that a capture could disturb stay permitted in all threads.
CAPTURE_RELAXED = 2
#: Flag of cuMemHostAlloc: pinned for every context.
HOST_PORTABLE = 1
#: CUmemAllocationType and CUmemLocationType of ordinary memory of a device.
ALLOCATION_PINNED = 1
LOCATION_DEVICE = 1
#: CUmemPool_attribute: bytes that a pool keeps when it is synchronized with.
POOL_RELEASE_THRESHOLD = 4


class LaunchAttribute(Structure):
    """CUlaunchAttribute: `value` is a union of 64 bytes, of which the id says what it holds."""

    _fields_ = (("id", c_int), ("padding", c_int), ("value", c_ubyte * 64))


class LaunchConfig(Structure):
    """CUlaunchConfig: blocks of the grid, threads of a block, bytes of dynamic shared memory, attributes."""

    _fields_ = (
        ("grid_x", c_uint),
        ("grid_y", c_uint),
        ("grid_z", c_uint),
        ("block_x", c_uint),
        ("block_y", c_uint),
        ("block_z", c_uint),
        ("shared", c_uint),
        ("stream", c_void_p),
        ("attributes", POINTER(LaunchAttribute)),
        ("attribute_count", c_uint),
    )


class PoolProperties(Structure):
    """CUmemPoolProps."""

    _fields_ = (
        ("allocation_type", c_int),
        ("handle_types", c_int),
        ("location_type", c_int),
        ("location", c_int),
        ("security", c_void_p),
        ("largest", c_size_t),
        ("usage", ctypes.c_ushort),
        ("reserved", c_ubyte * 54),
    )


class UpdateResult(Structure):
    """CUgraphExecUpdateResultInfo."""

    _fields_ = (("result", c_int), ("node", c_void_p), ("from_node", c_void_p))


_HANDLE = POINTER(c_void_p)
_ADDRESS = POINTER(_UINT64)

#: Exported name -> types of the parameters. Handles and host addresses are c_void_p.
PROTOTYPES: Mapping[str, tuple[Any, ...]] = {
    "cuInit": (c_uint,),
    "cuDriverGetVersion": (POINTER(c_int),),
    "cuGetErrorName": (c_int, POINTER(c_char_p)),
    "cuGetErrorString": (c_int, POINTER(c_char_p)),
    "cuDeviceGetCount": (POINTER(c_int),),
    "cuDeviceGet": (POINTER(c_int), c_int),
    "cuDeviceGetName": (POINTER(c_char), c_int, c_int),
    "cuDeviceGetAttribute": (POINTER(c_int), c_int, c_int),
    "cuDeviceTotalMem_v2": (POINTER(c_size_t), c_int),
    "cuDevicePrimaryCtxRetain": (_HANDLE, c_int),
    "cuCtxPushCurrent_v2": (c_void_p,),
    "cuCtxPopCurrent_v2": (_HANDLE,),
    "cuModuleLoadData": (_HANDLE, c_char_p),
    "cuModuleUnload": (c_void_p,),
    "cuModuleGetFunction": (_HANDLE, c_void_p, c_char_p),
    "cuFuncGetAttribute": (POINTER(c_int), c_int, c_void_p),
    "cuFuncSetAttribute": (c_void_p, c_int, c_int),
    "cuFuncSetCacheConfig": (c_void_p, c_int),
    # Called most often of all: passing untyped pointers takes ctypes 0.4 us, typed ones 0.8 us.
    "cuLaunchKernelEx": (c_void_p, c_void_p, c_void_p, c_void_p),
    "cuMemGetInfo_v2": (POINTER(c_size_t), POINTER(c_size_t)),
    "cuMemAlloc_v2": (_ADDRESS, c_size_t),
    "cuMemFree_v2": (_UINT64,),
    "cuMemPoolCreate": (_HANDLE, POINTER(PoolProperties)),
    "cuMemPoolSetAttribute": (c_void_p, c_int, c_void_p),
    "cuMemPoolDestroy": (c_void_p,),
    "cuMemAllocFromPoolAsync": (_ADDRESS, c_size_t, c_void_p, c_void_p),
    "cuMemFreeAsync": (_UINT64, c_void_p),
    "cuMemHostAlloc": (_HANDLE, c_size_t, c_uint),
    "cuMemFreeHost": (c_void_p,),
    "cuMemcpyHtoDAsync_v2": (_UINT64, c_void_p, c_size_t, c_void_p),
    "cuMemcpyDtoHAsync_v2": (c_void_p, _UINT64, c_size_t, c_void_p),
    "cuMemcpyDtoDAsync_v2": (_UINT64, _UINT64, c_size_t, c_void_p),
    "cuMemsetD8Async": (_UINT64, c_ubyte, c_size_t, c_void_p),
    "cuStreamCreate": (_HANDLE, c_uint),
    "cuStreamDestroy_v2": (c_void_p,),
    "cuStreamSynchronize": (c_void_p,),
    "cuStreamQuery": (c_void_p,),
    "cuStreamWaitEvent": (c_void_p, c_void_p, c_uint),
    "cuEventCreate": (_HANDLE, c_uint),
    "cuEventDestroy_v2": (c_void_p,),
    "cuEventRecord": (c_void_p, c_void_p),
    "cuEventSynchronize": (c_void_p,),
    "cuEventElapsedTime": (POINTER(c_float), c_void_p, c_void_p),
    "cuStreamBeginCapture_v2": (c_void_p, c_int),
    "cuStreamEndCapture": (c_void_p, _HANDLE),
    "cuGraphInstantiateWithFlags": (_HANDLE, c_void_p, _UINT64),
    "cuGraphExecUpdate_v2": (c_void_p, c_void_p, POINTER(UpdateResult)),
    "cuGraphLaunch": (c_void_p, c_void_p),
    "cuGraphExecDestroy": (c_void_p,),
    "cuGraphDestroy": (c_void_p,),
}
