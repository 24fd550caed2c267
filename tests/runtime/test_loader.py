"""Loading of objects: linking, errors, unloading, and no memory that is both writable and executable."""

from __future__ import annotations

import ctypes
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from dlc.errors import PackageError
from dlc.runtime.library import runtime
from dlc.runtime.loader import JitLibrary
from tests.runtime.native_code import compile_ir, kernels

ADD = (
    "@bias = internal global i64 5\n"
    + """
define i64 @add(i64 %x) {
  %bias = load i64, ptr @bias
  %sum = add i64 %x, %bias
  store i64 %sum, ptr @bias
  ret i64 %sum
}
"""
)
CALLS_ADD = """
declare i64 @add(i64)
declare i64 @given()
define i64 @both(i64 %x) {
  %a = call i64 @add(i64 %x)
  %b = call i64 @given()
  %sum = add i64 %a, %b
  ret i64 %sum
}
"""
CALLS_NOTHING = """
declare void @no_such_function()
define void @call() {
  call void @no_such_function()
  ret void
}
"""
OTHER_ARCHITECTURE = "aarch64" if platform.machine() == "x86_64" else "x86_64"
INTEGER_FUNCTION = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)


def test_objects_link_with_each_other_and_with_given_symbols() -> None:
    given = ctypes.CFUNCTYPE(ctypes.c_int64)(lambda: 1000)
    address = ctypes.cast(given, ctypes.c_void_p).value
    assert address is not None
    library = JitLibrary([compile_ir(CALLS_ADD), compile_ir(ADD)], {"given": address}, exports=["both"])
    both = INTEGER_FUNCTION(library.address("both"))
    assert [both(1), both(1)] == [1006, 1007]
    assert INTEGER_FUNCTION(library.address("add"))(0) == 7
    library.close()
    assert library.closed
    with pytest.raises(ValueError, match="closed"):
        library.address("both")


def test_the_same_object_loads_many_times_with_data_of_its_own() -> None:
    code = compile_ir(ADD)
    libraries = [JitLibrary([code], {}) for _ in range(20)]
    assert [INTEGER_FUNCTION(library.address("add"))(1) for library in libraries] == [6] * 20
    for library in libraries:
        library.close()


def test_missing_symbols_are_errors() -> None:
    with pytest.raises(PackageError, match=r"cannot be linked.*call"):
        JitLibrary([compile_ir(CALLS_NOTHING)], {}, exports=["call"])
    with pytest.raises(PackageError, match="nothing"):
        JitLibrary([compile_ir(ADD)], {}).address("nothing")
    with pytest.raises(PackageError, match="nothing"):
        JitLibrary([compile_ir(ADD)], {}, exports=["nothing"])


@pytest.mark.parametrize(
    "code",
    [
        b"",
        b"not an object" * 10,
        b"\x7fELF\x02\x01" + bytes(58),
        compile_ir(ADD, f"{OTHER_ARCHITECTURE}-unknown-linux-gnu"),
        compile_ir(ADD)[:100],
        compile_ir(ADD)[:64] + bytes(400),
        Path(sys.executable).read_bytes()[:4096],
    ],
    ids=["empty", "text", "header", "other machine", "truncated", "zeros", "executable"],
)
def test_damaged_objects_are_refused(code: bytes) -> None:
    with pytest.raises(PackageError):
        JitLibrary([code], {}).address("add")


def test_no_memory_is_writable_and_executable() -> None:
    """In a process of its own. Some builds of Python keep the closures of ctypes in such a page, of which
    llvmlite makes two when it is imported; nothing may come on top of that."""
    program = (
        "import llvmlite.binding, re\n"
        "writable_code = lambda: re.findall('.* rwx.*', open('/proc/self/maps').read())\n"
        "before = writable_code()\n"
        "from tests.runtime.native_code import kernels, launch, new_context, words\n"
        "import numpy as np\n"
        "ids = np.zeros(8, np.int64)\n"
        "launch(new_context(3), 'record_thread', words(ids.ctypes.data, 10), 8)\n"
        "print(len(before), len(writable_code()))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    before, after = map(int, result.stdout.split())
    assert after == before


def test_code_of_this_process_is_not_writable() -> None:
    addresses = [*runtime().symbols.values(), kernels().address("shift_add")]
    maps = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        bounds, protection = line.split()[:2]
        start, end = (int(part, 16) for part in bounds.split("-"))
        maps.append((range(start, end), protection))
    for address in addresses:
        assert [protection for span, protection in maps if address in span] == ["r-xp"]


def test_the_interpreter_ends_cleanly_while_workers_spin() -> None:
    program = (
        "from tests.runtime.native_code import launch, new_context, words\n"
        "import numpy as np\n"
        "ids = np.zeros(64, np.int64)\n"
        "for _ in range(20): launch(new_context(4), 'record_thread', words(ids.ctypes.data, 0), 64)\n"
    )
    for _ in range(3):
        assert subprocess.run([sys.executable, "-c", program]).returncode == 0
