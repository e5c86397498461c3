"""What is converted: a field of a checkpoint or of another store, its blocks as they are or cut further."""

from __future__ import annotations

from dataclasses import replace

import torch

from ...cuda.stream_tables import MaskGrid
from ..checkpoint.landmark import Opened
from ..errors import InputError
from ..gridnerf import FieldBlock
from ..streaming.parts import mask_part, mask_window
from .cut import divided
from .store import Store, StoreBlocks
from .writer import MaskPart


class Original:
    """A field whose blocks go into a store.

    Args:
        opened: The checkpoint, or another store, whose files are checked as they are used.
        division: Blocks along x and y; None: those that it has.

    Raises:
        InputError: It has no blocks, or cannot be divided so.
    """

    def __init__(self, opened: Opened, division: tuple[int, int] | None = None) -> None:
        own = opened.model
        self.opened, self._checked = opened, -1
        self.store = own.source if isinstance(own.source, Store) else None
        if self.store is not None:
            own = replace(own, blocks=StoreBlocks(self.store, n_kept=1))
        block = next((block for block in own.blocks if block is not None), None)
        if block is None:
            raise InputError(f"{opened.files[0]}: must have at least one block, got none")
        self.model, self.cut = divided(own, block, division or own.layout.division)

    @property
    def mask_grid(self) -> MaskGrid | None:
        """Where the vertices of the alpha mask lie."""
        if self.store is not None:
            return self.store.index.mask
        grid = self.model.occupancy
        return None if grid is None else MaskGrid(tuple(grid.nodes.shape[::-1]), grid.aabb)  # type: ignore[arg-type]

    def whole(self, number: int) -> int:
        """Returns the number of the opened field's block that a block is, or is cut out of."""
        return number if self.cut is None else self.cut.origin(number)

    def exists(self, number: int) -> bool:
        """Whether there is such a block; without cutting it out."""
        whole = self.whole(number)
        return self.opened.model.blocks[whole] is not None if self.store is None else self.store.exists(whole)

    def block(self, number: int) -> FieldBlock:
        """Returns a block that exists.

        Raises:
            InputError: It comes from a store, and its file is damaged.
        """
        whole = self.whole(number)
        if self.store is not None and whole != self._checked:
            with self.store.block_file(int(self.store.index.rows[whole])) as file:
                file.verify()
            self._checked = whole
        block = self.model.blocks[number]
        assert block is not None
        return block

    def mask(self, number: int) -> MaskPart | None:
        """Returns a block's part of the alpha mask; that of a block as a store has it stays as it is."""
        grid, model = self.model.occupancy, self.model
        if self.store is None:
            if grid is None:
                return None
            return mask_part(grid.nodes, grid.aabb, model.aabb, model.layout.division, number)
        part = self.store.block_mask(int(self.store.index.rows[self.whole(number)]))
        return part if self.cut is None or part is None else self._cut_mask(part, number)

    def _cut_mask(self, part: MaskPart, number: int) -> MaskPart:
        """Cuts a block's part of the mask out of the larger block's."""
        mask, model = self.mask_grid, self.model
        assert mask is not None
        nodes, begins = part
        window = mask_window(mask.n[:2], mask.aabb, model.aabb, model.layout.division, number)
        (x, x_end), (y, y_end) = (
            (max(first, begin), min(end, begin + n))
            for (first, end), begin, n in zip(window, begins, nodes.shape[:0:-1], strict=True)
        )
        cut = nodes[:, y - begins[1] : y_end - begins[1], x - begins[0] : x_end - begins[0]]
        return cut.clone(memory_format=torch.contiguous_format), (x, y)
