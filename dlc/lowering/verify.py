"""The rules that a sound kernel keeps; docs/kernel-ir.md states them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from dlc.errors import InternalError
from dlc.ir.dims import Guard, free_symbols
from dlc.lowering import expr as e
from dlc.lowering.inspect import defined_locals, kernel_dims, loads, stages
from dlc.lowering.kernel import (
    Access,
    Kernel,
    LocalTensor,
    Param,
    Routine,
    Stage,
    Store,
    StoreMode,
)
from dlc.lowering.text import WORDS, to_text
from dlc.lowering.verify_stages import body_problems
from dlc.lowering.verify_stores import store_problems

_SHOWN = 20
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def verify_kernel(kernel: Kernel, guards: Sequence[Guard] = ()) -> None:
    """InternalError that lists what is wrong with `kernel`, if anything is.

    `guards` are relations of the program's symbols that hold when the kernel runs: indices may rely on them.
    """
    problems = list(dict.fromkeys(violations(kernel, guards)))
    if problems:
        shown = "\n".join(f"  {problem}" for problem in problems[:_SHOWN])
        more = f"\n  and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise InternalError(
            f"kernel {kernel.name} is not sound:\n{shown}{more}\n{to_text(kernel)}",
            node=", ".join(kernel.origins) or None,
        )


def data_dependent(kernel: Kernel) -> tuple[str, ...]:
    """The parameters that are indexed by data: nothing is proved of these accesses, runs check them."""
    found = {load.param: None for load in loads(kernel.body) if _from_data(load.index)}
    found |= {s.param: None for s in stages(kernel.body) if isinstance(s, Store) and _from_data(s.index)}
    return tuple(found)


def _from_data(index: Sequence[e.Index]) -> bool:
    return any(isinstance(entry, e.Expr) for entry in index)


def violations(kernel: Kernel, guards: Sequence[Guard] = ()) -> Iterator[str]:
    """What is wrong with `kernel`, one sentence each."""
    yield from _names(kernel)
    yield from _params(kernel)
    yield from _access(kernel)
    yield from body_problems(kernel, guards)
    yield from store_problems(kernel, guards)


def _names(kernel: Kernel) -> Iterator[str]:
    names = [*(p.name for p in kernel.params), *(local.name for local in all_locals(kernel.body))]
    for name in dict.fromkeys(names):
        if names.count(name) > 1:
            yield f"the name {name} stands for two things"
    axes = [axis.name for axis in kernel.axes]
    for name in dict.fromkeys(axes):
        if axes.count(name) > 1:
            yield f"the name {name} stands for two axes"
    for name in (*names, *axes):
        if not _NAME.fullmatch(name) or name in WORDS:
            yield f"{name!r} is no name"
    symbols = {axis.name: axis.symbol for axis in kernel.axes}
    for symbol in {s for dim in kernel_dims(kernel) for s in free_symbols(dim)}:
        if symbols.get(symbol.name, symbol) is not symbol:
            yield f"the symbol {symbol.name} ({symbol.lo}..{symbol.hi}) is not the axis of that name"


def all_locals(body: Sequence[Stage]) -> Iterator[LocalTensor]:
    """Every local that is defined, those within recurrences too."""
    for stage in stages(tuple(body)):
        yield from defined_locals(stage)


def _params(kernel: Kernel) -> Iterator[str]:
    axes = {axis.name for axis in kernel.axes}
    for param in kernel.params:
        yield from _layout(param)
        if param.strides is not None and len(param.strides) != len(param.type.physical_shape):
            yield f"{param.name} has {len(param.strides)} strides for {len(param.type.physical_shape)} axes"
        dims = (*param.type.shape, *param.physical_strides())
        if any(symbol.name in axes for dim in dims for symbol in free_symbols(dim)):
            yield f"the type of {param.name} depends on an axis"
        if param.constant and param.access is not Access.READ:
            yield f"the constant {param.name} is written"
    for axis in kernel.axes:
        if any(symbol.name in axes for symbol in free_symbols(axis.extent)):
            yield f"the extent of axis {axis.name} depends on an axis"


def _layout(param: Param) -> Iterator[str]:
    layout, rank = param.type.layout, param.type.rank
    if layout is None:
        return
    whole = sorted(axis for axis, block in layout.order if block is None)
    blocked = [axis for axis, block in layout.order if block is not None]
    if whole != list(range(rank)) or len(set(blocked)) != len(blocked) or not set(blocked) <= set(whole):
        yield f"the layout of {param.name} does not hold each axis once, and once in blocks"
    if any(block is not None and block < 2 for _, block in layout.order):
        yield f"the layout of {param.name} has blocks of less than 2"
    halos = [halo.axis for halo in layout.halos]
    if len(set(halos)) != len(halos) or not set(halos) <= set(whole):
        yield f"the layout of {param.name} has a halo of no axis, or two of one"
    if any(halo.before < 0 or halo.after < 0 for halo in layout.halos):
        yield f"the layout of {param.name} has a negative halo"
    if {halo.axis for halo in layout.halos if halo.before or halo.after} & set(blocked):
        yield f"the layout of {param.name} has a halo of a blocked axis"


def _access(kernel: Kernel) -> Iterator[str]:
    """Whether parameters are used as they are declared, and no store depends on its own order."""
    params = {param.name: param for param in kernel.params}
    read = {load.param for load in loads(kernel.body)}
    stored = [stage for stage in stages(kernel.body) if isinstance(stage, Store)]
    routine = {name for stage in stages(kernel.body) if isinstance(stage, Routine) for name in stage.params}
    for name in sorted(read | {store.param for store in stored} | routine):
        if name not in params:
            yield f"there is no parameter {name}"
    for param in kernel.params:
        name = param.name
        stores = [store for store in stored if store.param == name]
        combined = any(store.mode is not StoreMode.SET for store in stores)
        if name in routine:
            continue
        match param.access:
            case Access.READ if stores:
                yield f"{name} is stored, but declared as read"
            case Access.WRITE if name in read or combined:
                yield f"{name} is read, but declared as written"
            case Access.UPDATE if not stores:
                yield f"{name} is not stored, but declared as updated"
        if name not in read and not stores:
            yield f"{name} is not used"
    for store in stored:
        if any(load.param == store.param and load.index != store.index for load in loads((store,))):
            yield f"a point reads an element of {store.param} that another point stores"
