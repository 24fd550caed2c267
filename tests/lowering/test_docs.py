"""docs/kernel-ir.md: its kernels are sound, its examples are those that are tested."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dlc.lowering import expr as e
from dlc.lowering.kernel import Monoid
from dlc.lowering.parse import parse
from dlc.lowering.schedule import parse_schedule, schedule_text, verify_schedule
from dlc.lowering.text import kernel_symbols, to_text
from dlc.lowering.verify import verify_kernel

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "kernel-ir.md").read_text()
BLOCKS = re.findall(r"^```(?:python)?\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
GOLDEN = "".join(path.read_text() for path in (ROOT / "tests" / "lowering" / "golden").glob("*.txt"))


def blocks(word: str) -> list[str]:
    return [block for block in BLOCKS if block.startswith(word)]


@pytest.mark.parametrize("text", blocks("kernel m"))
def test_kernels(text: str) -> None:
    kernel = parse(text)
    verify_kernel(kernel)
    assert to_text(kernel) == text


@pytest.mark.parametrize("text", blocks("schedule w"))
def test_schedules(text: str) -> None:
    kernel = parse((ROOT / "tests" / "lowering" / "golden" / "conv_bias_residual_relu.txt").read_text())
    schedule = parse_schedule(text, {symbol.name: symbol for symbol in kernel_symbols(kernel)})
    verify_schedule(schedule, kernel)
    assert schedule_text(schedule) == text


def test_worked_examples_are_lines_of_the_golden_kernels() -> None:
    lines = [line for word in ("for ", "update ") for block in blocks(word) for line in block.splitlines()]
    assert len(lines) >= 11
    for line in lines:
        assert line in GOLDEN


def test_every_word_of_the_language_is_explained() -> None:
    words = [*e.UNARY, *e.BINARY, *(monoid.value for monoid in Monoid), *(mode.value for mode in e.CastMode)]
    assert not [word for word in words if word != "rne" and not re.search(rf"\b{word}\b", TEXT)]
