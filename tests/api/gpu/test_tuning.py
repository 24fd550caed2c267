"""Choosing ways to run kernels: by what was measured, kept, and never one that spills."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

pytest.importorskip("triton")

import dlc
from dlc.api.gpu import functions
from dlc.api.gpu.functions import compile_program
from dlc.api.gpu.interpreted import InterpretedMachine
from dlc.api.gpu.tuning import Tuner, typical_sizes
from dlc.backends.triton.choices import Choices
from dlc.backends.triton.footprint import Footprint
from dlc.errors import UnsupportedError
from dlc.frontend.onnx.importer import import_model
from dlc.ir.dims import Symbol
from dlc.lowering.lower import lower
from dlc.lowering.program import Program
from dlc.options import Options
from dlc.runtime.records import Records
from dlc.target import resolve_gpu

TARGET = resolve_gpu("cuda:sm_90")


class Stopwatch(InterpretedMachine):
    """Runs nothing, and gives the times of a list, one a measurement."""

    def __init__(self, times: list[float]) -> None:
        super().__init__([])
        self.times = times

    def prepare(self, function: int, grid: tuple[int, ...], values: Sequence[int]) -> Any:
        assert all(value % 16 == 0 for value in values[:2])
        return lambda: None

    def time(self, work: Callable[[], object], repeats: int) -> float:
        work()
        return self.times.pop(0)


@pytest.fixture(scope="module")
def model() -> bytes:
    weight = np.random.default_rng(0).standard_normal((64, 96)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 96])],
        [numpy_helper.from_array(weight, "w")],
    )
    content = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    onnx.checker.check_model(content)
    return content.SerializeToString()


@pytest.fixture
def program(model: bytes) -> Program:
    return lower(import_model(model).graph)


@pytest.fixture
def tuner(tmp_path: Path) -> Tuner:
    return Tuner(TARGET, Records(tmp_path / "measured.sqlite"), {"rows": 128})


def work_of(program: Program, choices: Choices) -> tuple[str, int, int]:
    """The key, the way and the number of ways of the only piece of work that has several."""
    code = compile_program(program, TARGET, choices).code
    works = {call.work for kernel in code.kernels for call in kernel.calls if call.work}  # type: ignore[union-attr]
    (work,) = works
    return work.key, work.way, work.ways


def test_the_fastest_way_is_taken_and_kept(program: Program, tuner: Tuner) -> None:
    key, way, ways = work_of(program, Choices())
    assert way == 0
    assert ways > 2
    times = [float(2 + number) for number in range(ways)]
    times[2] = 1.0
    found = tuner.tune(program, lambda _: Stopwatch(times))
    assert found.chosen == {key: 2}
    assert work_of(program, found)[1] == 2
    assert tuner.known(program).chosen == {key: 2}
    # Nothing is measured twice.
    assert tuner.tune(program, lambda _: pytest.fail("measured again")).chosen == {key: 2}


def test_records_are_of_the_sizes_that_were_measured(program: Program, tuner: Tuner) -> None:
    key, _, ways = work_of(program, Choices())
    tuner.tune(program, lambda _: Stopwatch([1.0] * ways))
    other = Tuner(TARGET, tuner.records, {"rows": 1})
    assert other.known(program).chosen == {}
    assert tuner.known(program).chosen == {key: 0}


def test_a_record_of_a_way_that_is_not_there_is_ignored(program: Program, tuner: Tuner) -> None:
    assert tuner.records is not None
    _, _, ways = work_of(program, Choices())
    tuner.tune(program, lambda _: Stopwatch([1.0] * ways))
    (record,) = tuner.records.all()
    for choice in (99, -1, "fast", None):
        tuner.records.put(type(record)(record.work, record.device, record.versions, choice, 1.0))
        assert tuner.known(program).chosen == {}


def test_ways_that_spill_give_way(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    first = compile_program(program, TARGET, Choices()).binaries[0].code
    monkeypatch.setattr(functions, "footprint", lambda code: Footprint(255, 64 if code == first else 0))
    choices = Choices()
    key, way, _ = work_of(program, choices)
    assert way == 1
    assert choices.chosen == {key: 1}


def test_the_last_way_is_taken_where_all_spill(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(functions, "footprint", lambda _: Footprint(255, 64))
    _, way, ways = work_of(program, Choices())
    assert way == ways - 1


def test_sizes_are_hints_or_guesses_within_their_ranges(program: Program) -> None:
    assert typical_sizes(program, Options()) == {"rows": 64}
    assert typical_sizes(program, Options(shapes={"rows": (1, 7, 9)})) == {"rows": 7}
    (symbol,) = program.symbols
    narrow = Program(**{**vars(program), "symbols": (Symbol(symbol.name, 1, 3),)})
    assert typical_sizes(narrow, Options()) == {"rows": 3}


def test_tuning_needs_the_gpu_at_hand(model: bytes) -> None:
    with pytest.raises(UnsupportedError, match="GPU at hand"):
        dlc.compile(model, target="cuda:sm_90", tune=True, cache=False)
