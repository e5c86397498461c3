"""Blocks of a field that are made when they are asked for."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import overload

from .gridnerf import FieldBlock


class LazyBlocks(Sequence[FieldBlock | None]):
    """A sequence of blocks; subclasses say how many there are and make single ones."""

    @abstractmethod
    def block(self, number: int) -> FieldBlock | None:
        """Makes a block, 0 <= number < len(self); None: it does not exist."""

    @overload
    def __getitem__(self, number: int) -> FieldBlock | None: ...
    @overload
    def __getitem__(self, number: slice) -> Sequence[FieldBlock | None]: ...
    def __getitem__(self, number: int | slice) -> FieldBlock | Sequence[FieldBlock | None] | None:
        numbers = range(len(self))
        if isinstance(number, slice):
            return tuple(self.block(n) for n in numbers[number])
        return self.block(numbers[number])
