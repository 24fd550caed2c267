"""Plans as JSON: what is read is what was written, and damaged text is a PackageError, never another one."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("triton")

from dlc.api.gpu import plan as p
from dlc.api.gpu.plan_text import from_text, to_data
from dlc.api.gpu.planner import make_plan
from dlc.backends.triton.backend import generate
from dlc.errors import PackageError
from dlc.frontend.onnx.importer import import_model
from dlc.ir.dims import Symbol
from dlc.lowering.lower import lower
from tests.api.small_models import AFFINE, GATHER, parse
from tests.helpers.judged import CASES

#: Few of all: branches, loops, recurrences, selections.
MODELS = {
    "affine": AFFINE,
    "gather": GATHER,
    "lstm": parse(
        "recurrent (float[t, n, 3] x, float[1, 16, 3] w, float[1, 16, 4] r) => (float[t, 1, n, 4] y)",
        "y, h, c = LSTM <hidden_size = 4> (x, w, r)",
    ),
    **{
        case.name: case.model()
        for case in CASES
        if case.name in ("if_on_data", "break_with_stack", "growing_state", "chained_selections")
    },
}
FUNCTIONS = 1000


def planned(name: str) -> p.Plan:
    return make_plan(generate(lower(import_model(MODELS[name]).graph)))[0]


def text_of(plan: Any) -> bytes:
    return json.dumps(to_data(plan)).encode()


#: A step of every kind, whatever today's models need.
EVERYTHING = p.Plan(
    symbols=("n",),
    ranges={"n": (0, None), "a0": (0, None), "m": (0, 9)},
    guards=(p.Condition("<=", Symbol("n"), 7, "too many", "node"),),
    entry_guards=1,
    inputs=(p.Tensor(p.Place(p.INPUT, 0, 0), "f32", (Symbol("n"), 3)),),
    outputs=(p.Tensor(p.Place(p.OUTPUT, 0, 0), "bool", (Symbol("n") * 2 + 1,)),),
    constants=1,
    arena=Symbol("n") * 64,
    workspaces=(64, Symbol("n") * 4),
    growing=1,
    fault_origins=("gather",),
    steps=(
        p.Launch(
            0, (Symbol("n"), 2), (p.Place(p.INPUT, 0, 0), p.Place(p.FAULTS, 0, 0)), (3,), "a", Symbol("n"), 9
        ),
        p.Recur(
            "a0",
            Symbol("n"),
            True,
            (p.Launch(0, (1,), (p.Place(p.WORKSPACE, 0, 0),), (Symbol("a0"),), "b", 0, 0),),
            ((0, 1),),
        ),
        p.Bind("m", p.Place(p.ARENA, 0, Symbol("n") // 2), "i64"),
        p.Check(0),
        p.Set(("m",), (Symbol("m", 0, 9) + 1,)),
        p.Grow(0, 128),
        p.Reserve((64, Symbol("n"))),
        p.Copy(p.Place(p.CONSTANT, 0, 0), p.Place(p.GROWN, 0, 64), 64),
        p.Branch(p.Place(p.ARENA, 0, 0), (p.Check(0),), (), ("m",)),
        p.Repeat(
            None, p.Place(p.ARENA, 0, 0), "m", None, (p.Grow(0, 1),), p.Place(p.ARENA, 0, 8), ("m",), 9, "l"
        ),
        p.Evaluate("kernel k {\n  read p0: f32[3]\n}\n", (p.Place(p.INPUT, 0, 0),), "host", "no template"),
    ),
)


def test_everything_is_read_as_it_was_written() -> None:
    assert from_text(text_of(EVERYTHING), 1) == EVERYTHING
    kinds = {type(step) for step in EVERYTHING.steps}
    assert kinds == set(p.Step.__args__)


@pytest.mark.parametrize("name", MODELS)
def test_plans_of_models_are_read_as_they_were_written(name: str) -> None:
    plan = planned(name)
    assert from_text(text_of(plan), FUNCTIONS) == plan
    assert text_of(from_text(text_of(plan), FUNCTIONS)) == text_of(plan)


def places(data: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value within JSON data."""
    yield path
    if isinstance(data, dict):
        for key, item in data.items():
            yield from places(item, (*path, key))
    elif isinstance(data, list):
        for index, item in enumerate(data):
            yield from places(item, (*path, index))


