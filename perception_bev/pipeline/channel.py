"""Pipeline: what lies between two stages: room for one, and the newest wins."""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

T = TypeVar("T")


class Closed(Exception):
    """Nothing comes any more."""


class Channel(Generic[T]):
    """Holds the newest item until it is taken. Any thread may call."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._item: T | None = None
        self._open = True
        self.overtaken = 0  # items that a newer one pushed out

    def put(self, item: T) -> T | None:
        """The item that this one overtook, or itself after close(); None: it waits to be taken."""
        with self._changed:
            if not self._open:
                return item
            before, self._item = self._item, item
            self.overtaken += before is not None
            self._changed.notify()
        return before

    def get(self) -> T:
        """Wait for an item and take it. Raises Closed after close()."""
        with self._changed:
            while self._item is None and self._open:
                self._changed.wait()
            if not self._open:
                raise Closed
            item, self._item = self._item, None
        return item

    def close(self) -> T | None:
        """End all waiting; an item that nobody took is given back."""
        with self._changed:
            self._open = False
            item, self._item = self._item, None
            self._changed.notify_all()
        return item
