"""The commands for GPUs on a machine without one: compiling, looking into it, errors that say the way out."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from dlc.errors import UnsupportedError
from dlc.models import digits_path

pytest.importorskip("triton")

DIGITS = digits_path()
TARGET = ("--target", "cuda:sm_90")


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No driver, and one cache for all tests here."""

    def none(*arguments: object) -> Any:
        raise UnsupportedError("no NVIDIA driver on this machine", code="unsupported/target")

    monkeypatch.setattr("dlc.target.gpu._load_driver", none)
    for module in ("driver", "device"):
        monkeypatch.setattr(f"dlc.runtime.cuda.{module}.load_driver", none)
    monkeypatch.setattr("dlc.runtime.cuda.load_driver", none)
    monkeypatch.setenv("DLC_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "gpu-cache"))


@pytest.fixture
def package(cli: Callable[..., Any], tmp_path: Path) -> Path:
    path = tmp_path / "m.dlc"
    ran = cli("compile", DIGITS, "-o", path, *TARGET)
    assert ran.status == 0 and "8 launches of 5 kernels" in ran.out and "without a self-test" in ran.out
    return path


def test_a_package_shows_its_functions(cli: Callable[..., Any], package: Path) -> None:
    data = json.loads(cli("inspect", package, "--json").out)
    functions = data["functions"]
    assert len(functions) == 8 and {f["arch"] for f in functions} == {"sm_90"} and not data["self_test"]
    assert sum(function["launches"] for function in functions) == 8
    assert all(f["registers"] > 0 and f["stack_bytes"] == 0 and f["bytes"] > 0 for f in functions)
    (pool,) = (function for function in functions if function["nodes"] == ["pool/MaxPool"])
    text = cli("inspect", package).out
    assert f"{pool['name']}, sm_90, {pool['warps']} warps" in text and "for pool/MaxPool" in text


@pytest.mark.parametrize(
    ("command", "more"), [("run", ()), ("verify", ("--against", "{y}", "--inputs", "{x}"))]
)
def test_a_package_does_not_run(
    cli: Callable[..., Any], package: Path, tmp_path: Path, command: str, more: tuple[str, ...]
) -> None:
    import numpy as np

    np.savez(tmp_path / "x.npz", image=np.zeros((1, 1, 8, 8), np.float32))
    np.savez(tmp_path / "y.npz", logits=np.zeros((1, 10), np.float32))
    arguments = [part.format(x=tmp_path / "x.npz", y=tmp_path / "y.npz") for part in more]
    ran = cli(command, package, *arguments)
    assert ran.status == 3 and "no NVIDIA driver" in ran.err and ran.out == ""


def test_a_package_without_a_self_test_says_where_it_is_recorded(
    cli: Callable[..., Any], package: Path
) -> None:
    ran = cli("verify", package)
    assert ran.status == 3 and "holds no self-test; save the model, where that GPU is," in ran.err


@pytest.mark.parametrize("command", ["run", "verify", "bench"])
@pytest.mark.parametrize("target", ["cuda", "cuda:sm_90"])
def test_models_do_not_run_without_a_gpu(
    cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, command: str, target: str
) -> None:
    monkeypatch.setattr(
        import_module("dlc.api.compile"), "build", lambda *arguments: pytest.fail("it was compiled")
    )
    ran = cli(command, DIGITS, "--target", target)
    assert ran.status == 3 and "no NVIDIA driver" in ran.err


def test_compiling_for_the_gpu_at_hand_needs_one(cli: Callable[..., Any], tmp_path: Path) -> None:
    for command in (("compile", DIGITS, "-o", tmp_path / "m.dlc"), ("check", DIGITS)):
        ran = cli(*command, "--target", "cuda")
        assert ran.status == 3 and "no NVIDIA driver" in ran.err
        assert cli(*command, "--target", "cuda:sm_7").status == 2
    assert not (tmp_path / "m.dlc").exists()


def test_check_tells_of_the_target(cli: Callable[..., Any]) -> None:
    data = json.loads(cli("check", DIGITS, *TARGET, "--json").out)
    assert data == {"supported": True, "findings": [], "hosts": []}


STAGES = {
    "kernels": ("kernel conv", "kernel pool {"),
    "program": ("program {", "step "),
    "triton": ("stem.conv/Conv", "def pool_rows("),
    "ptx": (".entry conv_unary_contraction", ".entry pool_rows"),
}


@pytest.mark.parametrize("stage", STAGES)
def test_stages(cli: Callable[..., Any], stage: str) -> None:
    whole, part = STAGES[stage]
    text = cli("inspect", DIGITS, *TARGET, "--stage", stage).out
    assert whole in text and part in text and "\\t" not in text
    text = cli("inspect", DIGITS, *TARGET, "--stage", stage, "--node", "pool/MaxPool").out
    assert part in text and whole not in text
    assert cli("inspect", DIGITS, *TARGET, "--stage", stage, "--node", "nowhere").status == 2


def test_stages_belong_to_targets(cli: Callable[..., Any]) -> None:
    ran = cli("inspect", DIGITS, "--stage", "ptx")
    assert ran.status == 2 and "--target cuda:sm_90 names a GPU" in ran.err
    ran = cli("inspect", DIGITS, "--stage", "llvm", *TARGET)
    assert ran.status == 2 and "triton, ptx" in ran.err


def test_the_functions_are_dumped(cli: Callable[..., Any], tmp_path: Path) -> None:
    compile_ = ("compile", DIGITS, "-o", tmp_path / "m.dlc", *TARGET, "--dump-ir", tmp_path / "texts")
    ran = cli(*compile_, "--print-passes")
    assert ran.status == 0 and "assign-layouts" not in ran.out
    texts = sorted((tmp_path / "texts").glob("function-*.py"))
    assert len(texts) == 8 and all("@triton.jit" in path.read_text() for path in texts)
    assert not (tmp_path / "texts" / "module.ll").exists()


def test_what_follows_steps_is_for_cpus(cli: Callable[..., Any]) -> None:
    from dlc.options import Options
    from dlc.verify.bisection.native import cpu_target

    with pytest.raises(UnsupportedError, match="the target is cuda:sm_90"):
        cpu_target(Options(target="cuda:sm_90"))
    assert cpu_target(Options()).name


def test_doctor(cli: Callable[..., Any]) -> None:
    cuda = json.loads(cli("doctor", "--json").out)["cuda"]
    assert cuda["error"] == "no NVIDIA driver on this machine" and cuda["triton"]
    assert "compiles for any GPU" in cli("doctor").out
