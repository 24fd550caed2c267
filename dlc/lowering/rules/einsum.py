"""Kernels of Einstein summation: pairs of operands contracted one after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from dlc.ir.dims import Dim, broadcast
from dlc.ir.graph import Node, Value
from dlc.ir.ops.contraction import Einsum
from dlc.lowering import expr as e
from dlc.lowering.draft import Draft, arithmetic_dtype, binary, broadcast_index
from dlc.lowering.kernel import AxisKind, Contraction, Monoid
from dlc.lowering.rules.registry import rule

#: A subscript: a letter, or the number of an axis of the ellipsis, counted from the last (-1).
Label: TypeAlias = "str | int"


@rule(Einsum)
def einsum(draft: Draft, node: Node) -> None:
    """y[result] = sum over the other subscripts of the product of the operands.

    More than two operands are taken in order: what is left of the first ones, over the subscripts that are
    still needed, is multiplied with the next.
    """
    assert isinstance(node.op, Einsum)
    terms, result = node.op.terms
    values = list(node.operands)
    labels = [_labels(term, value.tensor.rank) for term, value in zip(terms, values, strict=True)]
    extents = _extents(values, labels)
    covered = sum(isinstance(label, int) for label in extents)
    wanted = _labels(result, len(result.replace("...", "")) + covered)
    left, left_labels = values[0], labels[0]
    for position in range(1, len(values)):
        last = position == len(values) - 1
        needed = wanted if last else _needed(left_labels, labels[position], [wanted, *labels[position + 1 :]])
        target = node.outputs[0]
        if not last:
            dtype = arithmetic_dtype(target.tensor.dtype)
            target = draft.temporary(f"product{position}", dtype, [extents[label] for label in needed])
        _product(draft, extents, (left, left_labels), (values[position], labels[position]), (target, needed))
        left, left_labels = target, needed
    if len(values) == 1:
        _sum(draft, extents, (left, left_labels), (node.outputs[0], wanted))


def _labels(term: str, rank: int) -> list[Label]:
    """The subscripts of a tensor of `rank`, one an axis."""
    head, dots, tail = term.partition("...")
    covered = rank - len(head) - len(tail) if dots else 0
    return [*head, *range(-covered, 0), *tail]


def _extents(values: Sequence[Value], labels: Sequence[Sequence[Label]]) -> dict[Label, Dim]:
    """The extent of every subscript; those of extent 1 broadcast."""
    extents: dict[Label, Dim] = {}
    for value, own in zip(values, labels, strict=True):
        for label, extent in zip(own, value.tensor.shape, strict=True):
            extents[label] = broadcast(extents[label], extent) if label in extents else extent
    return extents


def _needed(left: Sequence[Label], right: Sequence[Label], later: Sequence[Sequence[Label]]) -> list[Label]:
    """The subscripts of a product of two operands that something later speaks of."""
    kept = {label for labels in later for label in labels}
    return [label for label in dict.fromkeys((*left, *right)) if label in kept]


def _load(
    draft: Draft,
    extents: Mapping[Label, Dim],
    operand: tuple[Value, Sequence[Label]],
    axes: Mapping[Label, Dim],
) -> e.Expr:
    value, labels = operand
    shape = [extents[label] for label in labels]
    index = broadcast_index(value.tensor, [axes[label] for label in labels], shape)
    return draft.load_arithmetic(value, index)


def _product(
    draft: Draft,
    extents: Mapping[Label, Dim],
    left: tuple[Value, Sequence[Label]],
    right: tuple[Value, Sequence[Label]],
    target: tuple[Value, Sequence[Label]],
) -> None:
    """target = left * right, summed over the subscripts that it does not have.

    A contraction sums what both operands share; where a subscript of one operand alone is to be summed, or
    nothing is, the product is reduced (or stored) as it is.
    """
    kept = target[1]
    in_left, in_right = set(left[1]), set(right[1])
    summed = [label for label in dict.fromkeys((*left[1], *right[1])) if label not in kept]
    axes = {label: draft.axis(extents[label]) for label in kept}
    axes |= {label: draft.axis(extents[label], AxisKind.REDUCE) for label in summed}
    x, y = _load(draft, extents, left, axes), _load(draft, extents, right, axes)
    outer = [axes[label] for label in kept]
    if summed and set(summed) <= in_left & in_right:

        def names(labels: Sequence[Label]) -> tuple[str, ...]:
            return tuple(axes[label].name for label in labels)

        spec = Contraction(
            names([label for label in kept if label in in_left and label in in_right]),
            names([label for label in kept if label not in in_right]),
            names([label for label in kept if label not in in_left]),
            names(summed),
        )
        draft.store(target[0], outer, draft.contract(spec, x, y, outer))
        return
    value = binary("mul", x, y)
    if summed:
        value = draft.reduce(Monoid.SUM, [axes[label] for label in summed], value, outer)
    draft.store(target[0], outer, value)


def _sum(
    draft: Draft,
    extents: Mapping[Label, Dim],
    source: tuple[Value, Sequence[Label]],
    target: tuple[Value, Sequence[Label]],
) -> None:
    """target = source, summed over the subscripts that it does not have; a repeated one is a diagonal."""
    kept = target[1]
    summed = [label for label in dict.fromkeys(source[1]) if label not in kept]
    axes = {label: draft.axis(extents[label]) for label in kept}
    axes |= {label: draft.axis(extents[label], AxisKind.REDUCE) for label in summed}
    outer = [axes[label] for label in kept]
    value = _load(draft, extents, source, axes)
    if summed:
        value = draft.reduce(Monoid.SUM, [axes[label] for label in summed], value, outer)
    draft.store(target[0], outer, value)
