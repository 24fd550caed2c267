"""What a benchmark measured, and the JSON form in which results are kept and compared."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dlc.errors import InputError, printable

FORMAT = 1


@dataclass(frozen=True)
class Ratio:
    """How many times faster: the median over rounds of (other's time / ours), with the quartiles."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, others: Sequence[float], ours: Sequence[float]) -> Ratio:
        """From the times of both engines in the same rounds (seconds, of equal number, at least one)."""
        ratios = sorted(other / own for other, own in zip(others, ours, strict=True))
        if len(ratios) == 1:
            return cls(ratios[0], ratios[0], ratios[0])
        low, median, high = statistics.quantiles(ratios, n=4, method="inclusive")
        return cls(median, low, high)


@dataclass(frozen=True)
class EngineResult:
    """One engine on one case. Times in seconds, memory in bytes.

    `round_medians` has the median time of a call in each round; `load_seconds` is from the file to a model
    that can be called (dlc: compilation included, without the cache), `first_seconds` the first call.
    `peak_bytes` is the process's greatest resident set, `base_bytes` the resident set before loading.
    `agrees` tells whether the outputs match the first engine's by the table of tolerances (None: not
    compared). With `error` set, the engine could not run the case and the other fields are empty.
    """

    engine: str
    version: str = ""
    round_medians: tuple[float, ...] = ()
    calls: int = 0
    load_seconds: float = 0.0
    first_seconds: float = 0.0
    base_bytes: int = 0
    peak_bytes: int = 0
    agrees: bool | None = None
    error: str | None = None

    @property
    def seconds(self) -> float | None:
        """The median over rounds, or None if the engine failed."""
        return statistics.median(self.round_medians) if self.round_medians else None


@dataclass(frozen=True)
class CaseResult:
    """All engines on one model at one thread count and one set of extents; the first engine is dlc's own."""

    model: str
    threads: int
    shapes: Mapping[str, tuple[int, ...]]
    engines: tuple[EngineResult, ...]

    @property
    def key(self) -> tuple[str, int, str]:
        """What identifies the case in another report."""
        return self.model, self.threads, json.dumps({k: list(v) for k, v in sorted(self.shapes.items())})

    def ratio(self, other: str) -> Ratio | None:
        """How many times faster the first engine is than `other`; None if one of them failed."""
        ours = self.engines[0]
        theirs = next((engine for engine in self.engines[1:] if engine.engine == other), None)
        if theirs is None or not ours.round_medians or not theirs.round_medians:
            return None
        return Ratio.of(theirs.round_medians, ours.round_medians)

    def to_dict(self) -> dict[str, Any]:
        """The case as JSON-compatible data, ratios included."""
        ratios = {engine.engine: self.ratio(engine.engine) for engine in self.engines[1:]}
        return {
            "model": self.model,
            "threads": self.threads,
            "shapes": {name: list(shape) for name, shape in self.shapes.items()},
            "engines": [asdict(engine) for engine in self.engines],
            "ratios": {name: asdict(ratio) for name, ratio in ratios.items() if ratio is not None},
        }


@dataclass(frozen=True)
class BenchReport:
    """Results with what is needed to judge them: the machine, the versions and the settings."""

    machine: Mapping[str, Any]
    settings: Mapping[str, Any]
    cases: tuple[CaseResult, ...]

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON-compatible data."""
        return {
            "format": FORMAT,
            "machine": dict(self.machine),
            "settings": dict(self.settings),
            "cases": [case.to_dict() for case in self.cases],
        }

    def to_json(self) -> str:
        """The report as JSON text."""
        return json.dumps(self.to_dict(), indent=1)

    @classmethod
    def from_json(cls, text: str) -> BenchReport:
        """The inverse of :meth:`to_json`; raises InputError for anything else."""
        try:
            data = json.loads(text)
            if data["format"] != FORMAT:
                raise ValueError(f"format {data['format']}, {FORMAT} expected")
            return cls(data["machine"], data["settings"], tuple(_case(case) for case in data["cases"]))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            message = f"not a benchmark report: {printable(str(error))}"
            raise InputError(message, code="input/file") from None

    @classmethod
    def load(cls, path: Path) -> BenchReport:
        """The report in a file; raises InputError if there is none."""
        try:
            return cls.from_json(path.read_text())
        except (OSError, UnicodeDecodeError) as error:
            message = f"cannot read '{printable(str(path))}': {printable(str(error))}"
            raise InputError(message, code="input/file") from None


def _case(data: Mapping[str, Any]) -> CaseResult:
    engines = tuple(
        EngineResult(**{**engine, "round_medians": tuple(engine["round_medians"])})
        for engine in data["engines"]
    )
    shapes = {name: tuple(shape) for name, shape in data["shapes"].items()}
    return CaseResult(data["model"], data["threads"], shapes, engines)
