"""Planting a fault: one function of the compiler is compiled again with a small change in its source."""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
import sys
import textwrap
import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch


class NotPlantableError(Exception):
    """The function is not there, or its source does not hold the text exactly once."""


@dataclass(frozen=True)
class Fault:
    """A mistake that a programmer could make: `wrong` in place of `right` in the source of a function.

    `where` is "module:function" or "module:Class.method", the module without "dlc."; `seen_in` names the
    specimen that is expected to show the fault.
    """

    name: str
    seen_in: str
    where: str
    right: str
    wrong: str

    @contextlib.contextmanager
    def planted(self) -> Iterator[None]:
        """The compiler with the fault, wherever the function is referred to."""
        owner, name, original = self._find()
        changed = self._changed(owner, name, original)
        with contextlib.ExitStack() as stack:
            stack.enter_context(patch.object(owner, name, changed))
            for table in _tables():
                found = {key: changed for key, value in table.items() if value is original}
                if found:
                    stack.enter_context(patch.dict(table, found))
            yield

    def _find(self) -> tuple[Any, str, Any]:
        """The module or class, the function's name in it, the function."""
        module, _, path = self.where.partition(":")
        *outer, name = path.split(".")
        try:
            owner = functools.reduce(getattr, outer, importlib.import_module(f"dlc.{module}"))
            return owner, name, vars(owner)[name]
        except (ImportError, AttributeError, KeyError) as error:
            raise NotPlantableError(f"{self.name}: there is no {self.where}: {error}") from None

    def _changed(self, owner: Any, name: str, original: Any) -> Any:
        """The function with the change."""
        source = textwrap.dedent(inspect.getsource(original))
        if source.count(self.right) != 1:
            raise NotPlantableError(
                f"{self.name}: {self.where} has {source.count(self.right)} times {self.right!r}"
            )
        source = source.replace(self.right, self.wrong)
        namespace = sys.modules[original.__module__].__dict__
        # A decorator that enters the function into a table must not do so twice.
        lines = source.splitlines()
        start = next(number for number, line in enumerate(lines) if line.startswith("def "))
        made: dict[str, Any] = {}
        code = compile(
            "\n".join(["from __future__ import annotations", *lines[start:]]), f"<{self.name}>", "exec"
        )
        exec(code, namespace, made)
        function: types.FunctionType = made[name]
        return function


def _tables() -> list[dict[Any, Any]]:
    """The names of all modules of the compiler, and the dictionaries that they hold."""
    modules = [vars(module) for name, module in list(sys.modules.items()) if name.startswith("dlc.")]
    return [*modules, *(value for names in modules for value in list(names.values()) if type(value) is dict)]
