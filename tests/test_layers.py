"""The direction of the imports (docs/development.md shows the table), and what importing dlc pulls in."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import dlc
from dlc.models import digits_path

PACKAGE = Path(dlc.__file__).parent

BASE = {"errors", "options", "limits", "host"}
COMPILER = {"ir", "target", "frontend", "passes", "lowering", "backends", "runtime"}

#: Part of dlc -> the other parts that it may import. Every part may import BASE (each of which stands alone
#: but for the entries here); a part that is absent may not exist.
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "limits": {"errors"},
    "options": {"errors", "limits"},
    "host": {"errors"},
    "ir": BASE,
    "target": BASE,
    "frontend": BASE | {"ir"},
    "passes": BASE | {"ir", "target"},
    "lowering": BASE | {"ir", "target"},
    "backends": BASE | {"ir", "target", "lowering"},
    "runtime": BASE | {"target"},
    "api": BASE | COMPILER,
    "backend": BASE | {"api"},
    "torch": BASE | {"api"},
    "models": set(),
    "quantize": BASE | COMPILER | {"api"},
    "verify": BASE | COMPILER | {"api"},
    "report": BASE | COMPILER | {"api"},
    "fuzz": BASE | COMPILER | {"api", "verify", "models"},
    "bench": BASE | COMPILER | {"api", "quantize", "verify", "report", "models"},
    "cli": BASE | COMPILER | {"api", "quantize", "verify", "report", "models", "bench", "fuzz"},
    "__main__": {"cli"},
}

#: The one exception: the lazy table of dlc/__init__.py names modules as text, and the version is read by all.
VERSION_ONLY = {"__version__"}


def part_of(module: str) -> str:
    return module.split(".")[1]


def imported_modules(path: Path) -> Iterator[tuple[int, str]]:
    """(line, module) of each import of dlc in `path`; `from dlc import name` counts as module dlc.name."""
    package = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts[:-1])
    for node in ast.walk(ast.parse(path.read_text(), filename=str(path))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base] if base else above)
            names = [f"dlc.{alias.name}" for alias in node.names] if base == "dlc" else [base]
        else:
            continue
        yield from ((node.lineno, name) for name in names if name.startswith("dlc.") or name == "dlc")


def test_every_part_imports_only_what_lies_below_it() -> None:
    problems = []
    for path in sorted(PACKAGE.rglob("*.py")):
        relative = path.relative_to(PACKAGE)
        if relative == Path("__init__.py"):
            continue
        part = relative.with_suffix("").parts[0]
        if part not in MAY_IMPORT:
            problems.append(f"{relative}: {part} has no row in the table")
            continue
        for line, module in imported_modules(path):
            if module == "dlc":
                if part not in {"api", "bench", "cli", "verify"}:
                    problems.append(f"{relative}:{line}: imports dlc itself")
                continue
            target = part_of(module)
            if target not in MAY_IMPORT[part] | {part} | VERSION_ONLY:
                problems.append(f"{relative}:{line}: {part} may not import {target}")
    assert not problems, "\n".join(problems)


def third_party(statement: str) -> set[str]:
    """Top-level names of the non-standard modules that `statement` adds to a fresh interpreter's."""
    code = (
        "import sys; before = set(sys.modules)\n"
        f"{statement}\n"
        "print(*{name.split('.')[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=PACKAGE.parent)
    return set(done.stdout.split()) - {"dlc"}


@pytest.mark.parametrize(
    ("statement", "allowed"),
    [
        ("import dlc", {"numpy"}),
        ("import dlc; dlc.Options(); dlc.Limits(); dlc.UnsupportedError", {"numpy"}),
    ],
)
def test_third_party_imports(statement: str, allowed: set[str]) -> None:
    assert third_party(statement) <= allowed


def test_a_package_loads_and_runs_without_the_compiler(tmp_path: Path) -> None:
    """No onnx, no networkx: a package needs NumPy with small dtypes, LLVM to link, the user's folders."""
    path = tmp_path / "digits.dlc"
    with dlc.compile(digits_path(), cache=False) as model:
        model.save(path)
        (image,) = (
            np.zeros([1 if isinstance(n, str) else n for n in spec.shape], spec.dtype)
            for spec in model.inputs
        )
        np.savez(tmp_path / "in.npz", image=image, expected=model(image)[0])
    statement = (
        "import dlc, numpy as np\n"
        f"arrays = np.load({str(tmp_path / 'in.npz')!r})\n"
        f"model = dlc.load({str(path)!r})\n"
        "assert np.array_equal(model(arrays['image'])[0], arrays['expected'])"
    )
    assert third_party(statement) <= {"llvmlite", "ml_dtypes", "numpy", "platformdirs"}


def test_the_probe_sees_third_party_modules() -> None:
    assert "numpy" in third_party("import numpy")


def test_public_names() -> None:
    assert set(dlc.__all__) == set(dir(dlc))
    assert dlc.Options is not None and dlc.Error is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        getattr(dlc, "nothing")  # noqa: B009
