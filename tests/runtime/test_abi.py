"""dlc.h, abi.py and the runtime agree; a C program can use a compiled model."""

from __future__ import annotations

import re
import shutil
import subprocess
from ctypes import Structure
from importlib.resources import files
from pathlib import Path

import pytest

from dlc.errors import UnsupportedError
from dlc.runtime.abi import ABI_VERSION, CallBlock, Context, LaunchRecord, Status, Storage
from dlc.runtime.native import EXPORTS, compile_runtime, source
from tests.runtime.native_code import compile_ir

HEADER = files("dlc.runtime.native") / "dlc.h"
COMPILER = shutil.which("cc")
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C compiler")

#: A model y = x + bias for n floats in chunks of 1000; guard 0: n <= 1,000,000.
MODEL = """
declare void @dlc_launch(ptr, ptr, ptr, i64)
declare i64 @dlc_reserve_scratch(ptr, i64)

define void @kernel(ptr %args, i64 %chunk, ptr %scratch) {
entry:
  %x = load ptr, ptr %args
  %y.p = getelementptr i64, ptr %args, i64 1
  %y = load ptr, ptr %y.p
  %bias.p = getelementptr i64, ptr %args, i64 2
  %bias.address = load ptr, ptr %bias.p
  %bias = load float, ptr %bias.address
  %n.p = getelementptr i64, ptr %args, i64 3
  %n = load i64, ptr %n.p
  store float %bias, ptr %scratch
  %first = mul i64 %chunk, 1000
  %above = add i64 %first, 1000
  %is.last = icmp slt i64 %n, %above
  %end = select i1 %is.last, i64 %n, i64 %above
  br label %next
next:
  %i = phi i64 [ %first, %entry ], [ %i.next, %next ]
  %from = getelementptr float, ptr %x, i64 %i
  %value = load float, ptr %from
  %sum = fadd float %value, %bias
  %to = getelementptr float, ptr %y, i64 %i
  store float %sum, ptr %to
  %i.next = add i64 %i, 1
  %more = icmp slt i64 %i.next, %end
  br i1 %more, label %next, label %out
out:
  ret void
}

define i64 @dlc_shapes(ptr %symbols, ptr %out) {
  %n = load i64, ptr %symbols
  store i64 64, ptr %out
  %extent = getelementptr i64, ptr %out, i64 1
  store i64 %n, ptr %extent
  %bad = icmp sgt i64 %n, 1000000
  %result = zext i1 %bad to i64
  ret i64 %result
}

define i64 @dlc_run(ptr %context, ptr %symbols, ptr %inputs, ptr %outputs, ptr %constants, ptr %arena) {
entry:
  %status = call i64 @dlc_reserve_scratch(ptr %context, i64 64)
  %n = load i64, ptr %symbols
  %x = load ptr, ptr %inputs
  %y = load ptr, ptr %outputs
  %bias = load ptr, ptr %constants
  store ptr %x, ptr %arena
  %y.p = getelementptr i64, ptr %arena, i64 1
  store ptr %y, ptr %y.p
  %bias.p = getelementptr i64, ptr %arena, i64 2
  store ptr %bias, ptr %bias.p
  %n.p = getelementptr i64, ptr %arena, i64 3
  store i64 %n, ptr %n.p
  %above = add i64 %n, 999
  %chunks = sdiv i64 %above, 1000
  call void @dlc_launch(ptr %context, ptr @kernel, ptr %arena, i64 %chunks)
  ret i64 0
}
"""

