"""Times of several engines in alternating rounds."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any

from dlc.bench.gpu.place import Call, Place
from dlc.bench.results import Ratio

#: Seconds that an engine gets in all, on rounds of at least so many calls.
SECONDS, ROUNDS, LEAST_CALLS = 1.5, 15, 3
#: Calls before the clock counts.
_WARM_UP = 5


def measure(place: Place, calls: Mapping[str, Call], seconds: float, rounds: int) -> dict[str, list[float]]:
    """The seconds of a call of each engine in each round; each round begins with another engine."""
    names = list(calls)
    counts = {}
    for name, call in calls.items():
        place.seconds(call, 1 if place.tiny else _WARM_UP)
        once = place.seconds(call, 1 if place.tiny else LEAST_CALLS)
        counts[name] = max(1 if place.tiny else LEAST_CALLS, int(seconds / rounds / max(once, 1e-9)))
    times: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        start = number % len(names)
        for name in (*names[start:], *names[:start]):
            times[name].append(place.seconds(calls[name], counts[name]))
    return times


def summary(times: Mapping[str, list[float]]) -> dict[str, Any]:
    """Median and quartiles of each engine in seconds, and how many times faster dlc is than each other."""
    found: dict[str, Any] = {}
    for name, values in times.items():
        low, median, high = quartiles(values)
        found[name] = {"median": median, "low": low, "high": high, "rounds": values}
        if name != "dlc" and "dlc" in times:
            ratio = Ratio.of(values, times["dlc"])
            found[name]["dlc_is_faster"] = [ratio.low, ratio.median, ratio.high]
    return found


def quartiles(values: list[float]) -> tuple[float, float, float]:
    """Lower quartile, median, upper quartile."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, median, high
