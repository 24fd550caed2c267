"""Lines of Python with indentation, and names that are not taken."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

#: One level of indentation.
INDENT = "    "


class Writer:
    """Collects the lines of one function's body."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._depth = 1
        self._counts: dict[str, int] = {}

    def line(self, text: str) -> None:
        """Write one line."""
        self.lines.append(INDENT * self._depth + text)

    def name(self, prefix: str) -> str:
        """A new variable name: ``v0``, ``v1``, ... for the prefix ``v``."""
        number = self._counts.get(prefix, 0)
        self._counts[prefix] = number + 1
        return f"{prefix}{number}"

    def assign(self, prefix: str, text: str) -> str:
        """Give `text` a name of its own, and return that."""
        name = self.name(prefix)
        self.line(f"{name} = {text}")
        return name

    @contextlib.contextmanager
    def block(self, header: str) -> Iterator[None]:
        """Lines inside of a loop or condition, whose `header` ends in a colon."""
        self.line(header)
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
