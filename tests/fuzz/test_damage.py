"""Damaged files: every kind of damage, the same for the same seed, and what becomes of them."""

from __future__ import annotations

from collections import Counter

import onnx
import pytest

from dlc.errors import InternalError, ModelError
from dlc.fuzz import damage
from dlc.fuzz.damage import examine_damaged, make_damaged
from dlc.fuzz.generate import generate
from dlc.fuzz.sampling import Chance
from dlc.verify.examine import Finished, Kind

SOURCE = generate(3, 1).model.SerializeToString()


def test_the_same_seed_gives_the_same_file() -> None:
    assert [make_damaged(1, index) for index in range(5)] == [make_damaged(1, index) for index in range(5)]
    assert make_damaged(1, 0) != make_damaged(2, 0)


@pytest.mark.parametrize("edit", ["_flip", "_set", "_truncate", "_insert", "_repeat", "_remove"])
def test_each_edit_changes_the_bytes(edit: str) -> None:
    changed = 0
    for index in range(20):
        content = bytearray(SOURCE)
        getattr(damage, edit)(Chance(0, index), content)
        changed += bytes(content) != SOURCE
        assert len(content) <= len(SOURCE) + 300
    assert changed > 15


def test_changes_of_the_message_keep_it_readable() -> None:
    changed = 0
    for index in range(60):
        content = damage._damage_message(Chance(0, index), SOURCE)
        onnx.load_model_from_string(content)
        changed += content != SOURCE
    assert changed > 50


def test_a_value_becomes_another_of_its_kind() -> None:
    chance = Chance(0, 0)
    for value in (True, 3, 0.5, "name", b"bytes"):
        others = {repr(damage._other(chance, value)) for _ in range(50)}
        assert others - {repr(value)}
        assert all(type(damage._other(chance, value)) is type(value) for _ in range(50))


def test_damaged_files_compile_or_are_refused() -> None:
    ends = Counter(examine_damaged(4, index).finished for index in range(30))
    assert ends[Finished.REFUSED] > 10 and ends[Finished.AGREES] > 1
    assert sum(ends.values()) == ends[Finished.REFUSED] + ends[Finished.AGREES]


@pytest.mark.parametrize("error", [InternalError("planted"), KeyError("planted"), RecursionError("planted")])
def test_any_other_error_is_a_symptom(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("dlc.api.compile", broken)
    symptom = examine_damaged(4, 0).symptom
    assert symptom is not None and symptom.kind is Kind.ERROR and type(error).__name__ in symptom.text


def test_typed_errors_are_told_by_their_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ModelError("planted", code="model/planted")

    monkeypatch.setattr("dlc.api.compile", refuse)
    examination = examine_damaged(4, 0)
    assert examination.finished is Finished.REFUSED and examination.notes == ("model/planted",)
