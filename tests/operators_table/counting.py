"""How often the tests of tests/frontend hold an operator against onnxruntime: counted while they run."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

#: The tests of single operators.
FOLDERS = ("tests/frontend/ops", "tests/frontend/contrib", "tests/frontend/ml")
#: Whole models, in which an operator is one of many.
LEFT_OUT = ("tests/frontend/contrib/test_optimized.py", "tests/frontend/ml/test_pipelines.py")
COUNTS = Path(__file__).with_name("judged.json")


class Counting:
    """A pytest plugin: runs of onnxruntime in passing tests, by the operators that dlc imported in them."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        self.met: set[tuple[str, str]] = set()
        self.runs = 0

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Any:
        self.met.clear()
        self.runs = 0
        result = yield  # a test that fails raises here, and counts nothing
        for key in self.met:
            self.counts[key] += self.runs
        return result


class _Registry:
    """The registry of importers as the graph importer sees it, listening."""

    def __init__(self, registry: Any, counting: Counting) -> None:
        self.registry = registry
        self.counting = counting

    def find(self, domain: str, op_type: str, opset: int) -> Any:
        self.counting.met.add((domain, op_type))
        return self.registry.find(domain, op_type, opset)


def count() -> Counter[tuple[str, str]]:
    """Run the tests; AssertionError when one fails."""
    import onnxruntime

    from dlc.frontend.onnx import graph_importer

    counting = Counting()

    class Session(onnxruntime.InferenceSession):  # type: ignore[misc]
        def run(self, *arguments: Any, **options: Any) -> Any:
            counting.runs += 1
            return super().run(*arguments, **options)

    kept = onnxruntime.InferenceSession, graph_importer.registry
    onnxruntime.InferenceSession = Session
    graph_importer.registry = _Registry(graph_importer.registry, counting)  # type: ignore[assignment]
    try:
        ignored = [f"--ignore={path}" for path in LEFT_OUT]
        status = pytest.main(["-q", "-p", "no:cacheprovider", *FOLDERS, *ignored], plugins=[counting])
    finally:
        onnxruntime.InferenceSession, graph_importer.registry = kept
    assert status == pytest.ExitCode.OK, "tests fail: what they judge is not to be counted"
    return counting.counts


def renew() -> None:
    """Run the tests and write the counts."""
    table: dict[str, dict[str, int]] = {}
    for (domain, name), number in sorted(count().items()):
        if number:
            table.setdefault(domain or "ai.onnx", {})[name] = number
    COUNTS.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


def counts() -> dict[tuple[str, str], int]:
    """The counts as they were written."""
    table: dict[str, dict[str, int]] = json.loads(COUNTS.read_text(encoding="utf-8"))
    return {
        ("" if domain == "ai.onnx" else domain, name): number
        for domain, names in table.items()
        for name, number in names.items()
    }
