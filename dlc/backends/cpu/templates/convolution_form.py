"""What a convolution in blocked layout looks like as a kernel, and how its operands lie in memory."""

from __future__ import annotations

import dataclasses

import numpy as np

from dlc.backends.cpu.access import covered_by_halo
from dlc.backends.cpu.templates.template import Declined
from dlc.ir.dims import Dim, linear, substitute
from dlc.ir.dtypes import DType
from dlc.ir.operator import Array
from dlc.lowering import expr as e
from dlc.lowering.kernel import Contract, Kernel, Param, Store

LANES = 16


@dataclasses.dataclass(frozen=True)
class ConvolutionForm:
    """A convolution that the template takes: the kernel, its stages and the roles of its axes."""

    kernel: Kernel
    contract: Contract
    store: Store
    source: Param
    weights: Param
    batch: str
    group: str | None
    columns: str
    positions: tuple[str, ...]
    channel: str
    taps: tuple[str, ...]

    @property
    def channels(self) -> int:
        """Input channels of a group."""
        return static(self.extent(self.channel))

    @property
    def outputs(self) -> int:
        """Output channels of a group."""
        return static(self.extent(self.columns))

    @property
    def groups(self) -> int:
        """Groups."""
        return static(self.extent(self.group)) if self.group else 1

    @property
    def kernel_shape(self) -> tuple[int, ...]:
        """Extents of the taps."""
        return tuple(static(self.extent(tap)) for tap in self.taps)

    @property
    def blocked_input(self) -> bool:
        """Whether the input's channels lie in blocks of 16; else each channel is a plane."""
        layout = self.source.type.layout
        return layout is not None and layout.block(1) == LANES

    def extent(self, axis: str) -> Dim:
        """The extent of an axis."""
        return self.kernel.extent(axis)


def static(extent: Dim) -> int:
    """An extent that matching has found to be a number."""
    assert isinstance(extent, int)
    return extent


def convolution_form(kernel: Kernel) -> ConvolutionForm | Declined:
    """Whether `kernel` is a convolution in blocked layout with constant weights."""
    match kernel.body:
        case (Contract() as contract, Store() as store) if contract.spec.windows:
            pass
        case _:
            return Declined("not a single convolution with its epilogue")
    left, right = contract.left, contract.right
    if not isinstance(left, e.Load) or not isinstance(right, e.Load) or contract.out.dtype is not DType.F32:
        return Declined("operands are computed or not float32")
    source, weights = kernel.param(left.param), kernel.param(right.param)
    if not weights.constant:
        return Declined("the weights are not constant")
    dims = [entry for entry in left.index if not isinstance(entry, e.Expr)]
    extents = {axis.name: axis.extent for axis in kernel.axes}
    if len(dims) != len(left.index) or covered_by_halo(source, dims, left.mask, 0.0, extents):
        return Declined("the input's padding is not in memory")
    if not reads_windows(kernel, contract, left):
        return Declined("the input is read at other places than those of its windows")
    spec = contract.spec
    windows = spec.windows
    if not spec.columns or len(spec.reduce) == len(windows):
        return Declined("a depthwise convolution")
    positions = tuple(window.out for window in windows)
    found = ConvolutionForm(
        kernel,
        contract,
        store,
        source,
        weights,
        spec.rows[0],
        spec.batch[0] if spec.batch else None,
        spec.columns[0],
        positions,
        spec.reduce[0],
        tuple(window.tap for window in windows),
    )
    return _check(found)


def reads_windows(kernel: Kernel, contract: Contract, load: e.Load) -> bool:
    """Whether the input is read at [batch, channel, position of each window...].

    What is fused into a convolution, a transpose or a slice say, may read it elsewhere.
    """
    spec, symbol = contract.spec, {axis.name: axis.symbol for axis in kernel.axes}
    channel: Dim = 0
    if spec.batch:
        channel = symbol[spec.batch[0]]
    if len(spec.reduce) > len(spec.windows):
        channel = channel * kernel.extent(spec.reduce[0]) + symbol[spec.reduce[0]]
    places = [symbol[w.out] * w.stride + symbol[w.tap] * w.dilation - w.pad for w in spec.windows]
    # An axis of extent 1 may stand in an index or not.
    single: dict[str, Dim] = {axis.name: 0 for axis in kernel.axes if axis.extent == 1}
    read = [entry if isinstance(entry, e.Expr) else substitute(entry, single) for entry in load.index]
    return read == [substitute(place, single) for place in (symbol[spec.rows[0]], channel, *places)]


def _check(m: ConvolutionForm) -> ConvolutionForm | Declined:
    """The remaining conditions, on layouts and static extents."""
    target = m.kernel.param(m.store.param)
    layout = target.type.layout
    if layout is None or layout.block(1) != LANES:
        return Declined("the output is not in blocked layout")
    if any(m.extent(tap) == 0 for tap in m.taps):
        return Declined("no tap reaches the output")
    static = (m.channel, m.columns, *m.taps, *((m.group,) if m.group else ()))
    if any(not isinstance(m.extent(axis), int) for axis in static):
        return Declined("channels or taps are symbolic")
    lanes = m.kernel.axis(m.columns).symbol
    if m.store.axes != m.contract.out.axes or m.store.mask or lanes not in m.store.index:
        return Declined("the epilogue stores in another order")
    if m.group and (m.outputs % LANES or m.channels % LANES):
        return Declined("groups are not multiples of the block")
    if any(window.stride < 0 or window.dilation < 0 for window in m.contract.spec.windows):
        return Declined("windows run backwards")
    source_layout = m.source.type.layout
    if source_layout is not None and source_layout.block(1) not in (1, LANES):
        return Declined("the input has another block")
    return m


@dataclasses.dataclass(frozen=True)
class Plane:
    """How the positions of an operand lie in memory: strides in elements."""

    batch: Dim
    block: Dim
    spatial: tuple[Dim, ...]
    origin: Dim


def input_plane(m: ConvolutionForm) -> Plane:
    """How the input of a matched convolution lies in memory; `origin` is where the first window begins."""
    strides = m.source.physical_strides()
    layout = m.source.type.layout
    rank = m.source.type.rank
    before = [layout.halo(axis).before if layout else 0 for axis in range(rank)]
    origin: Dim = 0
    for axis, window in enumerate(m.contract.spec.windows, start=2):
        origin = origin + (before[axis] - window.pad) * strides[axis]
    return Plane(strides[0], strides[1], tuple(strides[2:rank]), origin)


def weight_view(m: ConvolutionForm, weights: Array) -> Array:
    """The weights as [group, output channel, input channel, taps...], whatever order and direction they lie
    in.
    """
    load = m.contract.right
    assert isinstance(load, e.Load)
    axes = [m.group, m.columns, m.channel, *m.taps]
    extents = [static(m.extent(axis)) if axis else 1 for axis in axes]
    weights = np.ascontiguousarray(weights)
    start, strides = 0, [0] * len(axes)
    for entry, stride in zip(load.index, weights.strides, strict=True):
        assert not isinstance(entry, e.Expr)
        rest: Dim = entry
        for position, axis in enumerate(axes):
            if axis is None:
                continue
            affine = linear(rest, m.kernel.axis(axis).symbol)
            assert affine is not None and isinstance(affine[0], int)
            strides[position] += affine[0] * stride
            rest = affine[1]
        assert isinstance(rest, int)
        start += rest * stride
    first = weights.reshape(-1)[start // weights.itemsize :]
    return np.lib.stride_tricks.as_strided(first, extents, strides, writeable=False)
