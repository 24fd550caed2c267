"""Campaigns: many cases, each in a child process, and what was found."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from dlc.errors import ResourceError, printable
from dlc.fuzz.case import Case
from dlc.verify.examine import Examination, Finished, Symptom, in_child

#: Bounds of one case.
SECONDS = 60.0
MEMORY = 4 << 30

#: How many numbers of cases are printed for one reason.
_SHOWN = 10

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Finding:
    """A case with a symptom: its number, how to make it again, and where it was written (if it was)."""

    index: int
    symptom: Symptom
    operators: tuple[str, ...]
    reproduce: str
    folder: Path | None = None

    def to_dict(self) -> dict[str, Any]:
        """The finding as JSON-compatible data."""
        return {
            "index": self.index,
            "kind": self.symptom.kind.value,
            "text": self.symptom.text,
            "operators": list(self.operators),
            "reproduce": self.reproduce,
            "folder": None if self.folder is None else str(self.folder),
        }

    def __str__(self) -> str:
        where = f"\n    in {self.folder}" if self.folder is not None else ""
        operators = printable(" ".join(self.operators), 300)
        head = printable(str(self.symptom), 600)
        return f"  {self.index}: {head}\n    {operators}{where}\n    {self.reproduce}"


@dataclass
class Campaign:
    """What a campaign did: how the cases ended, and the findings. True in a condition without findings.

    `unsupported` numbers the cases by the operators and reasons for which they were refused, `doubts` by the
    reasons why they were inconclusive, or by the codes of the errors that they ended in.
    """

    title: str
    seed: int
    debug_codegen: bool = False
    cases: int = 0
    finished: Counter[str] = field(default_factory=Counter)
    unsupported: defaultdict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    doubts: defaultdict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    findings: list[Finding] = field(default_factory=list)

    def __bool__(self) -> bool:
        return not self.findings

    def count(self, index: int, examination: Examination) -> None:
        """Enter case number `index`."""
        self.cases += 1
        if examination.symptom is not None:
            self.finished[examination.symptom.kind.value] += 1
            return
        self.finished[examination.finished.value] += 1
        kinds = self.unsupported if examination.finished is Finished.UNSUPPORTED else self.doubts
        for note in examination.notes:
            kinds[note.split(" about ")[0]].append(index)

    def to_dict(self) -> dict[str, Any]:
        """The campaign as JSON-compatible data."""
        return {
            "campaign": self.title,
            "seed": self.seed,
            "debug_codegen": self.debug_codegen,
            "cases": self.cases,
            "finished": dict(self.finished.most_common()),
            "unsupported": dict(self.unsupported),
            "doubts": dict(self.doubts),
            "findings": [finding.to_dict() for finding in self.findings],
        }

    def __str__(self) -> str:
        lines = [f"{self.cases} {self.title} of seed {self.seed}: {len(self.findings)} findings"]
        lines.append("  " + ", ".join(f"{name} {count}" for name, count in self.finished.most_common()))
        for title, kinds in (("unsupported: ", self.unsupported), ("", self.doubts)):
            for name, cases in sorted(kinds.items(), key=lambda item: -len(item[1])):
                shown = ", ".join(map(str, cases[:_SHOWN])) + (", ..." if len(cases) > _SHOWN else "")
                lines.append(f"    {len(cases)} {title}{printable(name, 200)} ({shown})")
        return "\n".join([*lines, *map(str, self.findings)])


def fuzz_graphs(
    count: int,
    seed: int = 0,
    *,
    start: int = 0,
    out: Path | None = None,
    reduce: bool = True,
    debug_codegen: bool = False,
    progress: Progress | None = None,
) -> Campaign:
    """Compile and run `count` random graphs and compare the results with onnxruntime and the reference.

    `start` is the number of the first case; `out` a folder for findings, which `reduce` also makes small;
    `debug_codegen` has the generated code check its accesses to memory. What no two engines
    agree on is inconclusive. Raises ResourceError when a finding cannot be written.
    """
    from dlc.fuzz.graphs import examine_case, make_case

    campaign = Campaign("random graphs", seed, debug_codegen=debug_codegen)
    options = {"debug_codegen": debug_codegen}
    examine = partial(examine_case, options=options)
    make = partial(make_case, options=options)
    _run(campaign, range(start, start + count), examine, make, "--graphs", out, reduce, progress)
    return campaign


def fuzz_bytes(
    count: int,
    seed: int = 0,
    *,
    start: int = 0,
    out: Path | None = None,
    reduce: bool = True,
    debug_codegen: bool = False,
    progress: Progress | None = None,
) -> Campaign:
    """Damage `count` model files and see that nothing but a typed error comes out; otherwise as fuzz_graphs.

    A damaged model that still compiles is run, but its results are compared with nothing.
    """
    from dlc.fuzz.damage import examine_damaged, make_damaged

    campaign = Campaign("damaged files", seed, debug_codegen=debug_codegen)

    def examine(seed: int, index: int, _: bool) -> Examination:
        return examine_damaged(seed, index, debug_codegen)

    _run(campaign, range(start, start + count), examine, make_damaged, "--bytes", out, reduce, progress)
    return campaign


def _run(
    campaign: Campaign,
    numbers: Sequence[int],
    examine: Callable[[int, int, bool], Examination],
    make: Callable[[int, int], Case | bytes],
    option: str,
    out: Path | None,
    reduce: bool,
    progress: Progress | None,
) -> None:
    """All cases in order."""
    from dlc.fuzz.writing import write_finding

    _warm_up()
    for index in numbers:
        child = partial(examine, campaign.seed, index)
        examination = in_child(child, seconds=SECONDS, memory=MEMORY)
        campaign.count(index, examination)
        if examination.symptom is None:
            continue
        debug = " --debug-codegen" if campaign.debug_codegen else ""
        command = f"dlc fuzz {option} 1 --seed {campaign.seed} --start {index}{debug}"
        finding = Finding(index, examination.symptom, (), command)
        finding = write_finding(finding, partial(make, campaign.seed, index), out, reduce)
        campaign.findings.append(finding)
        if progress is not None:
            progress(str(finding))


def _warm_up() -> None:
    """Load in this process what every child needs, so that it is loaded once."""
    import onnx
    import onnxruntime  # noqa: F401

    from dlc.fuzz.generate import generate
    from dlc.verify.engines import Reference
    from dlc.verify.examine import examine

    text = '<ir_version: 8, opset_import: ["" : 17]> g (float[n, 3] x) => (float[n, 3] y) { y = Relu (x) }'
    model = onnx.parser.parse_model(text)
    found = examine(model, [], options={"threads": 1})
    if found.finished is not Finished.AGREES or found.symptom is not None:
        raise ResourceError(f"dlc does not compile anything here: {found.symptom or found.notes}")
    Reference(model)
    generate(0, 0)
