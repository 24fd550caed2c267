"""Splitting a kernel into nests: stages that depend on each other through locals stay together.

Backends run one nest a launch: a stage that reads what an earlier one stored finds it complete.
"""

from __future__ import annotations

import dataclasses

from dlc.lowering import expr as e
from dlc.lowering.draft import LoweredKernel
from dlc.lowering.inspect import loads, roots, stages, used_axes
from dlc.lowering.kernel import Access, Contract, Map, Recur, Reduce, Routine, Stage, Store


def split_nests(lowered: LoweredKernel) -> list[LoweredKernel]:
    """The nests of a kernel, in order."""
    kernel = lowered.kernel
    groups: list[list[Stage]] = []
    owner: dict[str, int] = {}
    for stage in kernel.body:
        used = {owner[name] for name in _locals_read(stage) if name in owner}
        target = min(used) if used else len(groups)
        if target == len(groups):
            groups.append([])
        for other in sorted(used - {target}):
            groups[target].extend(groups[other])
            groups[other] = []
            owner.update({name: target for name, group in owner.items() if group == other})
        groups[target].append(stage)
        owner.update(dict.fromkeys(_locals_defined(stage), target))
    nests = [tuple(group) for group in groups if group]
    if len(nests) == 1:
        return [lowered]
    return [_part(lowered, nest) for nest in nests]


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
