"""docs/operators.md says what the tests say."""

from __future__ import annotations

from collections import Counter

import pytest

from dlc.frontend.onnx.registry import operators
from dlc.verify.support import operator_support
from tests.frontend.contrib.test_operators import STRUCTURES
from tests.operators_table.counting import counts
from tests.operators_table.table import PATH, README, checked, grouped, known, summary, types

RENEW = "python -m tests.operators_table writes it anew"


def rows() -> dict[tuple[str, str], list[str]]:
    """The cells of each operator as they stand in the file."""
    found: dict[tuple[str, str], list[str]] = {}
    domain = ""
    for line in PATH.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            domain = line[3:].replace("ai.onnx", "") if line == "## ai.onnx" else line[3:]
        elif line.startswith("| ") and not line.startswith("| operator "):
            cells = [cell.strip() for cell in line.replace("\\|", "/").strip("|").split("|")]
            found[domain, cells[0]] = cells[1:]
    return found


def test_every_operator_is_listed_with_its_opsets_and_counts() -> None:
    listed = rows()
    assert sorted(listed) == known(), RENEW
    stale = {key: cells for key, cells in listed.items() if (cells[0], cells[3], cells[4]) != checked(key)}
    assert stale == {}, RENEW


def test_figures_of_the_suite() -> None:
    assert summary() in PATH.read_text(encoding="utf-8"), RENEW
    assert summary() in README.read_text(encoding="utf-8"), RENEW


@pytest.mark.parametrize(
    ("domain", "name"),
    [
        *[("", name) for name in ("Add", "Cast", "Constant", "Conv", "Col2Im", "Reshape", "StringConcat")],
        *[("", name) for name in ("SequenceAt", "TfIdfVectorizer", "QuantizeLinear")],
        *[("ai.onnx.ml", name) for name in ("LabelEncoder", "Scaler", "ZipMap")],
        *[("com.microsoft", name) for name in ("FusedMatMul", "QLinearAdd", "Range")],
        ("ai.onnx.preview.training", "Gradient"),
    ],
)
def test_element_types(domain: str, name: str) -> None:
    entries = {(entry.domain, entry.name): entry for entry in operator_support([name])}
    native, otherwise = types((domain, name), entries.get((domain, name)))
    assert rows()[domain, name][1:3] == [native, otherwise.replace("\\|", "/")], RENEW


def test_every_operator_has_types_or_a_reason() -> None:
    assert [key for key, cells in rows().items() if not cells[1] and not cells[2]] == []
    assert [key for key in operators() if "not imported" in rows()[key][2]] == []


def test_onnxruntime_s_operators_are_compared_as_often_as_there_are_generated_cases() -> None:
    generated: Counter[tuple[str, str]] = Counter()
    for structure in STRUCTURES:
        generated[structure.domain, structure.op_type] += len(structure.sizes)
    missing = {key: number for key, number in generated.items() if counts().get(key, 0) < number}
    assert missing == {}, "python -m tests.operators_table --count counts anew"


def test_groups_of_types() -> None:
    assert grouped(["f32", "f64", "bf16", "f16", "i8", "bool"]) == "floats, i8, bool"
    assert grouped(["c64", "c128", "u4"]) == "u4, complex"
