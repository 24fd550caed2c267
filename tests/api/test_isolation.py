"""Compiling in a child process: the same model, or an error where the child dies, hangs or takes too much.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from onnx import TensorProto, helper

import dlc
from dlc.api import isolation
from dlc.cli.app import run
from tests.api.small_models import AFFINE, affine_inputs
from tests.helpers.model_zoo import bits

X = affine_inputs()

#: A module that LLVM generates no code for on AVX2: it prints an error and aborts.
UNSELECTABLE = """
target triple = "x86_64-unknown-linux-gnu"
declare <16 x float> @llvm.x86.avx512.max.ps.512(<16 x float>, <16 x float>, i32)
define <16 x float> @f(<16 x float> %x) {
  %y = call <16 x float> @llvm.x86.avx512.max.ps.512(<16 x float> %x, <16 x float> %x, i32 4)
  ret <16 x float> %y
}
"""


@pytest.fixture
def child(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """`child("statement")` has a statement run in the child before it starts."""

    def plant(statement: str) -> None:
        monkeypatch.setattr(isolation, "PROGRAM", f"exec({statement!r}); {isolation.PROGRAM}")

    return plant


@pytest.fixture
def generator(child: Callable[[str], None]) -> Callable[[str], None]:
    """`generator("statement")` has a statement run instead of code generation."""

    def plant(statement: str) -> None:
        child(
            "import dlc.backends.cpu.backend as backend\n"
            f"original = backend.compile_object\ndef planted(*arguments):\n    {statement}\n"
            "backend.compile_object = planted"
        )

    return plant


def isolated(model: Any, **options: Any) -> dlc.CompiledModel:
    return dlc.compile(model, isolate=True, cache=False, **options)


def test_the_same_model_comes_out(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(AFFINE.SerializeToString())
    here = dlc.compile(AFFINE, cache=False)
    phases: list[str] = []
    for source in (tmp_path / "m.onnx", AFFINE, io.BytesIO(AFFINE.SerializeToString())):
        model = isolated(source, progress=phases.append)
        assert bits(model(X)) == bits(here(X))
        assert model.report().kernels == here.report().kernels
    assert [phase for phase, _ in model.report().phases] == ["import", "optimize", "lower", "generate"]
    assert phases[:4] == ["import", "optimize", "lower", "generate"] and model.report().passes
    assert bits(dlc.load(model.to_bytes())(X)) == bits(here(X))


def test_the_cache_spares_the_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DLC_CACHE_DIR", str(tmp_path))
    first = dlc.compile(AFFINE.SerializeToString(), isolate=True)
    with patch.object(isolation, "compile_in_child", side_effect=AssertionError("a child")):
        second = dlc.compile(AFFINE.SerializeToString(), isolate=True)
    assert bits(first(X)) == bits(second(X))
    assert "cache" in dict(second.report().phases)


@pytest.mark.parametrize(
    "source, error, match",
    [
        (b"\x08", dlc.ModelError, "no ONNX model|truncated"),
        ("/nowhere/model.onnx", dlc.InputError, "cannot read"),
        (5, dlc.InputError, "takes no int"),
    ],
)
def test_errors_arrive_as_they_were(source: Any, error: type[dlc.Error], match: str) -> None:
    with pytest.raises(error, match=match):
        isolated(source)


def test_findings_arrive() -> None:
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in ("x", "y")]
    node = helper.make_node("NonZero", ["x"], ["y"], "bad", domain="com.microsoft")
    graph = helper.make_graph([node], "g", info[:1], info[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("com.microsoft", 1)], ir_version=9)
    with pytest.raises(dlc.UnsupportedError) as here:
        dlc.compile(model, cache=False)
    with pytest.raises(dlc.UnsupportedError) as there:
        isolated(model)
    assert there.value.findings == here.value.findings != ()
    assert there.value.to_dict() == here.value.to_dict()


@pytest.mark.parametrize(
    "statement, match",
    [
        ("import os; os.abort()", "died of SIGABRT"),
        ("import ctypes; ctypes.string_at(8)", "died of SIGSEGV"),
        ("import os; os._exit(7)", "died of exit status 7"),
        (f"return original({UNSELECTABLE!r}, arguments[1])", "died of SIGABRT: LLVM ERROR: "),
        ("raise ValueError('planted')", "ValueError: planted"),
    ],
    ids=["abort", "segfault", "exit", "llvm", "exception"],
)
def test_a_crash_is_an_internal_error_with_a_command(
    statement: str, match: str, generator: Callable[[str], None], tmp_path: Path
) -> None:
    generator(statement)
    path = tmp_path / "it's $(a) model.onnx"
    path.write_bytes(AFFINE.SerializeToString())
    with pytest.raises(dlc.InternalError, match=match) as caught:
        isolated(path, target="x86-64-v3")
    assert caught.value.hint is not None
    assert "`dlc reduce '" in caught.value.hint and "-o small.onnx` makes" in caught.value.hint
    with pytest.raises(dlc.InternalError, match="with the model saved as MODEL"):
        isolated(AFFINE, target="x86-64-v3")


def test_an_endless_compilation_is_stopped(generator: Callable[[str], None]) -> None:
    generator("while True: pass")
    with pytest.raises(dlc.LimitError, match=r"longer than 2 seconds.*compile_seconds"):
        isolated(AFFINE, limits=dlc.Limits(compile_seconds=2))


@pytest.mark.parametrize(
    "statement",
    ["bytearray(1 << 33)", "import os; os.write(2, b'LLVM ERROR: out of memory\\n'); os.abort()"],
    ids=["python", "llvm"],
)
def test_a_compilation_that_takes_too_much_memory_is_stopped(
    statement: str, generator: Callable[[str], None]
) -> None:
    generator(statement)
    with pytest.raises(dlc.LimitError, match=r"more than 2,147,483,648 bytes.*compile_bytes"):
        isolated(AFFINE, limits=dlc.Limits(compile_bytes=2 << 30))


def test_cancelling_ends_the_child(generator: Callable[[str], None]) -> None:
    generator("while True: pass")

    def progress(phase: str) -> None:
        if phase == "generate":
            raise dlc.CancelledError("enough")

    with pytest.raises(dlc.CancelledError, match="enough"):
        isolated(AFFINE, progress=progress)


def test_models_with_host_steps(child: Callable[[str], None]) -> None:
    child(
        "import dlc.lowering.group as group\n"
        "def planted(*_): raise group.NotLowered('planted')\n"
        "group.lower_node = planted"
    )
    expected = dlc.compile(AFFINE, cache=False)(X)
    phases: list[str] = []
    model = isolated(AFFINE, progress=phases.append)
    assert len(model.report().hosts) >= 2 and phases.count("generate") == 1
    assert [np.allclose(a, b) for a, b in zip(model(X), expected, strict=True)] == [True, True]


def test_command_line(tmp_path: Path, generator: Callable[[str], None], capfd: Any) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(AFFINE.SerializeToString())
    assert run(["run", str(path), "--isolate", "--no-cache"]) == 0
    package = str(tmp_path / "m.dlc")
    assert run(["compile", str(path), "-o", package, "--isolate", "--dump-ir", str(tmp_path)]) == 2
    generator("import os; os.abort()")
    capfd.readouterr()
    assert run(["run", str(path), "--isolate", "--no-cache"]) == 70
    output = capfd.readouterr().err
    assert "SIGABRT" in output and "dlc reduce" in output and "Traceback" not in output


def test_a_failure_in_this_process_gives_the_command_too() -> None:
    with (
        patch("dlc.backends.cpu.backend.compile_object", side_effect=KeyError("planted")),
        pytest.raises(dlc.InternalError, match=r"KeyError.*dlc reduce MODEL"),
    ):
        dlc.compile(AFFINE, cache=False)
