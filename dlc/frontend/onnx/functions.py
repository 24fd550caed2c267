"""Model-local functions: the table of a model's functions, checked for cycles and for their size once
inlined.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeAlias

from dlc.errors import ModelError, printable
from dlc.limits import Limits

if TYPE_CHECKING:
    from onnx import FunctionProto, GraphProto, NodeProto, OperatorSetIdProto

#: (domain, name, overload)
FunctionKey: TypeAlias = tuple[str, str, str]


def normalize_domain(domain: str) -> str:
    """The domain of an operator, with the long name of the standard's own one replaced by the short one."""
    return "" if domain == "ai.onnx" else domain


def call_key(node: NodeProto) -> FunctionKey:
    """What function `node` would call."""
    return normalize_domain(node.domain), node.op_type, node.overload


def subgraphs(node: NodeProto) -> Iterator[GraphProto]:
    """The graphs among a node's attributes."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def all_nodes(nodes: Iterable[NodeProto]) -> Iterator[NodeProto]:
    """`nodes` and those of their subgraphs, however deep."""
    stack = [iter(nodes)]
    while stack:
        node = next(stack[-1], None)
        if node is None:
            stack.pop()
            continue
        yield node
        stack.extend(iter(graph.node) for graph in subgraphs(node))


class FunctionTable:
    """The functions of a model by (domain, name, overload).

    Raises ModelError (code "model/function") for two functions of one key and for recursion, and LimitError
    when a function nests deeper than `limits.function_depth`.
    """

    def __init__(self, functions: Sequence[FunctionProto], limits: Limits) -> None:
        self._functions: dict[FunctionKey, FunctionProto] = {}
        self._limits = limits
        for function in functions:
            key = normalize_domain(function.domain), function.name, function.overload
            if key in self._functions:
                raise ModelError(f"function '{_shown(key)}' is defined twice", code="model/function")
            self._functions[key] = function
        self._sizes: dict[FunctionKey, int] = {}
        self._depths: dict[FunctionKey, int] = {}
        for key in self._functions:
            self._measure(key)

    def find(self, node: NodeProto) -> FunctionProto | None:
        """The function that `node` calls; None when it is an operator."""
        return self._functions.get(call_key(node)) if self._functions else None

    def check_inlined_size(self, nodes: Iterable[NodeProto]) -> None:
        """LimitError when inlining all calls among `nodes` makes more than `limits.inlined_nodes` nodes."""
        if self._functions:
            size = sum(self._sizes.get(call_key(node), 0) for node in all_nodes(nodes))
            self._limits.check("inlined_nodes", size, "nodes after functions are inlined")

    def _measure(self, root: FunctionKey) -> None:
        """Enter the inlined size and the call depth of `root` and of all that it calls, callees first."""
        path: list[FunctionKey] = [root]
        active = {root: None}
        pending = [self._callees(root)]
        while path:
            key = path[-1]
            callee = next((callee for callee in pending[-1] if callee not in self._sizes), None)
            if callee is not None:
                if callee in active:
                    names = " -> ".join(_shown(item) for item in [*path[path.index(callee) :], callee])
                    raise ModelError(f"functions call each other without end: {names}", code="model/function")
                path.append(callee)
                active[callee] = None
                pending.append(self._callees(callee))
                continue
            calls = list(self._callees(key))
            nodes = sum(1 for _ in all_nodes(self._functions[key].node))
            self._sizes[key] = nodes + sum(self._sizes[item] for item in calls)
            self._depths[key] = 1 + max((self._depths[item] for item in calls), default=0)
            self._limits.check("function_depth", self._depths[key], f"nesting of function '{_shown(key)}'")
            path.pop()
            pending.pop()
            del active[key]

    def _callees(self, key: FunctionKey) -> Iterator[FunctionKey]:
        """The functions that `key` calls, once for each call."""
        return (
            called
            for node in all_nodes(self._functions[key].node)
            if (called := call_key(node)) in self._functions
        )


def _shown(key: FunctionKey) -> str:
    domain, name, overload = key
    return printable(f"{domain}::{name}{':' if overload else ''}{overload}")


def opset_imports(imports: Iterable[OperatorSetIdProto], ir_version: int, what: str) -> dict[str, int]:
    """Domain -> version of the operator sets that a model or function imports.

    Before IR version 3 there was only opset 1. Raises ModelError for a domain with two versions.
    """
    versions: dict[str, int] = {}
    for item in imports:
        domain = normalize_domain(item.domain)
        if versions.setdefault(domain, item.version) != item.version:
            raise ModelError(
                f"{what} imports two versions of operator set '{printable(domain or 'ai.onnx')}'"
            )
    if not versions and ir_version < 3:
        versions[""] = 1
    return versions
