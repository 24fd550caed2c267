"""The group of commands, and the one place where errors become messages and exit codes."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module

import click

import dlc
from dlc.cli.exit_codes import ExitCode, exit_code
from dlc.errors import Error, InputError, InternalError, LimitError, ResourceError, printable
from dlc.options import Environment

#: The commands in the order of `dlc --help`; each is `command` of the module of its name.
COMMANDS = tuple("compile run verify reduce fuzz bench profile check inspect ops doctor demo cache".split())


class Commands(click.Group):
    """Imports a command's module when the command is looked up."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"dlc.cli.{cmd_name}").command
        return command


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(dlc.__version__, prog_name="dlc")
def commands() -> None:
    """Compile trained ONNX models into fast native code, run, verify and measure them.

    Exit status: 0 well; 1 answers differ or a regression; 2 usage, bad model or bad input; 3 unsupported;
    4 a limit or memory; 70 a bug in dlc; 130 interrupted. Results go to standard output, progress to standard
    error; every command takes --json.
    """


def run(arguments: Sequence[str]) -> int:
    """Run `dlc` with `arguments`; returns the exit status. Never raises; no traceback without DLC_DEBUG."""
    try:
        status = commands.main(list(arguments), prog_name="dlc", standalone_mode=False)
        sys.stdout.flush()
        return int(status) if isinstance(status, int) else ExitCode.OK
    except click.ClickException as error:
        error.show()
        _show_json(arguments, InputError(error.format_message(), code="input/option"))
        return ExitCode.BAD_INPUT
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted", err=True)
        return ExitCode.INTERRUPTED
    except SystemExit:  # click's answer to a closed pipe
        return ExitCode.BROKEN_PIPE
    except BrokenPipeError as error:
        # The interpreter flushes standard output once more at its end; let that go nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return exit_code(error)
    except Exception as error:  # whatever escapes from dlc is a bug, and is reported as one
        if _debug():
            traceback.print_exc()
        known = _as_error(error)
        click.echo(f"error: {_message(known)}", err=True)
        _show_json(arguments, known)
        return exit_code(known)


def _as_error(error: Exception) -> Error:
    """The error itself, or what an exception that is not dlc's own amounts to."""
    match error:
        case Error():
            return error
        case MemoryError():
            return ResourceError("there is not enough memory")
        case RecursionError():
            return LimitError("the model is nested too deeply")
        case _:
            return InternalError(f"{type(error).__name__}: {printable(str(error))}")


def _message(error: Error) -> str:
    """The error's text, each line of it printable."""
    text = "\n".join(printable(line, limit=2000) for line in str(error).splitlines())
    if isinstance(error, InternalError) and not _debug():
        text += " (DLC_DEBUG=1 shows the traceback)"
    return text


def _show_json(arguments: Sequence[str], error: Error) -> None:
    """Under `--json` the error is the result, too."""
    if "--json" in arguments:
        click.echo(json.dumps(error.to_dict(), indent=2))


def _debug() -> bool:
    try:
        return Environment.read().debug
    except InputError:
        return False
