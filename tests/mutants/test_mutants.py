"""The tests of the tests: each planted fault is found by a small suite, which finds nothing without it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.mutants.faults import CODE, FAULTS, LOWERING, PASSES, RUNTIME
from tests.mutants.plant import Fault, NotPlantableError
from tests.mutants.specimens import BUILDERS

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def suite() -> Iterator[Callable[[str], str | None]]:
    """`suite(name)` is what the suite finds when the fault of that name is planted."""
    command = [sys.executable, "-m", "tests.mutants.server"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as server:
        assert server.stdin is not None and server.stdout is not None
        requests, answers = server.stdin, server.stdout

        def found(name: str) -> str | None:
            requests.write(json.dumps(name) + "\n")
            requests.flush()
            answer: str | None = json.loads(answers.readline())
            return answer

        yield found
        requests.close()


def test_the_suite_finds_nothing_in_the_compiler_itself(suite: Callable[[str], str | None]) -> None:
    assert suite("") is None


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_planted_fault_is_found(fault: Fault, suite: Callable[[str], str | None]) -> None:
    answer = suite(fault.name)
    assert answer is not None, "the suite does not see this fault"
    assert not answer.startswith("cannot be planted"), answer
    assert "InternalError" not in answer, f"the fault breaks the compiler instead of its results: {answer}"


def test_faults_are_many_and_everywhere() -> None:
    assert len(FAULTS) >= 30 and len({fault.name for fault in FAULTS}) == len(FAULTS)
    assert min(map(len, (PASSES, LOWERING, CODE, RUNTIME))) >= 2
    assert {fault.seen_in for fault in FAULTS} <= set(BUILDERS)
    assert set(BUILDERS) == {fault.seen_in for fault in FAULTS}, "a specimen shows no fault"


def test_a_fault_is_planted_and_taken_out_again() -> None:
    from dlc.lowering import memory, placement
    from dlc.lowering.rules import formulas, registry

    registry.lowered_operators()
    first, second = memory.Lifetime("a", 64, 0, 2), memory.Lifetime("b", 64, 2, 3)
    fault = next(fault for fault in FAULTS if fault.where == "lowering.memory:Lifetime.overlaps")
    with fault.planted():
        assert not first.overlaps(second)
    assert first.overlaps(second)

    relu, nbytes = formulas.relu, placement.nbytes
    for where in ("lowering.rules.formulas:relu", "lowering.placement:nbytes"):
        with next(fault for fault in FAULTS if fault.where == where).planted():
            assert (
                (formulas.relu is relu) == (formulas.UNARY_FORMULAS["relu"] is relu) == ("placement" in where)
            )
            assert (placement.nbytes is nbytes) == ("formulas" in where)
    assert formulas.UNARY_FORMULAS["relu"] is formulas.relu is relu


@pytest.mark.parametrize(
    ("where", "right"),
    [
        ("lowering.memory:Lifetime.overlap", "self.first"),
        ("lowering.nothing:function", "text"),
        ("lowering.memory:Lifetime.overlaps", "text that is not there"),
        ("lowering.memory:Lifetime.overlaps", "other"),
    ],
)
def test_a_fault_that_no_longer_applies_says_so(where: str, right: str) -> None:
    with pytest.raises(NotPlantableError), Fault("stale", "memory", where, right, "").planted():
        pass