PROGRAM = """
#include <stdio.h>
#include <stdlib.h>
#include "dlc.h"

int main(void) {
    int64_t symbols[1] = {100001}, out[2];
    if (dlc_shapes(symbols, out) != 0 || out[1] != 100001) return 1;
    int64_t too_large[1] = {1000001}, ignored[2];
    if (dlc_shapes(too_large, ignored) != 1) return 2;

    float bias = 0.5f, *x = malloc(4 * out[1]), *y = malloc(4 * out[1]);
    for (int64_t i = 0; i < out[1]; i++) x[i] = (float)i;
    void *inputs[] = {x}, *outputs[] = {y}, *constants[] = {&bias};
    void *arena = aligned_alloc(64, out[0]);
    dlc_context context = {0};
    context.pool = dlc_pool_create();
    context.threads = 3;
    dlc_call_block call = {dlc_run, &context, symbols, inputs, outputs, constants, arena};
    for (int run = 0; run < 100; run++) {
        for (int64_t i = 0; i < out[1]; i++) y[i] = -1;
        if (dlc_call(&call) != DLC_OK) return 3;
        for (int64_t i = 0; i < out[1]; i++) if (y[i] != (float)i + 0.5f) return 4;
    }
    if (context.launches != 100 || context.chunks != 10100 || dlc_pool_threads(context.pool) != 3) return 5;
    dlc_release_memory(&context);
    dlc_pool_destroy(context.pool);
    printf("done\\n");
    return 0;
}
"""


def test_header_declares_the_exports_and_the_version() -> None:
    text = HEADER.read_text("utf-8")
    for name in EXPORTS:
        assert re.search(rf"\b{name}\(", text), name
    assert f"#define DLC_ABI_VERSION {ABI_VERSION}\n" in text
    defined = {name: int(value) for name, value in re.findall(r"DLC_([A-Z_]+) = (\d+)", text)}
    assert defined == {status.name: status.value for status in Status}


@needs_compiler
def test_structures_have_the_layout_of_the_header(tmp_path: Path) -> None:
    structures = {
        "dlc_context": Context,
        "dlc_call_block": CallBlock,
        "dlc_launch_record": LaunchRecord,
        "dlc_storage": Storage,
    }
    lines = ["#include <stddef.h>", f'#include "{HEADER}"']
    for name, structure in structures.items():
        lines.append(f'_Static_assert(sizeof({name}) == {_size(structure)}, "size of {name}");')
        for field in structure._fields_:
            offset = getattr(structure, field[0]).offset
            lines.append(f'_Static_assert(offsetof({name}, {field[0]}) == {offset}, "{name}.{field[0]}");')
    (tmp_path / "layout.c").write_text("\n".join(lines) + "\n")
    _compile(tmp_path, "-c", "layout.c", "-o", "layout.o", "-Wall", "-Wextra", "-Werror")


@needs_compiler
def test_a_c_program_runs_a_model(tmp_path: Path) -> None:
    import llvmlite.binding as llvm

    (tmp_path / "runtime.o").write_bytes(compile_runtime(llvm.get_process_triple()))
    (tmp_path / "model.o").write_bytes(compile_ir(MODEL))
    (tmp_path / "main.c").write_text(PROGRAM)
    folder = str(Path(str(HEADER)).parent)
    _compile(
        tmp_path, "-O1", "-Wall", "-I", folder, "main.c", "model.o", "runtime.o", "-o", "main", "-lpthread"
    )
    result = subprocess.run([tmp_path / "main"], capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stdout) == (0, "done\n")


@pytest.mark.parametrize("architecture", ["x86_64", "aarch64"])
def test_the_runtime_compiles_for_every_architecture(architecture: str) -> None:
    code = compile_runtime(f"{architecture}-unknown-linux-gnu")
    assert code.startswith(b"\x7fELF") and b"dlc_launch\0" in code
    assert code == compile_runtime(f"{architecture}-unknown-linux-gnu")


def test_other_architectures_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="sparc"):
        source("sparc")


def _size(structure: type[Structure]) -> int:
    from ctypes import sizeof

    return sizeof(structure)


def _compile(folder: Path, *arguments: str) -> None:
    assert COMPILER is not None
    result = subprocess.run([COMPILER, *arguments], cwd=folder, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
