"""What was done to a model: phases, kernels, fusions with reasons, native share, memory, work."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from dlc.errors import Finding, printable


@dataclasses.dataclass(frozen=True)
class WorkReport:
    """What a launch computes and moves, as numbers or texts of dims over the model's symbols.

    `flops` of contractions, 2 a term, in `dtype` (empty: it has none); bytes of parameters read and written.
    """

    flops: str
    reads: str
    writes: str
    dtype: str = ""


@dataclasses.dataclass(frozen=True)
class KernelReport:
    """One launch: its kernel's function and template, and the ONNX nodes that it computes.

    `step` is the number of its step in the program; -1 where that was not kept. `work` is None where nothing
    but a loop's iteration tells how much it is, and for all but the last function of a step.
    """

    function: str
    template: str
    nodes: tuple[str, ...]
    step: int = -1
    work: WorkReport | None = None

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> KernelReport:
        """The inverse of `dataclasses.asdict`."""
        work = data.get("work")
        made = WorkReport(**work) if work else None
        return cls(**{**data, "nodes": tuple(data["nodes"]), "work": made})


@dataclasses.dataclass(frozen=True)
class FusionReport:
    """Whether two groups of nodes share a kernel, and why (not)."""

    producer: str
    consumer: str
    fused: bool
    reason: str


@dataclasses.dataclass(frozen=True)
class HostReport:
    """A node that runs on the host, why, and what Python handles for it in a call."""

    node: str
    operator: str
    reason: str
    cost: str = ""

    def __str__(self) -> str:
        cost = f"; {self.cost} a call" if self.cost else ""
        return f"{self.node} ({self.operator}): {self.reason}{cost}"


@dataclasses.dataclass(frozen=True)
class Report:
    """The report of a compilation. Seconds are wall time; bytes of the arena are text when sizes are
    symbolic. Phases and passes are known where the model was compiled, not where it was loaded.
    """

    model: str
    target: str
    phases: tuple[tuple[str, float], ...]
    nodes: int
    kernels: tuple[KernelReport, ...]
    hosts: tuple[HostReport, ...]
    fusions: tuple[FusionReport, ...]
    rewrites: tuple[tuple[str, int], ...]
    constant_bytes: int
    arena_bytes: str
    code_bytes: int
    passes: tuple[tuple[str, float], ...] = ()

    @property
    def native_share(self) -> float:
        """The share of steps that run in generated code."""
        steps = len(self.kernels) + len(self.hosts)
        return len(self.kernels) / steps if steps else 1.0

    def to_json(self) -> str:
        """The report as JSON."""
        return json.dumps(dataclasses.asdict(self) | {"native_share": self.native_share}, indent=1)

    def to_html(self) -> str:
        """The report as one HTML page, which loads nothing from elsewhere and runs nothing."""
        from dlc.api.report_html import report_html

        return report_html(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Report:
        """The inverse of `dataclasses.asdict`."""
        return cls(
            **{
                **data,
                "phases": tuple((name, seconds) for name, seconds in data["phases"]),
                "passes": tuple((name, seconds) for name, seconds in data.get("passes", ())),
                "rewrites": tuple((name, count) for name, count in data["rewrites"]),
                "kernels": tuple(map(KernelReport.from_dict, data["kernels"])),
                "hosts": tuple(HostReport(**h) for h in data["hosts"]),
                "fusions": tuple(FusionReport(**f) for f in data["fusions"]),
            }
        )

    def __str__(self) -> str:
        fused = sum(f.fused for f in self.fusions)
        functions = {kernel.function for kernel in self.kernels}
        lines = [
            f"{printable(self.model)} for {self.target}: {self.nodes} nodes in {len(self.kernels)} launches "
            f"of {len(functions)} kernels, {fused} fusions, {self.native_share:.0%} native",
            f"weights {self.constant_bytes:,} bytes, arena {self.arena_bytes} bytes, "
            f"code {self.code_bytes:,} bytes",
        ]
        if self.phases:
            lines.append("time: " + ", ".join(f"{name} {seconds:.3f} s" for name, seconds in self.phases))
        lines += [f"host: {printable(str(h), 500)}" for h in self.hosts]
        return "\n".join(lines)


@dataclasses.dataclass(frozen=True)
class CheckReport:
    """Everything in a model that dlc cannot compile; `hosts` would run outside native code."""

    model: str
    nodes: int
    opsets: dict[str, int]
    findings: tuple[Finding, ...]
    hosts: tuple[HostReport, ...]

    @property
    def ok(self) -> bool:
        """Whether the model compiles."""
        return not self.findings
