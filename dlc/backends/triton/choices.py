"""Which way each piece of work is done, where a template has several."""

from __future__ import annotations

import dataclasses
from typing import Any

from dlc.backends.triton.function_builder import Call, Work
from dlc.backends.triton.templates.template import Launches
from dlc.lowering.canonical import structural_hash
from dlc.lowering.kernel import Kernel
from dlc.target import GpuTarget


@dataclasses.dataclass
class Choices:
    """The numbers of candidates by the keys of work; the first where nothing is said."""

    chosen: dict[str, int] = dataclasses.field(default_factory=dict)

    def emit(self, label: str, template: Any, part: Kernel, form: Any, target: GpuTarget) -> Launches:
        """What `template` writes for a part that it takes, in the way that was chosen."""
        if not hasattr(template, "candidates"):
            return _launches(template.emit(part, form, target))
        found = template.candidates(form, target)
        key = f"{label}:{structural_hash(part)}"
        way = min(self.chosen.get(key, 0), len(found) - 1)
        written = _launches(template.emit(part, form, target, found[way]))
        work = Work(key, way, len(found))
        calls = tuple(dataclasses.replace(call, work=work) for call in written.calls)
        return dataclasses.replace(written, calls=calls)


def _launches(written: Call | Launches) -> Launches:
    return Launches((written,)) if isinstance(written, Call) else written
