"""Nodes of FX graphs: what their operators are called, and whether they are random."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dlc.frontend.torch.kept import originals

#: Arguments of operators that turn their randomness on: an operator with any of them is random only then.
_SWITCHES = ("dropout_p", "train", "training")


def operator_name(node: Any) -> str:
    """The operator of a node as in "aten.rand", with its overload if that is not the default."""
    return str(originals().get(node.target, node.target)).removesuffix(".default")


def draws_random_numbers(node: Any) -> bool:
    """Whether a node draws numbers from torch's generator."""
    import torch

    if torch.Tag.nondeterministic_seeded not in getattr(node.target, "tags", ()):
        return False
    switches = [value for name, value in _arguments(node) if name in _SWITCHES]
    return not switches or any(value is not False and value != 0 for value in switches)


def _arguments(node: Any) -> Iterator[tuple[str, Any]]:
    """The arguments of an operator's node by name, with those that are left at their defaults."""
    for position, argument in enumerate(node.target._schema.arguments):
        if position < len(node.args):
            yield argument.name, node.args[position]
        else:
            yield argument.name, node.kwargs.get(argument.name, argument.default_value)
