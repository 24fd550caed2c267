"""What a call returns: a tuple whose entries also have names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from dlc.errors import InputError, printable


class Outputs(Sequence[Any]):
    """The outputs of a call, in the model's order: `y[0]`, `y["logits"]`, `logits, = y`, `y.logits` style
    unpacking.

    Entries are NumPy arrays, or torch tensors, or another library's arrays where the inputs were (with DLPack
    and a `from_dlpack`); lists of them for sequences, and None for an optional without a value.
    """

    __slots__ = ("_values", "names")

    def __init__(self, names: tuple[str, ...], values: Sequence[Any]) -> None:
        self.names = names
        self._values = tuple(values)

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            try:
                return self._values[self.names.index(key)]
            except ValueError:
                known = ", ".join(printable(name) for name in self.names)
                raise InputError(
                    f"no output {printable(key)!r}; there are: {known}", code="input/name"
                ) from None
        return self._values[key]

    def __len__(self) -> int:
        return len(self._values)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._values)

    def items(self) -> Iterator[tuple[str, Any]]:
        """(name, array) of every output."""
        return zip(self.names, self._values, strict=True)

    def to_dict(self) -> dict[str, Any]:
        """The outputs by name."""
        return dict(self.items())

    def __repr__(self) -> str:
        parts = (f"{printable(name)}: {_shown(value)}" for name, value in self.items())
        return f"Outputs({', '.join(parts)})"


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_shown, value))}]"
    if isinstance(value, dict):
        return f"{{{len(value)} numbers or strings}}"
    return "None" if value is None else f"{value.dtype}{list(value.shape)}"
