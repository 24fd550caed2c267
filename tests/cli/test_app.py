"""The frame of all commands: help, exit statuses, errors as text and JSON, tracebacks only on demand."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

import dlc
from dlc import errors
from dlc.cli.app import COMMANDS, commands
from dlc.cli.exit_codes import ExitCode, exit_code
from dlc.models import digits_path

ROOT = Path(dlc.__file__).parent.parent


def test_every_command_has_help_and_json(cli: Callable[..., Any]) -> None:
    assert cli("--help").status == 0
    for name in COMMANDS:
        assert cli(name, "--help").status == 0
        command = commands.get_command(click.Context(commands), name)
        leaves = command.commands.values() if isinstance(command, click.Group) else [command]
        for leaf in leaves:
            assert leaf is not None and leaf.help
            assert any("--json" in parameter.opts for parameter in leaf.params), leaf.name


def test_version_and_usage(cli: Callable[..., Any]) -> None:
    assert dlc.__version__ in cli("--version").out
    for arguments in ([], ["frobnicate"], ["run"], ["run", "no-such-file.onnx"], ["ops", "--frobnicate"]):
        ran = cli(*arguments)
        assert ran.status == 2 and ran.err and "Traceback" not in ran.err


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.InputError("x"), 2),
        (errors.ShapeError("x"), 2),
        (errors.ModelError("x"), 2),
        (errors.ExternalDataError("x"), 2),
        (errors.PackageError("x"), 2),
        (errors.UnsupportedError("x"), 3),
        (errors.LimitError("x"), 4),
        (errors.ResourceError("x"), 4),
        (MemoryError(), 4),
        (errors.VerificationError("x"), 1),
        (errors.CancelledError("x"), 130),
        (KeyboardInterrupt(), 130),
        (errors.InternalError("x"), 70),
        (ZeroDivisionError("x"), 70),
    ],
)
def test_exit_statuses(
    error: BaseException, status: int, cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert exit_code(error) == status

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setitem(vars(dlc), "compile", fail)
    monkeypatch.delenv("DLC_DEBUG", raising=False)
    ran = cli("run", digits_path(), "--json")
    assert ran.status == status and "Traceback" not in ran.err and ran.out.strip() != "{}"
    if not isinstance(error, KeyboardInterrupt):
        assert json.loads(ran.out)["code"] in errors.CODES
        assert ran.err.startswith("error: ")


def test_a_traceback_is_shown_on_demand_only(
    cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("planted")

    monkeypatch.setitem(vars(dlc), "compile", fail)
    monkeypatch.setenv("DLC_DEBUG", "0")
    ran = cli("run", digits_path())
    assert ran.status == ExitCode.BUG and "Traceback" not in ran.err
    assert "ZeroDivisionError: planted" in ran.err and "this is a bug in dlc" in ran.err
    monkeypatch.setenv("DLC_DEBUG", "1")
    ran = cli("run", digits_path())
    assert ran.status == ExitCode.BUG and "Traceback" in ran.err and "planted" in ran.err


def test_errors_cannot_control_the_terminal(cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise errors.ModelError("bad \x1b[2J name\x07", node="a\x1b]0;b")

    monkeypatch.setitem(vars(dlc), "compile", fail)
    ran = cli("run", digits_path(), "--json")
    assert "\x1b" not in ran.err + ran.out and "\x07" not in ran.err and "\\x1b[2J" in ran.err


def test_unsupported_models_list_all_findings(
    cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [errors.Finding(f"n{i}", "Op", "", 1, (), (), "no such thing") for i in range(3)]

    def fail(*_: object, **__: object) -> None:
        raise errors.UnsupportedError("3 nodes are not supported", findings=found)

    monkeypatch.setitem(vars(dlc), "compile", fail)
    ran = cli("run", digits_path(), "--json")
    assert ran.status == 3 and len(ran.err.splitlines()) == 4
    assert len(json.loads(ran.out)["findings"]) == 3


def dlc_process(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dlc", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, text=True, env=environment, check=False, **options)


def test_the_module_runs_as_a_process() -> None:
    done = dlc_process("check", digits_path(), capture_output=True)
    assert done.returncode == 0 and done.stdout == "digits.onnx: supported\n" and done.stderr == ""


def test_a_closed_pipe_is_no_bug() -> None:
    read, write = os.pipe()
    os.close(read)
    done = dlc_process("ops", "--names", "--json", stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    assert done.returncode == ExitCode.BROKEN_PIPE and "Traceback" not in done.stderr


def test_help_is_light() -> None:
    """Neither help nor the group may import what only running a command needs."""
    code = (
        "import sys; from dlc.cli.app import run; run(['--help'])\n"
        "heavy = {'onnx', 'numpy', 'llvmlite', 'networkx', 'rich', 'onnxruntime', 'torch'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.stderr.strip() == ""
