"""Options that several commands share, and their translation to the arguments of `dlc.compile`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import click

from dlc.cli.output import Output
from dlc.limits import Limits
from dlc.options import ACCURACIES, PRECISIONS, ShapeSpec

Function = TypeVar("Function", bound=Callable[..., Any])


#: A file that exists, as a pathlib.Path.
EXISTING_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


def parse_dims(ctx: click.Context, param: click.Parameter, values: Sequence[str]) -> dict[str, ShapeSpec]:
    """NAME=EXTENTS: `batch=1` fixes a symbol, `batch=1,8,64` hints its range, `x=1,3,224,224` is a shape."""
    dims: dict[str, ShapeSpec] = {}
    for value in values:
        name, _, text = value.rpartition("=")
        items = text.split(",")
        if not name or not all(item == "?" or _is_number(item) for item in items):
            raise click.BadParameter(f"{value!r} is not NAME=EXTENT or NAME=EXTENT,EXTENT,...", ctx, param)
        extents = tuple(None if item == "?" else int(item) for item in items)
        dims[name] = extents[0] if len(extents) == 1 and extents[0] is not None else extents
    return dims


def parse_limits(ctx: click.Context, param: click.Parameter, values: Sequence[str]) -> Limits:
    """FIELD=NUMBER, a field of dlc.Limits."""
    known = [item.name for item in fields(Limits)]
    limits: dict[str, int] = {}
    for value in values:
        name, _, text = value.partition("=")
        if name not in known:
            raise click.BadParameter(f"{name!r} is not one of {', '.join(known)}", ctx, param)
        if not _is_number(text) or int(text) == 0:
            raise click.BadParameter(f"{text!r} is not a positive number", ctx, param)
        limits[name] = int(text)
    return Limits(**limits)


def parse_integers(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    """Positive integers separated by commas."""
    if value is None:
        return None
    parts = value.split(",")
    if not all(_is_number(part) and int(part) > 0 for part in parts):
        raise click.BadParameter(f"{value!r} is not a list of positive integers", ctx, param)
    return tuple(int(part) for part in parts)


def _is_number(text: str) -> bool:
    """Whether `text` is a decimal number that fits 63 bits."""
    return text.isascii() and text.isdigit() and len(text) <= 18


def json_option(function: Function) -> Function:
    """`--json`; the command gets an :class:`Output` as `output`."""

    @click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
    @functools.wraps(function)
    def wrapper(as_json: bool, **arguments: Any) -> Any:
        return function(output=Output(as_json), **arguments)

    return wrapper  # type: ignore[return-value]  # click has no type for a function with an option taken off


dim_option = click.option(
    "--dim",
    "dims",
    metavar="NAME=EXTENTS",
    multiple=True,
    callback=parse_dims,
    help="batch=1 fixes a symbolic dim; batch=1,8,64 hints minimum, typical and maximum; x=1,3,224,224 "
    "gives the shape of an input. Repeatable.",
)

target_option = click.option(
    "--target",
    default="native",
    show_default=True,
    help="What to compile for: native, x86-64-v3, x86-64-v4, cuda (the GPU at hand), cuda:sm_90, ...",
)

threads_option = click.option(
    "--threads",
    type=click.IntRange(1, 4096),
    help="Threads to use. Default: the CPUs that this process may use.",
)


def compile_options(function: Function) -> Function:
    """The options of `dlc.compile` except `shapes` and `threads`; the command gets them as `options`."""

    @click.option(
        "-O", "optimize", type=click.IntRange(0, 3), default=2, show_default=True, help="Optimization level."
    )
    @click.option(
        "--precision",
        type=click.Choice(PRECISIONS),
        default="model",
        show_default=True,
        help="Dtype in which float32 contractions compute.",
    )
    @click.option(
        "--accuracy",
        type=click.Choice(ACCURACIES),
        default="default",
        show_default=True,
        help="strict: direct summation; default: Winograd too; fast: fast matrix multiplication too.",
    )
    @click.option("--strict", is_flag=True, help="Refuse nodes that would run on the host.")
    @click.option("--low-memory", is_flag=True, help="No algorithms that expand weights.")
    @click.option(
        "--debug-codegen",
        is_flag=True,
        help="Check every access to memory of the generated code, with red zones around buffers and NaNs in "
        "fresh memory. Slow: for finding faults of dlc.",
    )
    @click.option(
        "--tune",
        is_flag=True,
        help="Measure the ways to run kernels on the GPU at hand, and keep what was measured.",
    )
    @click.option("--isolate", is_flag=True, help="Compile in a process of its own, with limits.")
    @click.option("--no-cache", is_flag=True, help="Leave the compile cache out.")
    @click.option(
        "--external-data-dir",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        help="Another folder in which external data may lie.",
    )
    @click.option(
        "--limit",
        "limits",
        metavar="FIELD=NUMBER",
        multiple=True,
        callback=parse_limits,
        help="Raise or lower a limit on work and memory, such as arena_bytes=8589934592. Repeatable.",
    )
    @functools.wraps(function)
    def wrapper(
        optimize: int,
        precision: str,
        accuracy: str,
        strict: bool,
        low_memory: bool,
        debug_codegen: bool,
        tune: bool,
        isolate: bool,
        no_cache: bool,
        external_data_dir: Path | None,
        limits: Limits,
        **arguments: Any,
    ) -> Any:
        options = {
            "optimize": optimize,
            "precision": precision,
            "accuracy": accuracy,
            "strict": strict,
            "memory": "low" if low_memory else "default",
            "cache": not no_cache,
            "debug_codegen": debug_codegen,
            "tune": tune,
            "isolate": isolate,
            "external_data_dir": external_data_dir,
            "limits": limits,
        }
        return function(options=options, **arguments)

    return wrapper  # type: ignore[return-value]  # as above
