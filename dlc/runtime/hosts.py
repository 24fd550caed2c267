"""Host steps as the runtime sees them: what takes them, and how native code calls it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias

from dlc.runtime.abi import HOST_FUNCTION


class Host(Protocol):
    """Takes the host steps of one run at a time, and holds what of a run is not in native memory."""

    def __call__(self, step: int, buffers: int, symbols: int) -> None:
        """Take a step: its number in the program, and the addresses of its array of pointers and of the array
        of symbol values. An exception ends the call."""

    def begin(self, objects: Sequence[Any]) -> None:
        """A run begins, on these inputs that are not in native memory."""

    def end(self) -> None:
        """What the last run left is no longer needed."""


#: Makes what takes the host steps of one context.
HostFactory: TypeAlias = Callable[[], Host]


def host_callback(host: Host, errors: list[BaseException]) -> Any:
    """`host` as native code calls it. An exception must not pass through that code, so it goes to
    `errors`."""

    def run(data: int | None, step: int, buffers: int | None, symbols: int | None) -> int:
        try:
            host(step, buffers or 0, symbols or 0)
        except BaseException as error:
            errors.append(error)
            return 1
        return 0

    return HOST_FUNCTION(run)
