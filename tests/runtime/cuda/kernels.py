"""The tests' kernel on the fake driver: its binary, and what it does to the memory of the host."""

from __future__ import annotations

import ctypes
from dataclasses import replace
from typing import Any

import numpy as np

from dlc.runtime.cuda.module import KernelBinary
from tests.runtime.cuda.cubins import ADD_TYPES, cubin

ADD = KernelBinary(
    entry="add",
    code=cubin(),
    shared=0,
    num_warps=4,
    num_ctas=1,
    parameters=ADD_TYPES,
    scratch=0,
    scratch_alignment=1,
    arch="sm_90",
)


def binary(**changes: Any) -> KernelBinary:
    """The binary of ``add`` with other fields."""
    return replace(ADD, **changes)


def add_body(parameters: tuple[bytes, ...], grid: tuple[int, int, int]) -> None:
    """z = x + y over n elements, as the kernel does."""
    x, y, z, n = (int.from_bytes(each, "little") for each in parameters[:4])
    arrays = [
        np.ctypeslib.as_array(ctypes.cast(address, ctypes.POINTER(ctypes.c_float)), (n,))
        for address in (x, y, z)
    ]
    np.add(arrays[0], arrays[1], out=arrays[2])
