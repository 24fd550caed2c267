"""Which kernels may write their result over an operand that nobody needs afterwards."""

from __future__ import annotations

from dlc.lowering import expr as e
from dlc.lowering.draft import LoweredKernel
from dlc.lowering.fuse import single_store
from dlc.lowering.inspect import loads
from dlc.lowering.kernel import StoreMode


def overwritable(lowered: LoweredKernel) -> list[str]:
    """Parameters whose memory the kernel's only result may take over.

    The kernel must be one store, and read each element of the operand only at the point that writes the same
    place: at the same index, in the same layout, with elements of the same size.
    """
    store = single_store(lowered.kernel)
    if store is None or store.mask:
        return []
    target = lowered.kernel.param(store.param)
    found = []
    for param in lowered.kernel.reads:
        same_place = (
            param.type.layout == target.type.layout
            and param.type.shape == target.type.shape
            and param.strides == target.strides
            and param.type.dtype.itemsize == target.type.dtype.itemsize
        )
        if same_place and all(
            load.index == store.index for load in loads(lowered.kernel.body) if load.param == param.name
        ):
            found.append(param.name)
    return found


def copied(lowered: LoweredKernel) -> str | None:
    """The parameter whose elements the kernel copies, each to the same place of its only result, if it does
    nothing else.
    """
    store = single_store(lowered.kernel)
    if store is None or store.mode is not StoreMode.SET or not isinstance(store.value, e.Load):
        return None
    if store.value.mask:
        return None
    source = lowered.kernel.param(store.value.param)
    same_dtype = source.type.dtype is lowered.kernel.param(store.param).type.dtype
    return source.name if same_dtype and overwritable(lowered) == [source.name] else None
