"""A profiled run in Chrome's Trace Event Format."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dlc.api.profile import Event, Profile


def trace_events(profile: Profile) -> list[dict[str, Any]]:
    """Complete events ("X") of one thread, the caller's, sorted by start; names of the model are data."""
    whole = {"threads": profile.threads, "target": profile.target}
    call = _complete(f"call of {profile.model}", "call", 0, profile.last_ns, whole)
    return [call, *(_inner(event) for event in sorted(profile.events, key=lambda event: event.start))]


def _inner(event: Event) -> dict[str, Any]:
    from dlc.api.profile import HostProfile

    what = event.what
    if isinstance(what, HostProfile):
        return _complete(what.node, "host", event.start, event.end, {"step": what.step})
    detail: dict[str, Any] = {"nodes": list(what.nodes), "step": what.step, "chunks": event.chunks}
    if what.flops is not None and what.bytes is not None and what.calls:
        detail |= {"flops": what.flops // what.calls, "bytes": what.bytes // what.calls}
    return _complete(what.function, what.template, event.start, event.end, detail)


def _complete(name: str, category: str, start: int, end: int, detail: dict[str, Any]) -> dict[str, Any]:
    """From `start` to `end`, in nanoseconds; the format counts microseconds."""
    return {
        "name": name,
        "cat": category,
        "ph": "X",
        "ts": start / 1000,
        "dur": (end - start) / 1000,
        "pid": 1,
        "tid": 1,
        "args": detail,
    }
