"""docs/operators.md: what dlc runs of each operator, and how that is tested; made of test results.

`python -m tests.operators_table` writes it, and the figures of the suite in README.md; `--count` first runs
the tests of single operators, to count anew how often they hold an operator against onnxruntime.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx

from dlc.frontend.onnx.graph_importer import NEWEST_OPSET
from dlc.frontend.onnx.registry import operators
from dlc.ir.dtypes import DType, from_numpy
from dlc.verify.support import OperatorSupport, Support, operator_support
from tests.conformance.suite import cases, model_of
from tests.conformance.test_onnx_backend import EXPECTED_FAILURES, HOST_CASES
from tests.frontend.contrib.test_operators import STRUCTURES
from tests.operators_table.counting import counts

README = Path(__file__).parents[2] / "README.md"
PATH = README.parent / "docs" / "operators.md"

#: Element types that most operators take together or not at all.
GROUPS: Mapping[str, tuple[str, ...]] = {
    "floats": ("f16", "bf16", "f32", "f64"),
    "ints": ("i8", "i16", "i32", "i64"),
    "uints": ("u8", "u16", "u32", "u64"),
    "bool": ("bool",),
    "small floats": ("f8e4m3fn", "f8e4m3fnuz", "f8e5m2", "f8e5m2fnuz", "f8e8m0", "f4e2m1"),
    "small ints": ("i4", "u4", "i2", "u2"),
    "complex": ("c64", "c128"),
    "string": ("string",),
}
#: What kernels do not work on: the kind of value by the text of its type.
KINDS = {"string": "strings", "seq<": "sequences", "optional<": "optionals", "map<": "maps"}

COLUMNS = ("operator", "opsets", "native", "otherwise", "suite", "onnxruntime")
HEAD = """# Operators

What dlc runs of each ONNX operator, by opset and element type, and how that is tested. This file is made
of test results: `python -m tests.operators_table` writes it, and a test fails where it is out of date.

{summary}

- **opsets**: those at which the operator's import changes; the last goes up to opset {newest} in the
  standard's domain.
- **native**: the element types of the first operand (of the first result, where there is none) for which
  generated code runs it. *floats* are {floats}; *ints* {ints}; *uints* {uints};
  *small floats* {small floats}; *small ints* {small ints};
  *complex* {complex}. Of most of com.microsoft, they are those of the cases generated in the tests.
- **otherwise**: element types for which it runs on the *host*, in Python; for which it does so in part of
  the graphs that were tried (*partly*); or which dlc refuses (*refused*); and why. *strings*, *sequences*,
  *optionals* and *maps* run on the host because kernels work on tensors of numbers. `strict=True` refuses
  what would run on the host; `dlc check` names it, with what it costs.
- **suite**: the cases of the ONNX backend suite whose model contains the operator: how many pass, of how
  many, and how many of those that pass have a node, whichever, on the host.
- **onnxruntime**: comparisons with onnxruntime in the tests of single operators (`tests/frontend/ops`,
  `contrib` and `ml`).
