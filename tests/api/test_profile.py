"""Profiles: every launch with its nodes and its work, whatever the program; never how long it takes."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dlc
from dlc.api.profile import KernelProfile, Profile, share_of_roof
from dlc.api.roof import Bandwidth, Roof
from dlc.errors import InputError, PackageError, UnsupportedError
from dlc.runtime.package import Package, package_bytes
from tests.api.small_models import AFFINE, PRODUCT, affine_inputs, parse
from tests.helpers.control_models import IF_ON_DATA, LOOP_TRIP_FROM_DATA
from tests.helpers.gpu_models import TARGET
from tests.helpers.judged import CASES, runs
from tests.helpers.object_models import CASES as OBJECTS, ObjectCase

#: Two convolutions: plain, and in groups with a stride.
CONVOLUTIONS = parse(
    "convolutions (float[n, 16, 10, 12] x, float[32, 16, 1, 1] w, float[32, 4, 3, 3] v) => "
    "(float[n, 32, 10, 12] a, float[n, 32, 5, 6] b)",
    "a = Conv (x, w)  b = Conv <group = 4, pads = [1, 1, 1, 1], strides = [2, 2]> (x, v)",
)


def normal(*shape: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(1).standard_normal(shape).astype(np.float32)


def check(profile: Profile, model: dlc.CompiledModel) -> None:
    """What holds of any profile."""
    reports = model.report().kernels
    found = {(kernel.step, kernel.function): kernel for kernel in profile.kernels}
    assert len(found) == len(profile.kernels) == len(reports)
    for report in reports:
        kernel = found[report.step, report.function]
        assert (kernel.template, kernel.nodes) == (report.template, report.nodes)
    parts = [*profile.kernels, *profile.hosts]
    assert all(part.seconds >= 0 and part.calls >= 0 for part in parts) and profile.overhead >= 0
    assert math.isclose(sum(part.share for part in parts) + profile.overhead_share, 1.0, abs_tol=1e-9)
    assert [kernel.seconds for kernel in profile.kernels] == sorted(
        (kernel.seconds for kernel in profile.kernels), reverse=True
    )
    assert sum(part.calls for part in parts) == len(profile.events)
    check_trace(profile)


def check_trace(profile: Profile) -> None:
    """A trace of complete events in the order of their starts, all within that of the call."""
    trace = json.loads(json.dumps(profile.trace(), allow_nan=False))
    call, *events = trace["traceEvents"]
    assert len(events) == len(profile.events)
    starts = [event["ts"] for event in events]
    assert starts == sorted(starts) and min(starts, default=0) >= 0
    for event in (call, *events):
        assert event["ph"] == "X" and event["dur"] >= 0 and event["name"] and event["cat"]
        assert event["ts"] + event["dur"] <= call["dur"] + 1e-6


def by_node(profile: Profile, node: str) -> KernelProfile:
    """The launch with contractions that works for a node."""
    (found,) = (kernel for kernel in profile.kernels if node in kernel.nodes and kernel.flops)
    return found


@pytest.mark.parametrize("packaged", [False, True], ids=["fresh", "package"])
def test_the_work_of_a_matrix_product(packaged: bool) -> None:
    feeds = {"x": normal(37, 256), "w": normal(256, 512)}
    with dlc.compile(PRODUCT, threads=2, cache=False) as fresh:
        model = dlc.load(fresh.to_bytes(), threads=2) if packaged else fresh
        profile = model.profile(feeds, runs=3, roof=False)
        check(profile, model)
    kernel = by_node(profile, "node_m")
    assert kernel.flops == 2 * 37 * 256 * 512 == profile.flops
    assert kernel.bytes == 4 * (37 * 256 + 256 * 512 + 37 * 512)
    assert kernel.calls == 1 and kernel.nodes == ("node_m", "node_y") and kernel.template == "gemm"
    assert (profile.runs, profile.threads, profile.model) == (3, 2, "product")
    assert kernel.roof is None and profile.roof is None


def test_the_work_of_convolutions() -> None:
    feeds = {"x": normal(3, 16, 10, 12), "w": normal(32, 16, 1, 1), "v": normal(32, 4, 3, 3)}
    with dlc.compile(CONVOLUTIONS, threads=1, cache=False) as model:
        profile = model.profile(feeds, runs=2, roof=False)
        check(profile, model)
    assert by_node(profile, "node_a").flops == 2 * 3 * 10 * 12 * 32 * 16
    assert by_node(profile, "node_b").flops == 2 * 3 * 5 * 6 * 32 * 4 * 9


def test_a_gather_moves_what_it_takes_of_the_table() -> None:
    model = parse("m (float[5000, 64] table, int64[n] ids) => (float[n, 64] y)", "y = Gather (table, ids)")
    with dlc.compile(model, threads=1, cache=False) as compiled:
        feeds = {"table": normal(5000, 64), "ids": np.array([3, 4999, 3])}
        (kernel,) = compiled.profile(feeds, runs=1, roof=False).kernels
    assert (kernel.flops, kernel.bytes) == (0, 3 * 8 + 2 * 3 * 64 * 4)


def test_profiling_changes_no_result(affine: dlc.CompiledModel) -> None:
    feeds = affine_inputs(1000)
    before = affine.run(None, feeds)
    call = affine.prepare(feeds)
    plain = [output.copy() for output in call()]
    call._call.record()
    recorded = [output.copy() for output in call.outputs]
    affine.profile(feeds, runs=2, roof=False)
    for results in (plain, recorded, affine.run(None, feeds)):
        assert [a.tobytes() for a in results] == [b.tobytes() for b in before]
    # What is recorded in one call is over in the next.
    count = call._call._slot.context.profile_count
    call()
    assert call._call._slot.context.profile_count == count


@pytest.mark.parametrize("case", CASES[::3], ids=lambda case: case.name)
def test_control_flow(case: Any) -> None:
    with dlc.compile(case.model(), threads=1, cache=False) as model:
        for run in runs(case):
            check(model.profile(run.feeds, runs=2, roof=False), model)


def test_a_branch_that_is_not_taken_and_a_loop() -> None:
    with dlc.compile(IF_ON_DATA.model(), threads=1, cache=False) as model:
        profiles = [model.profile(run.feeds, runs=1, roof=False) for run in runs(IF_ON_DATA)]
    assert any(kernel.calls == 0 and kernel.flops is None for kernel in profiles[0].kernels)
    with dlc.compile(LOOP_TRIP_FROM_DATA.model(), threads=1, cache=False) as model:
        calls = [
            max((kernel.calls for kernel in model.profile(run.feeds, runs=2, roof=False).kernels), default=0)
            for run in runs(LOOP_TRIP_FROM_DATA)
        ]
    assert max(calls) > 1


@pytest.mark.parametrize("case", [c for c in OBJECTS if c.hosts][::4], ids=lambda case: case.name)
def test_host_steps(case: ObjectCase) -> None:
    with dlc.compile(case.model(), threads=1, cache=False) as model:
        profile = model.profile(case.feeds[0], runs=2, roof=False)
        check(profile, model)
    assert profile.hosts and all(host.node for host in profile.hosts)


def test_a_name_of_the_model_stays_data(tmp_path: Path) -> None:
    evil = '"}],\u2028\x1b[31m</script>'
    model = parse("m (float[n] x) => (float[n] y)", "y = Exp (x)")
    model.graph.node[0].name = model.graph.name = evil
    with dlc.compile(model, threads=1, cache=False) as compiled:
        profile = compiled.profile({"x": normal(4)}, runs=1, roof=False)
    profile.save_trace(tmp_path / "t.json")
    call, launch = json.loads((tmp_path / "t.json").read_text())["traceEvents"]
    assert call["name"] == f"call of {profile.model}" and launch["args"]["nodes"] == list(
        profile.kernels[0].nodes
    )
    assert "\x1b" not in str(profile) and "\u2028" not in str(profile)
    assert json.loads(profile.to_json())["kernels"][0]["calls"] == 1
    with pytest.raises(InputError, match="cannot write"):
        profile.save_trace(tmp_path)


def test_what_has_no_profile(affine: dlc.CompiledModel) -> None:
    with pytest.raises(InputError, match="at least one run"):
        affine.profile(affine_inputs(), runs=0)
    with pytest.raises(InputError, match="missing input"):
        affine.profile({})


def test_a_model_for_a_gpu() -> None:
    pytest.importorskip("triton")
    with (
        dlc.compile(AFFINE, target=TARGET, cache=False) as model,
        pytest.raises(UnsupportedError, match=f"offered for CPUs, not for the target {TARGET}"),
    ):
        model.profile(affine_inputs())


@pytest.mark.parametrize("text", ["2*", "nobody", "9" * 200])
def test_damaged_work_in_a_package(text: str) -> None:
    with dlc.compile(AFFINE, threads=1, cache=False) as fresh:
        content = changed_report(fresh.to_bytes(), {"work": {"flops": text, "reads": "1", "writes": "1"}})
    with dlc.load(content) as model, pytest.raises(PackageError, match="report is damaged"):
        model.profile(affine_inputs(), runs=1, roof=False)


def test_a_package_without_numbers_of_steps() -> None:
    with dlc.compile(AFFINE, threads=1, cache=False) as fresh:
        content = changed_report(fresh.to_bytes(), {"step": -1})
    with dlc.load(content) as model, pytest.raises(UnsupportedError, match="knew no profiles"):
        model.profile(affine_inputs(), runs=1, roof=False)


def changed_report(content: bytes, change: dict[str, Any]) -> bytes:
    """A package whose kernels are reported otherwise."""
    with Package.open(content) as package:
        members = {name: bytes(package.member(name)) for name in package.members if name != "manifest.json"}
        report = json.loads(members["report.json"])
        for kernel in report["kernels"]:
            kernel.update(change)
        return package_bytes(package.manifest, members | {"report.json": json.dumps(report).encode()})


def test_the_roof_of_this_machine() -> None:
    feeds = {"x": normal(64, 256), "w": normal(256, 512)}
    with dlc.compile(PRODUCT, threads=1, cache=False) as model:
        profile = model.profile(feeds, runs=2)
        assert model.profile(feeds, runs=1).roof is profile.roof
    roof = profile.roof
    assert roof is not None and roof.threads == 1 and roof.l2_bytes > 0
    assert min(roof.flops, roof.dram.read, roof.dram.copy, roof.l2.read, roof.l2.copy) > 0
    kernel = by_node(profile, "node_m")
    assert kernel.roof is not None and kernel.roof > 0 and kernel.bound in ("compute", "memory")


def test_the_closer_limit() -> None:
    roof = Roof(1, 100.0, Bandwidth(10.0, 10.0), Bandwidth(50.0, 50.0), 1000)
    assert roof.dram.seconds(10, 10) == 2.0
    assert roof.memory_seconds(500, 500) == 20.0 and roof.memory_seconds(500, 501) == pytest.approx(100.1)
    work = {"flops": 400, "reads": 50, "writes": 50}
    assert share_of_roof(roof, 8.0, work, "f32") == (0.5, "compute")
    assert share_of_roof(roof, 16.0, work, "f64") == (0.5, "compute")
    assert share_of_roof(roof, 8.0, work, "i32") == (0.25, "memory")
    assert share_of_roof(roof, 0.0, work, "f32") == (None, "")
    assert share_of_roof(roof, 1.0, {"flops": 0, "reads": 0, "writes": 0}, "") == (None, "")
