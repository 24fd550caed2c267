"""Which kernels may write their result over an operand that nobody needs afterwards."""

from __future__ import annotations

from dlc.lowering.draft import LoweredKernel
from dlc.lowering.fuse import single_store
from dlc.lowering.inspect import loads


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
