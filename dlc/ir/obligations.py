"""What type inference relies on but cannot decide: relations of symbols that a run has to check."""

from __future__ import annotations

import contextvars
from collections.abc import Iterator
from contextlib import contextmanager

from dlc.ir.dims import Dim, Guard, Relation

_noted: contextvars.ContextVar[list[Guard] | None] = contextvars.ContextVar("noted", default=None)


def rely(relation: Relation, left: Dim, right: Dim, message: str) -> bool:
    """Whether ``left relation right`` may hold: False when it is known not to.

    Where only a run can tell, it becomes an obligation of whoever asked for them; `message` says what is
    wrong if it does not hold.
    """
    guard = Guard(relation, left, right, message)
    known = guard.known()
    noted = _noted.get()
    if known is None and noted is not None:
        noted.append(guard)
    return known is not False


@contextmanager
def obligations() -> Iterator[list[Guard]]:
    """The obligations that arise in the body of the `with` statement, in order."""
    noted: list[Guard] = []
    token = _noted.set(noted)
    try:
        yield noted
    finally:
        _noted.reset(token)
