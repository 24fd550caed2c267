"""The list of what dlc does not do yet."""

from __future__ import annotations

from tests.helpers.model_zoo import Gaps, real_models
from tests.models.architectures import architectures

GAPS = Gaps.load()


def test_gaps_are_of_models_in_the_lists() -> None:
    names = [model.name for model in (*real_models(), *architectures())]
    assert len(set(names)) == len(names)
    assert {*GAPS.host, *GAPS.unsupported} <= set(names)
    assert not set(GAPS.host) & set(GAPS.unsupported)


def test_every_gap_has_a_reason() -> None:
    gaps = [gap for gaps in GAPS.host.values() for gap in gaps.values()]
    assert all(gap["nodes"] > 0 for gap in gaps)
    assert all(len(gap["reason"]) > 20 for gap in (*gaps, *GAPS.unsupported.values()))
