"""`python -m dlc.bench.gpu`: dlc on a GPU beside torch, eager and compiled.

Each case runs in a process of its own, so that one that crashes or hangs costs nothing but itself; within it
the engines take turns. A finished case is a line in a file of the folder --out, and is not run again: long
work is split over calls with --part and --limit. --dry-run runs tiny forms of the cases on the CPU, where
Triton's interpreter stands for the GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dlc.bench.gpu.records import append_record, load_records
from dlc.bench.gpu.table import table
from dlc.errors import Error, UnsupportedError

Record = dict[str, Any]

#: Seconds that a case needs at least; with less left, none is begun.
_LEAST_SECONDS = 40.0
#: Seconds kept for the table.
_LAST_SECONDS = 5.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status: 0, or 1 where a case failed or differs."""
    options = _options(arguments)
    try:
        return _run_one(options) if options.record else _run(options)
    except Error as error:
        print(f"error: {error}", file=sys.stderr)
        return 3 if isinstance(error, UnsupportedError) else 2


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m dlc.bench.gpu", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="the folder of the records")
    parser.add_argument(
        "--part", type=_part, default=(1, 1), metavar="I/N", help="every N-th case, from I on"
    )
    parser.add_argument("--limit", type=float, default=float("inf"), help="seconds to take at most")
    parser.add_argument(
        "--only", type=lambda text: text.split(","), help="names of workloads or keys of cases"
    )
    parser.add_argument("--retry", action="store_true", help="run failed cases again")
    parser.add_argument("--no-tune", action="store_true", help="dlc takes its first choices (tune=False)")
    parser.add_argument("--dry-run", action="store_true", help="tiny, on the CPU, without a GPU")
    parser.add_argument("--list", action="store_true", help="only list the cases")
    parser.add_argument("--record", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def _part(text: str) -> tuple[int, int]:
    part, _, parts = text.partition("/")
    try:
        numbers = int(part), int(parts)
    except ValueError:
        numbers = 0, 0
    if not 1 <= numbers[0] <= numbers[1]:
        raise argparse.ArgumentTypeError(f"{text!r} is not I/N with I from 1 to N")
    return numbers


def _chosen(options: argparse.Namespace) -> list[Any]:
    """The cases of this call."""
    from dlc.bench.gpu.case import all_cases

    cases = all_cases()
    if options.only is not None:
        known = {name for case in cases for name in (case.key, case.workload)}
        unknown = [name for name in options.only if name not in known]
        if unknown:
            raise SystemExit(f"no workload or case {unknown[0]!r}; --list shows them")
        cases = [case for case in cases if {case.key, case.workload} & set(options.only)]
    part, parts = options.part
    return cases[part - 1 :: parts]


def _run(options: argparse.Namespace) -> int:
    cases = _chosen(options)
    if options.list:
        print("\n".join(case.key for case in cases))
        return 0
    if not options.dry_run:
        _require_gpu()
    end = time.monotonic() + options.limit - _LAST_SECONDS
    options.out.mkdir(parents=True, exist_ok=True)
    part, parts = options.part
    path = options.out / f"part-{part}-of-{parts}.jsonl"
    records = load_records(options.out)
    is_first = True
    left: list[str] = []
    for case in cases:
        known = records.get(case.key)
        if known is not None and not (options.retry and known["error"] is not None):
            continue
        seconds = end - time.monotonic()
        if left or seconds < (0.0 if options.dry_run else _LEAST_SECONDS):
            left.append(case.key)
            continue
        print(case.key, file=sys.stderr, flush=True)
        record = _trial(case) if options.dry_run else _in_process(case, seconds, path, options.no_tune)
        if record.pop("out_of_time", False) and not is_first:
            # It did not have the whole time: the next call begins with it.
            left.append(case.key)
            continue
        is_first = False
        append_record(path, record)
        records[case.key] = record
    shown = [records[case.key] for case in cases if case.key in records]
    print(table(shown))
    if left:
        print(f"not run yet: {', '.join(left)}")
    return int(any(_is_bad(record) for record in shown))


def _require_gpu() -> None:
    """UnsupportedError where torch or dlc have no GPU to run on."""
    import torch

    from dlc.target import resolve_gpu

    resolve_gpu("cuda")
    if not torch.cuda.is_available():
        raise UnsupportedError(
            "torch sees no GPU",
            hint="install torch for CUDA; --dry-run goes through everything without a GPU",
            code="unsupported/target",
        )


def _is_bad(record: Record) -> bool:
    wrong = [output for output in record.get("outputs", ()) if output["verdict"] == "differs"]
    return record["error"] is not None or bool(wrong)


def _trial(case: Any) -> Record:
    from dlc.bench.gpu.case import run_case
    from dlc.bench.gpu.place import Trial

    return run_case(case, Trial(), lambda record: None)


def _in_process(case: Any, seconds: float, path: Path, no_tune: bool) -> Record:
    """The record of a case that a child process measures within `seconds`; its log goes beside `path`."""
    with tempfile.TemporaryDirectory() as folder:
        partial = Path(folder, "record.json")
        command = [sys.executable, "-m", "dlc.bench.gpu", "--out", str(path.parent)]
        command += ["--only", case.key, "--record", str(partial)]
        command += ["--no-tune"] if no_tune else []
        limit = None if seconds == float("inf") else seconds
        died: str | None = None
        is_late = False
        with path.with_suffix(".log").open("ab") as log:
            try:
                done = subprocess.run(
                    command,
                    stdout=log,
                    stderr=log,
                    timeout=limit,
                    # Nothing that was compiled before: times of compilation are part of the record.
                    env={**os.environ, "DLC_CACHE_DIR": str(Path(folder, "cache"))},
                )
                if done.returncode:
                    died = f"the process ended with {done.returncode}; the log says more"
            except subprocess.TimeoutExpired:
                died, is_late = f"took more than {seconds:.0f} seconds", True
        record: Record = {"key": case.key, "engines": {}, "error": None}
        if partial.exists():
            record = json.loads(partial.read_text())
    if died is not None:
        # With dlc's times in the record, it was torch.compile that did not end.
        in_torch = "dlc" in record["engines"] and "compiled" not in record["engines"]
        record["torch_compile_error" if in_torch else "error"] = died
    return {**record, "out_of_time": is_late}


def _run_one(options: argparse.Namespace) -> int:
    """What the child process does: one case, whose record grows in a file."""
    from dlc.bench.gpu.case import run_case
    from dlc.bench.gpu.place import Gpu

    def keep(record: Record) -> None:
        fresh = options.record.with_suffix(".new")
        fresh.write_text(json.dumps(record))
        fresh.replace(options.record)

    (case,) = _chosen(options)
    keep(run_case(case, Gpu(tune=not options.no_tune), keep))
    return 0


if __name__ == "__main__":
    sys.exit(main())
