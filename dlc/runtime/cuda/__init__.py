"""The runtime on NVIDIA GPUs: compiled kernels launched through the CUDA driver, with nothing but ctypes.

Importing it loads no driver; :func:`open_device` does. Its objects belong to a :class:`Device`, whose primary
context they share with other libraries of the process.
"""

from dlc.runtime.cuda.cubin import kernel_parameters
from dlc.runtime.cuda.device import Device, device_count, open_device
from dlc.runtime.cuda.driver import Driver, load_driver
from dlc.runtime.cuda.graph import Graph, GraphCache
from dlc.runtime.cuda.launch import Launch
from dlc.runtime.cuda.memory import (
    Allocation,
    DeviceMemory,
    MemoryPool,
    PooledMemory,
    Staging,
    copy,
    download,
    fill,
    upload,
)
from dlc.runtime.cuda.module import Kernel, KernelBinary
from dlc.runtime.cuda.stream import Event, Stream

__all__ = [
    "Allocation",
    "Device",
    "DeviceMemory",
    "Driver",
    "Event",
    "Graph",
    "GraphCache",
    "Kernel",
    "KernelBinary",
    "Launch",
    "MemoryPool",
    "PooledMemory",
    "Staging",
    "Stream",
    "copy",
    "device_count",
    "download",
    "fill",
    "kernel_parameters",
    "load_driver",
    "open_device",
    "upload",
]