def replaced(data: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    data = copy.deepcopy(data)
    inner = data
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return data


def read_or_refused(data: Any, functions: int = 1) -> bool:
    """Whether data is a plan; any error but PackageError fails the test."""
    try:
        from_text(json.dumps(data).encode(), functions)
    except PackageError as error:
        assert "plan" in error.message
        return False
    return True


#: Values of every kind of JSON, for every place of a plan.
WRONG: list[Any] = [None, True, -1, 3.5, 1 << 70, "", "zz", [], [None], {}, {"is": "Plan"}]
WRONG += [{"is": "dim", "text": "n +"}, {"is": "dim", "text": "k"}, {"is": "Check", "guard": 7}]
WRONG += [{"is": "map", "items": [[]]}, {"is": "dim"}, {"is": "Nothing"}, {"is": []}]


@pytest.mark.parametrize("wrong", WRONG, ids=str)
def test_every_value_replaced(wrong: Any) -> None:
    data = to_data(EVERYTHING)
    taken = 0
    for path in places(data):
        taken += read_or_refused(replaced(data, path, wrong))
    # Some values fit in some places: names, messages, empty lists.
    assert taken < len(list(places(data))) // 2


def test_every_field_missing() -> None:
    data = to_data(EVERYTHING)
    for path in places(data):
        if path and isinstance(path[-1], str):
            damaged = copy.deepcopy(data)
            inner = damaged
            for key in path[:-1]:
                inner = inner[key]
            del inner[path[-1]]
            assert not read_or_refused(damaged), path


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("steps", 0, "function"), 1),
        (("steps", 0, "grid"), []),
        (("steps", 0, "grid"), [1, 1, 1, 1]),
        (("steps", 0, "pointers", 0, "index"), 1),
        (("steps", 0, "pointers", 0, "kind"), "elsewhere"),
        (("steps", 1, "swapped"), [[0, 2]]),
        (("steps", 1, "swapped"), [[0]]),
        (("steps", 1, "body", 0, "pointers", 0, "index"), 2),
        (("steps", 2, "dtype"), "i65"),
        (("steps", 3, "guard"), 1),
        (("steps", 4, "values"), []),
        (("steps", 5, "index"), 1),
        (("steps", 6, "bytes"), [1, 1, 1]),
        (("steps", 8, "then", 0, "guard"), -1),
        (("steps", 9, "body", 0, "index"), 4),
        (("steps", 10, "kernel"), "kernel k {"),
        (("steps", 10, "places"), []),
        (("guards", 0, "relation"), "=~"),
        (("entry_guards",), 2),
        (("outputs", 0, "dtype"), "text"),
        (("symbols",), ["n", "unknown"]),
        (("ranges", "items", 0, 1), [5, 2]),
    ],
    ids=str,
)
def test_what_a_plan_refers_to_exists(path: tuple[Any, ...], value: Any) -> None:
    assert not read_or_refused(replaced(to_data(EVERYTHING), path, value))


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[]", b"null", b"3", b'{"is": "Plan"}', b"\xff", b"[" * 100_000, b'{"ranges": NaN}']
)
def test_what_is_no_plan(text: bytes) -> None:
    with pytest.raises(PackageError):
        from_text(text, 1)


def test_random_damage() -> None:
    """Bytes of the text changed at random."""
    text = text_of(planned("break_with_stack"))
    generator = np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        damaged = bytearray(text)
        for at in generator.integers(0, len(text), generator.integers(1, 4)):
            damaged[at] = generator.integers(32, 127)
        try:
            from_text(bytes(damaged), FUNCTIONS)
        except PackageError:
            refused += 1
    assert refused > 200
