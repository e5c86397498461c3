"""Values derived from objects that live elsewhere."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class ByIdentity(Generic[K, V]):
    """One value for each object, by identity; a value goes when its object does."""

    def __init__(self, make: Callable[[K], V]) -> None:
        """`make` returns the value of an object; neither may keep the object, nor make this."""
        self._make = make
        self._found: dict[int, tuple[weakref.ref[K], V]] = {}

    def __getitem__(self, key: K) -> V:
        entry = self._found.get(id(key))
        if entry is not None and entry[0]() is key:
            return entry[1]
        number, owner = id(key), weakref.ref(self)

        def forget(reference: weakref.ref[K]) -> None:
            this = owner()
            if this is not None and number in this._found and this._found[number][0] is reference:
                del this._found[number]

        value = self._make(key)
        self._found[number] = (weakref.ref(key, forget), value)
        return value

    def __len__(self) -> int:
        return len(self._found)