"""


@functools.cache
def suite() -> Mapping[tuple[str, str], Counter[str]]:
    """For each operator, its cases of the suite: "all", "passed", and "host", passed with a node there."""
    found: dict[tuple[str, str], Counter[str]] = {}
    for name, case in cases().items():
        outcomes = {"all": True, "passed": name not in EXPECTED_FAILURES, "host": name in HOST_CASES}
        for key in set(_nodes(model_of(case).graph)):
            found.setdefault(key, Counter()).update(what for what, holds in outcomes.items() if holds)
    return found


def _nodes(graph: onnx.GraphProto) -> Iterator[tuple[str, str]]:
    for node in graph.node:
        yield ("" if node.domain == "ai.onnx" else node.domain, node.op_type)
        for attribute in node.attribute:
            for inner in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                yield from _nodes(inner)


def summary() -> str:
    """How much of the suite passes, and how much of it natively."""
    total = len(cases())
    passed = len(set(cases()) - set(EXPECTED_FAILURES))
    native = passed - len(HOST_CASES)
    return (
        f"ONNX backend suite (onnx {onnx.__version__}): {passed:,} of {total:,} cases pass "
        f"({passed / total:.1%}), {native:,} of them ({native / total:.1%}) with all nodes in generated code."
    ).replace("%", " %")


@functools.cache
def tested_types() -> Mapping[tuple[str, str], frozenset[str]]:
    """The element types of the first operand in the generated cases, all of which run natively."""
    rng = np.random.default_rng(0)
    found: dict[tuple[str, str], set[str]] = {}
    for structure in STRUCTURES:
        first = next(operand for operand in structure.operands if operand is not None)
        dtype: DType = from_numpy(first.array(rng, structure.sizes[0]).dtype)
        found.setdefault((structure.domain, structure.op_type), set()).add(dtype.text)
    return {key: frozenset(dtypes) for key, dtypes in found.items()}


def known() -> list[tuple[str, str]]:
    """All operators that dlc imports, and those of the standard that it does not."""
    standard = {(schema.domain, schema.name) for schema in onnx.defs.get_all_schemas()}
    return sorted({*operators(), *standard})


def document() -> str:
    """The whole file."""
    support = {(entry.domain, entry.name): entry for entry in operator_support()}
    lists = {name: ", ".join(dtypes) for name, dtypes in GROUPS.items()}
    parts = [HEAD.format(summary=summary(), newest=NEWEST_OPSET, **lists)]
    keys = known()
    for domain in sorted({domain for domain, _ in keys}):
        parts.append(f"\n## {domain or 'ai.onnx'}\n\n")
        parts.append(f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|\n")
        for key in keys:
            if key[0] == domain:
                native, otherwise = types(key, support.get(key))
                opsets, judged, compared = checked(key)
                parts.append(f"| {key[1]} | {opsets} | {native} | {otherwise} | {judged} | {compared} |\n")
    return "".join(parts)


def checked(key: tuple[str, str]) -> tuple[str, str, str]:
    """The cells that follow from lists alone: opsets, suite, onnxruntime."""
    opsets = ", ".join(map(str, operators().get(key, ())))
    of = suite().get(key, Counter())
    host = f", {of['host']} on the host" if of["host"] else ""
    judged = f"{of['passed']} / {of['all']}{host}" if of else ""
    return opsets, judged, str(counts().get(key, ""))


def types(key: tuple[str, str], entry: OperatorSupport | None) -> tuple[str, str]:
    """The cells of the native element types, and of the others."""
    if entry is None:
        return "", "refused: not imported"
    by_dtype = entry.by_dtype or dict.fromkeys(tested_types().get(key, ()), Support.NATIVE)
    native = grouped(dtype for dtype, support in by_dtype.items() if support is Support.NATIVE)
    others: dict[tuple[Support, str], list[str]] = {}
    for dtype, support in by_dtype.items():
        if support is not Support.NATIVE:
            reason = brief(entry.reasons[dtype]).replace(dtype, "$T")  # the same for all types
            others.setdefault((support, reason), []).append(dtype)
    words = {Support.HOST: "host", Support.PARTLY: "partly", Support.NONE: "refused"}
    listed = [
        f"{words[kind]}: {grouped(dtypes)} ({reason.replace('$T', dtypes[0])})"
        for (kind, reason), dtypes in others.items()
    ]
    return native, "; ".join(listed).replace("|", "\\|")


def brief(reason: str) -> str:
    """A reason without the operands; a word where the reason is the kind of values."""
    text = re.sub(r" \(operands: .*\)$", "", reason)
    found = re.fullmatch(r"kernels work on tensors of numbers, not on (string|seq<|optional<|map<).*", text)
    return KINDS[found[1]] if found else text


def grouped(dtypes: Iterable[str]) -> str:
    """Element types, those of a whole group under its name."""
    present: Collection[str] = set(dtypes)
    words: Sequence[str] = []
    for name, members in GROUPS.items():
        inside = [member for member in members if member in present]
        words = [*words, *([name] if len(inside) == len(members) else inside)]
    return ", ".join(words)
