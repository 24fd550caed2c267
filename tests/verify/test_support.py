"""The table of operators says what lowering says: native, on the host, partly, or not compiled."""

from __future__ import annotations

import pytest

from dlc.ir.graph import Node
from dlc.ir.ops.movement import Trilu
from dlc.ir.ops.pointwise import Unary
from dlc.lowering.draft import Draft
from dlc.lowering.rules import registry
from dlc.verify.samples import samples
from dlc.verify.support import DTYPES, FURTHER_DTYPES, Support, _sampled, operator_support


def one(name: str) -> dict[str, Support]:
    entries = [entry for entry in operator_support([name]) if entry.domain == ""]
    assert len(entries) == 1
    return dict(entries[0].by_dtype)


def test_every_type_of_the_schema_is_tried() -> None:
    assert one("Relu")["f32"] is Support.NATIVE and set(one("Relu")) >= {
        "f32",
        "f16",
        "bf16",
        "f64",
        "i8",
        "i64",
    }
    assert set(one("And")) == {"bool"}
    assert "bool" not in one("MatMul")
    assert one("Reshape")["f32"] is Support.NATIVE  # its shape becomes a constant


def test_hosts_are_told_with_their_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    registry.lowered_operators()

    def halfway(draft: Draft, node: Node) -> None:
        raise registry.NotLowered("planted")

    monkeypatch.setitem(registry._RULES, Unary, halfway)
    (entry,) = operator_support(["Erf"])
    assert entry.by_dtype["f32"] is Support.HOST and entry.reasons["f32"] == "planted"
    assert entry.to_dict()["dtypes"]["f32"] == "host"


def test_what_is_partly_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    registry.lowered_operators()
    rule = registry._RULES[Trilu]

    def upper_only(draft: Draft, node: Node) -> None:
        assert isinstance(node.op, Trilu)
        if not node.op.upper:
            raise registry.NotLowered("planted")
        rule(draft, node)

    monkeypatch.setitem(registry._RULES, Trilu, upper_only)
    (entry,) = (entry for entry in operator_support(["Trilu"]) if entry.domain == "")
    assert entry.by_dtype["f32"] is Support.PARTLY and entry.reasons["f32"] == "planted"


def test_what_fixes_another_type_is_not_held_against_it() -> None:
    for name in ("BitCast", "Bernoulli", "Constant", "EyeLike", "LinearAttention"):
        assert Support.NONE not in one(name).values() and one(name)["f16"] is Support.NATIVE
    assert one("SplitToSequence")["f16"] is Support.HOST
    assert one("Scan")["bool"] is Support.NATIVE
    assert one("MeanVarianceNormalization")["f32"] is Support.NATIVE  # onnx cannot infer its types
    (entry,) = operator_support(["LabelEncoder"])
    assert {
        "f32": Support.NATIVE,
        "f64": Support.NATIVE,
        "string": Support.HOST,
    }.items() <= entry.by_dtype.items()


def test_types_beyond_numbers() -> None:
    assert one("Reshape")["string"] is Support.HOST and one("Reshape")["u4"] is Support.NATIVE
    (entry,) = (entry for entry in operator_support(["TfIdfVectorizer"]))
    assert entry.reasons["string"].startswith("kernels work on tensors of numbers, not on string")


@pytest.mark.parametrize("key", sorted(samples()), ids=lambda key: ".".join(filter(None, key)))
def test_samples_are_compiled(key: tuple[str, str]) -> None:
    for sample in samples()[key]:
        tried = (_sampled(sample, onnx_name) for onnx_name in (*DTYPES, *FURTHER_DTYPES))
        outcome = next(outcome for outcome in tried if outcome is not None)
        assert outcome.support in (Support.NATIVE, Support.HOST), outcome.reason


def test_progress_and_operators_without_a_test() -> None:
    heard: list[str] = []
    entries = operator_support(["Trilu"], heard.append)
    extension = next(entry for entry in entries if entry.domain == "com.microsoft")
    assert extension.by_dtype == {} and extension.since and heard == ["Trilu"] * len(entries)
