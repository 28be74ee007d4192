"""Which endpoints were left as they should be: nothing is computed for them until that changes.

``reconcile`` asks before it parses and renders, which is most of its work, and remembers after it
has compared everything. Most of what wakes an endpoint changes a status only: its pods come up, or
it was our own write. It remembers a number per endpoint, and nothing over a restart.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, TypeVar

from endpoint_operator.live import Live, Ref

Known = TypeVar("Known")


def shape(
    owner: Live, children: Iterable[Live], *, referenced: Live | None, root_key: bytes
) -> int:
    """Return a number for what is wanted of an owner and its children, whatever their status.

    ``referenced`` is what the owner refers to.
    """
    seen = frozenset((child.ref, child.wanted) for child in children)
    return hash((root_key, owner.wanted, referenced and referenced.wanted, seen))


class Settled(Generic[Known]):
    """What was found of owners, by the shape in which they were left."""

    def __init__(self) -> None:
        self._known: dict[Ref, tuple[int, Known]] = {}

    def recall(self, owner: Ref, shape: int) -> Known | None:
        """Return what was found of an owner, if it and its children still have this shape."""
        known = self._known.get(owner)
        return known[1] if known and known[0] == shape else None

    def remember(self, owner: Ref, shape: int, found: Known) -> None:
        """Remember an owner that was left in this shape."""
        self._known[owner] = (shape, found)

    def forget(self, owner: Ref) -> None:
        """Have everything of an owner computed again."""
        self._known.pop(owner, None)
