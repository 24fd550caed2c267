"""What the time of a model's calls goes to: a line a launch, host steps, and what lies between."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dlc.errors import InputError, printable

if TYPE_CHECKING:
    from dlc.api.roof import Roof


@dataclasses.dataclass(frozen=True)
class KernelProfile:
    """One launch of the program: its step, its kernel's function and template, the ONNX nodes in it.

    `calls` is how often it runs in a call of the model, 0 in a branch that was not taken; `seconds` what that
    takes, the median over runs, and `share` that part of all. For all of the `calls`: `flops` of
    contractions, 2 a term; `bytes` of parameters read and written; None where the work of an iteration is
    not known.

    `roof` is the share that this is of what the machine can do, at whichever of its limits, `bound`
    ("compute" or "memory"), is closer. Fast algorithms (Winograd), and data that lies in a larger cache than
    L2, may get beyond 1. None where there is no work, or no roof.
    """

    step: int
    function: str
    template: str
    nodes: tuple[str, ...]
    calls: int
    seconds: float
    share: float
    flops: int | None = None
    bytes: int | None = None
    roof: float | None = None
    bound: str = ""


@dataclasses.dataclass(frozen=True)
class HostProfile:
    """One step that Python takes; `node` names the ONNX nodes, or says what it does for host steps."""

    step: int
    node: str
    calls: int
    seconds: float
    share: float


@dataclasses.dataclass(frozen=True)
class Event:
    """A launch or a host step of one run, in nanoseconds since its begin; `chunks` of a launch."""

    what: KernelProfile | HostProfile
    start: int
    end: int
    chunks: int = 0


@dataclasses.dataclass(frozen=True)
class Profile:
    """Where the time of a call goes: medians over `runs` calls in seconds, shares of their sum.

    `kernels` and `hosts` are sorted by time, the longest first. `overhead` is what is in neither: entering
    native code, walking the program, copies. `lost` launches of a call were too many to keep. `events` are
    those of the last run, which took `last_ns`.
    """

    model: str
    target: str
    threads: int
    runs: int
    seconds: float
    kernels: tuple[KernelProfile, ...]
    hosts: tuple[HostProfile, ...]
    overhead: float
    overhead_share: float
    events: tuple[Event, ...]
    last_ns: int
    roof: Roof | None = None
    lost: int = 0

    @property
    def flops(self) -> int:
        """Operations of all contractions whose number is known."""
        return sum(kernel.flops or 0 for kernel in self.kernels)

    @property
    def bytes(self) -> int:
        """Bytes that all launches read and write, as far as known."""
        return sum(kernel.bytes or 0 for kernel in self.kernels)

    def to_dict(self) -> dict[str, Any]:
        """The profile as JSON-compatible data, without the events of the last run."""
        data = dataclasses.asdict(dataclasses.replace(self, events=()))
        del data["events"], data["last_ns"]
        return data | {"flops": self.flops, "bytes": self.bytes}

    def to_json(self) -> str:
        """The profile as JSON."""
        return json.dumps(self.to_dict(), indent=1)

    def trace(self) -> dict[str, Any]:
        """The last run in the Trace Event Format, for chrome://tracing and Perfetto.

        Complete events in the order of their starts, in microseconds since the call began: the call, and in
        it each launch and each host step.
        """
        from dlc.api.trace import trace_events

        return {"traceEvents": trace_events(self), "displayTimeUnit": "ns"}

    def save_trace(self, path: str | os.PathLike[str]) -> None:
        """Write :meth:`trace` as JSON; InputError where the file cannot be written."""
        try:
            with open(path, "w", encoding="utf-8") as file:
                json.dump(self.trace(), file, allow_nan=False)
        except OSError as error:
            where = printable(os.fspath(path))
            raise InputError(f"cannot write '{where}': {error.strerror}", code="input/file") from None

    def __str__(self) -> str:
        """A table as plain text."""
        lines = [self.headline()]
        for kernel in self.kernels:
            roof = "" if kernel.roof is None else f"  {kernel.roof:.0%} of {kernel.bound}"
            nodes = printable(", ".join(kernel.nodes), 80)
            time = f"{kernel.seconds * 1e6:10.1f} us {kernel.share:6.1%}"
            lines.append(f"{time}  {kernel.function}{roof}  {nodes}")
        for host in self.hosts:
            lines.append(f"{host.seconds * 1e6:10.1f} us {host.share:6.1%}  host: {printable(host.node, 80)}")
        lines.append(f"{self.overhead * 1e6:10.1f} us {self.overhead_share:6.1%}  between")
        return "\n".join(lines)

    def headline(self) -> str:
        """The model and the time of a call."""
        launches = sum(kernel.calls for kernel in self.kernels)
        return (
            f"{printable(self.model)} for {self.target} on {self.threads} thread{'s' * (self.threads > 1)}: "
            f"{self.seconds * 1e3:.4g} ms a call, median of {self.runs}, {launches + self.lost} launches"
        )


def share_of_roof(
    roof: Roof, seconds: float, work: Mapping[str, int], dtype: str
) -> tuple[float | None, str]:
    """The share of the roof that `work` ("flops", "reads", "writes") in so many seconds is, and the limit."""
    if seconds <= 0:
        return None, ""
    limits = {"memory": roof.memory_seconds(work["reads"], work["writes"])}
    compute = roof.compute_seconds(work["flops"], dtype)
    if compute is not None:
        limits["compute"] = compute
    bound = max(limits, key=lambda name: limits[name])
    return (limits[bound] / seconds, bound) if limits[bound] > 0 else (None, "")
