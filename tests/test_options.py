"""Options, Limits and Environment: validation, freezing, round trips and cache keys."""

from __future__ import annotations

import pickle
from dataclasses import FrozenInstanceError, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from dlc.errors import InputError, LimitError
from dlc.limits import Limits
from dlc.options import Environment, Options

FULL = Options(
    target=["x86-64-v3", "x86-64-v4"],
    shapes={"batch": (1, 8, 64), "seq": 128, "x": ("batch", None, 224)},
    precision="bf16",
    accuracy="fast",
    optimize=3,
    threads=2,
    strict=True,
    memory="low",
    outputs=("hidden",),
    alias={"past": "present"},
    tune=True,
    cache=False,
    debug_codegen=True,
    isolate=True,
    limits=Limits(nodes=10),
    external_data_dir="weights",
)


@pytest.mark.parametrize("options", [Options(), FULL])
def test_round_trips(options: Options) -> None:
    for copy in (Options.from_json(options.to_json()), pickle.loads(pickle.dumps(options)), replace(options)):
        assert copy == options and hash(copy) == hash(options) and copy.key() == options.key()


def test_values_are_normalised_and_read_only() -> None:
    assert FULL.target == ("x86-64-v3", "x86-64-v4") == FULL.targets
    assert Options().targets == ("native",)
    assert Options(shapes={"x": [1, np.int64(3)]}).shapes["x"] == (1, 3)
    assert Options(external_data_dir=Path("a") / "b").external_data_dir == "a/b"
    with pytest.raises(TypeError):
        FULL.shapes["batch"] = 1
    with pytest.raises(FrozenInstanceError):
        FULL.strict = False


@pytest.mark.parametrize(
    "bad",
    [
        {"target": ""},
        {"target": []},
        {"target": ["native", "native"]},
        {"shapes": {"batch": -1}},
        {"shapes": {"batch": "8"}},
        {"shapes": {"batch": True}},
        {"shapes": {"": 1}},
        {"shapes": [1]},
        {"precision": "int8"},
        {"accuracy": None},
        {"optimize": 4},
        {"optimize": True},
        {"threads": 0},
        {"strict": 1},
        {"memory": "lots"},
        {"outputs": "hidden"},
        {"alias": {"past": "present", "past2": "present"}},
        {"limits": {}},
        {"external_data_dir": 3},
    ],
)
def test_invalid_values_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(InputError) as caught:
        Options(**bad)
    assert caught.value.code == "input/option" and next(iter(bad)) in str(caught.value)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(InputError, match="unknown option 'optimise'"):
        Options.from_dict({"optimise": 3})
    with pytest.raises(InputError, match="unknown limit"):
        Options.from_dict({"limits": {"elephants": 1}})


def test_the_key_ignores_what_does_not_change_the_code_and_order() -> None:
    base = Options(shapes={"a": 1, "b": 2})
    same = Options(shapes={"b": 2, "a": 1}, threads=3, cache=False, external_data_dir="x", isolate=True)
    assert base.key() == same.key() and base != same
    free = {"threads", "cache", "external_data_dir", "isolate"}
    changed = {item.name: getattr(FULL, item.name) for item in fields(Options) if item.name not in free}
    keys = {Options(**{name: value}).key() for name, value in changed.items()} | {base.key(), Options().key()}
    assert len(keys) == len(changed) + 2


@settings(deadline=None)
@given(st.dictionaries(st.text(min_size=1), st.one_of(st.integers(0, 1 << 40), st.tuples(st.integers(0, 9)))))
def test_any_shapes_round_trip(shapes: dict[str, Any]) -> None:
    assert Options.from_json(Options(shapes=shapes).to_json()).shapes == shapes


def test_limits_check_names_the_field_to_raise() -> None:
    limits = Limits(nodes=3)
    limits.check("nodes", 3, "nodes of the graph")
    with pytest.raises(LimitError, match=r"4 exceeds the limit of 3.*Limits\(nodes=4\)"):
        limits.check("nodes", 4, "nodes of the graph", node="loop")


@pytest.mark.parametrize("name", [field.name for field in fields(Limits)])
def test_limits_are_positive_integers(name: str) -> None:
    for value in (0, -1, True, 1.5, None):
        if value == 0 and name == "decoded_pixels":
            assert Limits.from_dict({name: value}).decoded_pixels == 0  # what it bounds is off
            continue
        with pytest.raises(InputError, match=name):
            Limits.from_dict({name: value})


def test_environment() -> None:
    assert Environment.read({}) == Environment(None, None, False)
    variables = {"DLC_NUM_THREADS": "4", "DLC_CACHE_DIR": "/c", "DLC_DEBUG": "1"}
    assert Environment.read(variables) == Environment(4, "/c", True)
    assert not Environment.read({"DLC_DEBUG": "0"}).debug
    for bad in ("0", "-1", "two", "9999999"):
        with pytest.raises(InputError, match="DLC_NUM_THREADS"):
            Environment.read({"DLC_NUM_THREADS": bad})
