"""Splitting a kernel into nests: stages that depend on each other through locals stay together.

Backends run one nest a launch: a stage that reads what an earlier one stored finds it complete.
"""

from __future__ import annotations

import dataclasses

from dlc.errors import InternalError
from dlc.lowering import expr as e
from dlc.lowering.draft import LoweredKernel
from dlc.lowering.inspect import loads, roots, stages, used_axes
from dlc.lowering.kernel import Access, Contract, Map, Recur, Reduce, Routine, Stage, Store


@dataclasses.dataclass(eq=False)
class _Nest:
    """Stages that run together, and the parameters that they read and store to."""

    body: list[Stage]
    reads: set[str]
    writes: set[str]

    def conflicts(self, other: _Nest) -> bool:
        """Whether the order of the two matters: one stores what the other reads or stores."""
        return bool(self.writes & (other.reads | other.writes) or self.reads & other.writes)


def split_nests(lowered: LoweredKernel) -> list[LoweredKernel]:
    """The nests of a kernel, in order.

    Raises InternalError where stages that share locals cannot run together, because a nest that has to stand
    between them stores what one of them reads, or reads what one of them stores.
    """
    nests: list[_Nest] = []
    owner: dict[str, _Nest] = {}
    for stage in lowered.kernel.body:
        nest = _nest(stage)
        read = {owner[name] for name in _locals_read(stage) if name in owner}
        members = [*(each for each in nests if each in read), nest]
        nests.append(nest)
        if len(members) > 1:
            nest = _join(nests, members, lowered)
            owner.update({name: nest for name, each in owner.items() if each in members})
        owner.update(dict.fromkeys(_locals_defined(stage), nest))
    if len(nests) == 1:
        return [lowered]
    return [_part(lowered, tuple(nest.body)) for nest in nests]


def _nest(stage: Stage) -> _Nest:
    reads = {load.param for load in loads((stage,))}
    writes: set[str] = set()
    for inner in stages((stage,)):
        match inner:
            case Store():
                writes.add(inner.param)
            case Routine():
                reads.update(inner.params)
                writes.update(inner.params)
    return _Nest([stage], reads, writes)


def _join(nests: list[_Nest], members: list[_Nest], lowered: LoweredKernel) -> _Nest:
    """Replace `members`, in order, by one nest, at the first of their places that the others allow."""
    positions = [nests.index(member) for member in members]
    for target in positions:
        crossed = (
            (member, nests[between])
            for member, at in zip(members, positions, strict=True)
            for between in range(min(at, target), max(at, target) + 1)
            if nests[between] not in members
        )
        if any(member.conflicts(other) for member, other in crossed):
            continue
        merged = _Nest(
            [stage for member in members for stage in member.body],
            {name for member in members for name in member.reads},
            {name for member in members for name in member.writes},
        )
        nests[target] = merged
        nests[:] = [nest for nest in nests if nest not in members]
        return merged
    raise InternalError(
        f"the stages of kernel {lowered.kernel.name} cannot be put in order",
        node=", ".join(lowered.kernel.origins) or None,
    )


def _part(lowered: LoweredKernel, body: tuple[Stage, ...]) -> LoweredKernel:
    reads = {load.param for load in loads(body)}
    writes = {stage.param for stage in stages(body) if isinstance(stage, Store)}
    routine = {name for stage in stages(body) if isinstance(stage, Routine) for name in stage.params}
    params = []
    for param in lowered.kernel.params:
        if param.name not in reads | writes | routine:
            continue
        if param.name in routine:
            params.append(param)
            continue
        plain = not any(
            isinstance(s, Store) and s.param == param.name and s.mode.value != "set" for s in stages(body)
        )
        access = (
            Access.READ
            if param.name not in writes
            else Access.WRITE
            if param.name not in reads and plain
            else Access.UPDATE
        )
        params.append(dataclasses.replace(param, access=access))
    used = used_axes(body)
    axes = tuple(axis for axis in lowered.kernel.axes if axis.name in used)
    kernel = dataclasses.replace(lowered.kernel, params=tuple(params), axes=axes, body=body)
    return LoweredKernel(kernel, {p.name: lowered.values[p.name] for p in params})


def _locals_read(stage: Stage) -> set[str]:
    return {
        node.local for inner in stages((stage,)) for node in e.walk(*roots(inner)) if isinstance(node, e.Read)
    }


def _locals_defined(stage: Stage) -> set[str]:
    defined: set[str] = set()
    for inner in stages((stage,)):
        match inner:
            case Map(out, _):
                defined.add(out.name)
            case Reduce(outs, _, _, _):
                defined.update(out.name for out in outs)
            case Contract():
                defined.add(inner.out.name)
            case Recur():
                defined.update(state.local.name for state in inner.states)
    return defined
