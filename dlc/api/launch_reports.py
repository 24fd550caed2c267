"""The launches of a program for reports and profiles: functions, nodes, and the work that they do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from dlc.api.report import KernelReport, WorkReport
from dlc.ir.dims import free_symbols, to_text

if TYPE_CHECKING:
    from dlc.backends.cpu.backend import GeneratedCode
    from dlc.lowering.costs import Work
    from dlc.lowering.program import Step


def launch_reports(code: GeneratedCode) -> tuple[KernelReport, ...]:
    """One report a function of each launch, in the order of the steps."""
    from dlc.lowering.costs import kernel_work
    from dlc.lowering.program import Launch, walk

    steps = code.program.steps
    varying = frozenset(_varying(steps))
    works = [_work_report(kernel_work(kernel.kernel), varying) for kernel in code.kernels]
    reports: list[KernelReport] = []
    for number, step in enumerate(walk(steps)):
        if isinstance(step, Launch):
            kernel = code.kernels[step.kernel]
            *before, last = kernel.functions
            reports += [KernelReport(name, kernel.template, step.origins, number) for name in before]
            reports.append(KernelReport(last, kernel.template, step.origins, number, works[step.kernel]))
    return tuple(reports)


def _work_report(work: Work, varying: frozenset[str]) -> WorkReport | None:
    """The work as text; None where it depends on one of the `varying` symbols."""
    dims = (work.flops, work.reads, work.writes)
    if any(symbol.name in varying for dim in dims for symbol in free_symbols(dim)):
        return None
    flops, reads, writes = map(to_text, dims)
    return WorkReport(flops, reads, writes, work.dtype.text if work.dtype else "")


def _varying(steps: Iterable[Step], in_loop: bool = False) -> Iterator[str]:
    """The symbols that may have other numbers in each iteration of some loop."""
    from dlc.lowering.program import Bind, Branch, Measure, Repeat, Set

    for step in steps:
        match step:
            case Repeat():
                yield from (symbol.name for symbol in (step.number, *step.symbols))
                yield from _varying(step.body, True)
            case Branch():
                yield from (symbol.name for symbol in step.symbols if in_loop)
                yield from _varying((*step.then, *step.otherwise), in_loop)
            case Bind() | Measure() if in_loop:
                yield step.symbol.name
            case Set() if in_loop:
                yield from (symbol.name for symbol in step.symbols)
