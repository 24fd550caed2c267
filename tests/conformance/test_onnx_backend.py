"""The ONNX backend suite, case by case; what dlc does not run yet is listed with its reason.

A listed case that passes fails the run, so that the list only shrinks. Another list, which
`pytest tests/conformance --update-golden` writes, has the cases with nodes that run on the host.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dlc.api.report import HostReport
from tests.conformance.suite import cases, run

EXPECTED_FAILURES: dict[str, str] = json.loads(
    Path(__file__).with_name("expected_failures.json").read_text(encoding="utf-8")
)


#: The operators of the graph IR that run on the host in a case.
HOST_LIST = Path(__file__).with_name("host_cases.json")
HOST_CASES: dict[str, list[str]] = json.loads(HOST_LIST.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", sorted(set(cases()) - set(EXPECTED_FAILURES)))
def test_case(name: str, update_golden: bool) -> None:
    hosts = run(cases()[name])
    unexpected = [host for host in hosts if not is_expected(host)]
    assert not unexpected, f"on the host: {', '.join(map(str, unexpected))}"
    found = sorted({host.operator for host in hosts})
    if update_golden:
        listed = json.loads(HOST_LIST.read_text(encoding="utf-8"))
        listed = {**listed, name: found} if found else {key: listed[key] for key in listed if key != name}
        HOST_LIST.write_text(json.dumps(dict(sorted(listed.items())), indent=1) + "\n", encoding="utf-8")
    else:
        assert found == HOST_CASES.get(name, [])


def is_expected(host: HostReport) -> bool:
    """Whether a node is known to run on the host: what handles objects, counts n-grams or decodes images."""
    objects = host.reason.startswith("kernels work on tensors of numbers")
    return objects or host.operator in ("TfIdf", "ImageDecoder")


@pytest.mark.parametrize("name", sorted(EXPECTED_FAILURES))
def test_listed_case_fails(name: str) -> None:
    if name not in cases():
        pytest.skip("the installed onnx has no such case")
    try:
        run(cases()[name])
    except Exception:
        return
    pytest.fail(f"{name} passes: take it off the list ({EXPECTED_FAILURES[name]})")


def test_host_cases_are_cases_that_pass() -> None:
    assert set(HOST_CASES) <= set(cases()) - set(EXPECTED_FAILURES)


def test_nearly_all_of_the_suite_passes_and_natively() -> None:
    listed = set(EXPECTED_FAILURES) & set(cases())
    assert 1 - len(listed) / len(cases()) >= 0.985
    assert 1 - len(listed | set(HOST_CASES)) / len(cases()) >= 0.92
