"""What the renderer needs of an edit stack."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...cuda.edit_tables import EditTables
from ...cuda.tables import FieldTables
from ..gridnerf import GridNeRF
from ..streaming.contracts import Variant
from .layers import Stack


@dataclass(frozen=True, eq=False)
class CompiledEdits:
    """A stack, ready to be rendered. Equal only to itself: requests compare it in no time."""

    layers: Stack
    model: GridNeRF  # the edited one, with its replaced blocks
    tables: FieldTables  # of that model
    edits: EditTables | None  # None: nothing claims a sample
    sources: tuple[GridNeRF, ...] = ()  # the models of edits.sources, for the reference
    unit_ratios: tuple[tuple[Path, float], ...] = ()  # scenes of copies, and the length of their units here
    variants: tuple[Variant, ...] = ()  # blocks of a streamed field that layers replace
