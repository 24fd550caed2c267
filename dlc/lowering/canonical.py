"""Canonical names: kernels that compute the same get the same text, and so share their code."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
from collections.abc import Callable, Mapping

from dlc.ir.dims import Dim, substitute as substitute_dim
from dlc.lowering import expr as e
from dlc.lowering.draft import LoweredKernel
from dlc.lowering.inspect import map_stage
from dlc.lowering.kernel import (
    Axis,
    Contract,
    Kernel,
    LocalTensor,
    Map,
    Recur,
    Reduce,
    Routine,
    Stage,
    Store,
)
from dlc.lowering.text import kernel_symbols, to_text


def canonicalize(lowered: LoweredKernel) -> tuple[Kernel, list[str]]:
    """The canonical kernel, and its old parameter names in order."""
    return canonical_kernel(lowered.kernel), [param.name for param in lowered.kernel.params]


def canonical_kernel(kernel: Kernel) -> Kernel:
    """The kernel with parameters p0.., axes a0.., locals l0.. and no origins.

    Axes are numbered past the names of the kernel's symbols, which stay as they are.
    """
    params = {param.name: f"p{i}" for i, param in enumerate(kernel.params)}
    taken = {symbol.name for symbol in kernel_symbols(kernel)}
    free = (name for name in map("a{}".format, itertools.count()) if name not in taken)
    axes = {axis.name: Axis(next(free), axis.extent, axis.kind) for axis in kernel.axes}
    renaming = {name: axis.symbol for name, axis in axes.items()}
    locals_: dict[str, str] = {}

    def dim(d: Dim) -> Dim:
        return substitute_dim(d, renaming)

    def local(name: str) -> str:
        return locals_.setdefault(name, f"l{len(locals_)}")

    def leaf(node: e.Expr) -> e.Expr | None:
        match node:
            case e.Load():
                return e.Load(node.dtype, params[node.param], node.index, node.mask, node.other)
            case e.Read():
                return e.Read(node.dtype, local(node.local), node.index, node.mask, node.other)
        return None

    def value(expr: e.Expr) -> e.Expr:
        return e.rewrite(expr, leaf, dim)

    def axis_names(names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(axes[name].name for name in names)

    body = []
    for stage in kernel.body:
        body.append(_with_targets(map_stage(stage, value, dim, axis_names), params, local))
    new_params = tuple(dataclasses.replace(param, name=params[param.name]) for param in kernel.params)
    return Kernel(kernel.name, new_params, tuple(axes.values()), tuple(body))


def structural_hash(kernel: Kernel) -> str:
    """A digest (SHA-256, hexadecimal) of what a kernel computes: names and origins do not count."""
    nameless = dataclasses.replace(canonical_kernel(kernel), name="kernel")
    return hashlib.sha256(to_text(nameless).encode()).hexdigest()


def _with_targets(stage: Stage, params: Mapping[str, str], local: Callable[[str], str]) -> Stage:
    """The stage with the parameters and locals that it writes renamed; its expressions stay."""

    def tensor(t: LocalTensor) -> LocalTensor:
        return dataclasses.replace(t, name=local(t.name))

    match stage:
        case Map(out, value):
            return Map(tensor(out), value)
        case Store():
            return dataclasses.replace(stage, param=params[stage.param])
        case Reduce(outs, reduced, monoid, values):
            return Reduce(tuple(map(tensor, outs)), reduced, monoid, values)
        case Contract():
            return dataclasses.replace(stage, out=tensor(stage.out))
        case Recur():
            states = tuple(dataclasses.replace(s, local=tensor(s.local)) for s in stage.states)
            body = tuple(_with_targets(inner, params, local) for inner in stage.body)
            return dataclasses.replace(stage, states=states, body=body)
        case Routine():
            return dataclasses.replace(stage, params=tuple(params[p] for p in stage.params))
