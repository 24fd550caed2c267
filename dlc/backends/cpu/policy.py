"""What the user's options leave to the choice of templates."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Policy:
    """`direct_sums`: sums of products are summed as they stand, not by Winograd's algorithm. `small_weights`:
    no template may store a weight in more bytes than the model does.
    """

    direct_sums: bool = False
    small_weights: bool = False

    @classmethod
    def of(cls, accuracy: str, memory: str) -> Policy:
        """The policy of the options `accuracy` and `memory` (see dlc.Options)."""
        return cls(direct_sums=accuracy == "strict", small_weights=memory == "low")
