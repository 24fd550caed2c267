"""A model whose every name is an attack goes through every command: nothing reaches the terminal raw."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from dlc.cli.stages import STAGES

EVIL = "\x1b]0;owned\x07\x1b[2J\n[red]'\"; rm -rf /\u202e../../etc/{0}%s\\"


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """x -> Relu -> y, with EVIL in the names of graph, node, values, dims, producer and file."""
    x, y, dim = f"x{EVIL}", f"y{EVIL}", f"d{EVIL}"
    graph = helper.make_graph(
        [helper.make_node("Relu", [x], [y], name=f"n{EVIL}")],
        f"g{EVIL}",
        [helper.make_tensor_value_info(x, TensorProto.FLOAT, [dim, 2])],
        [helper.make_tensor_value_info(y, TensorProto.FLOAT, [dim, 2])],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name=f"p{EVIL}"
    )
    path = tmp_path / "evil\x1b[31m[bold].onnx"
    onnx.save(model, path)
    return path


def is_clean(text: str) -> bool:
    return all(character == "\n" or character.isprintable() for character in text)


@pytest.mark.parametrize(
    "arguments",
    [
        ("run",),
        ("run", "--json"),
        ("verify",),
        ("verify", "--json"),
        ("verify", "--against", "reference"),
        ("check",),
        ("inspect",),
        ("inspect", "--json"),
        ("inspect", "--stage", "import"),
        *(("inspect", "--stage", stage) for stage in STAGES[1:]),
        ("inspect", "--stage", "kernels", "--node", f"n{EVIL}"),
        ("inspect", "--stage", "program", "--node", f"n{EVIL}", "--json"),
        ("inspect", "--stage", "import", "--node", f"other{EVIL}"),
        ("run", "--trap", "nan"),
        ("run", "--trap", "inf", "--json"),
        ("verify", "--bisect"),
        ("verify", "--bisect", "--json"),
        ("run", "--dim", "nosuchdim=3"),
        ("bench", "--seconds", "0.01", "--rounds", "1"),
        ("bench", "--seconds", "0.01", "--rounds", "1", "--json"),
    ],
    ids=lambda arguments: " ".join(arguments).replace(EVIL, "EVIL"),
)
def test_output_is_clean(
    cli: Callable[..., Any], compiler: Any, hostile: Path, arguments: tuple[str, ...]
) -> None:
    ran = cli(arguments[0], hostile, *arguments[1:])
    assert ran.status in (0, 1, 2) and ran.out + ran.err
    assert is_clean(ran.out), ran.out
    assert is_clean(ran.err), ran.err
    if "--json" in arguments:
        json.loads(ran.out)


def test_names_do_not_become_paths(
    cli: Callable[..., Any], compiler: Any, hostile: Path, tmp_path: Path
) -> None:
    assert cli("run", hostile, "--outputs", tmp_path / "y.npz").status == 0
    with np.load(tmp_path / "y.npz") as stored:
        assert list(stored) == ["output_0"]


def test_differences_and_findings_are_clean(cli: Callable[..., Any], compiler: Any, hostile: Path) -> None:
    compiler.fault = lambda array: array + np.float32(1)
    ran = cli("verify", hostile)
    assert ran.status == 1 and is_clean(ran.out) and "DIFFERS" in ran.out
    compiler.fault = lambda array: 1 / 0
    ran = cli("verify", hostile)
    assert ran.status == 70 and is_clean(ran.err)
