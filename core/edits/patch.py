"""Patch: a ground for the place where something was removed, continued inwards from its surroundings."""

from __future__ import annotations

from ...cuda.edit_tables import EditOp
from .region import Region
from .terrain import Terrain


def make_patch(terrain: Terrain, region: Region, high: float, others: tuple[Region, ...] = ()) -> EditOp:
    """Returns the PATCH that removes what stands on a region up to the height `high`.

    Args:
        terrain: Of the field.
        region: What is to be removed, as it was selected; a narrow rim around it goes too.
        high: Above this, nothing is removed, scene units.
        others: Further regions that layers remove: their surroundings are no source of ground either.

    Raises:
        InputError: The region lies outside of the field.
    """
    raise NotImplementedError
