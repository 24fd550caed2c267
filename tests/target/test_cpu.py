"""The CPU target descriptions."""

from __future__ import annotations

from pathlib import Path

import pytest

from dlc.errors import InputError
from dlc.target import native, resolve
from dlc.target.cpu import _caches


def test_levels_are_nested_data() -> None:
    v3, v4 = resolve("x86-64-v3"), resolve("x86-64-v4")
    assert v3.features < v4.features
    assert (v3.vector_bits, v3.vector_registers, v3.avx512, v3.vnni) == (256, 16, False, False)
    assert (v4.vector_bits, v4.vector_registers, v4.avx512, v4.bf16) == (512, 32, True, False)
    assert v3.runs_on(v4) and not v4.runs_on(v3)
    assert resolve("x86-64-v3") is v3


def test_native_is_complete() -> None:
    machine = resolve("native")
    assert machine is native()
    assert machine.fma and machine.f16c and machine.is_x86
    assert machine.l1 >= 8 * 1024 and machine.l2 >= machine.l1
    assert resolve("x86-64-v3").runs_on(machine)
    disabled = {part[1:] for part in machine.feature_string.split(",") if part.startswith("-")}
    assert not disabled & machine.features


def test_unknown_names_are_refused() -> None:
    with pytest.raises(InputError, match="x86-64-v9") as caught:
        resolve("x86-64-v9")
    assert "x86-64-v3" in str(caught.value)


def test_cache_sizes_from_sysfs(tmp_path: Path) -> None:
    entries = {
        "index0": ("1", "Data", "48K"),
        "index1": ("1", "Instruction", "64K"),
        "index2": ("2", "Unified", "2M"),
    }
    for name, (level, kind, size) in entries.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "level").write_text(level + "\n")
        (tmp_path / name / "type").write_text(kind + "\n")
        (tmp_path / name / "size").write_text(size + "\n")
    (tmp_path / "index3").mkdir()
    (tmp_path / "index3" / "level").write_text("what?")
    assert dict(_caches(tmp_path)) == {1: 48 * 1024, 2: 2 * 1024**2, 3: 16 * 1024**2}
    assert _caches(tmp_path / "absent")[1] == 32 * 1024
