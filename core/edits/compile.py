"""EditCompiler: turns layers into what the kernels read. The lead's file while this is a skeleton."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..appearance import Appearance
from ..gridnerf import GridNeRF
from ..render import Renderer, RenderSettings, options_for
from .compiled import CompiledEdits
from .layers import Stack
from .terrain import Terrain


@dataclass(frozen=True)
class SourceScene:
    """Another scene that buildings are taken from."""

    model: GridNeRF
    appearance: Appearance  # as its files say
    metres_per_unit: float | None


OpenSource = Callable[[Path], SourceScene]


class EditCompiler:
    """Compiles stacks for one renderer; what a layer needs is made once and kept while the layer lives."""

    def __init__(
        self,
        renderer: Renderer,
        open_source: OpenSource | None = None,
        metres_per_unit: float | None = None,
    ) -> None:
        """`open_source` opens the scenes and checkpoints that layers name; without it none can be."""
        self.renderer = renderer
        self.terrain = Terrain(renderer.tables, options_for(renderer.model, RenderSettings()))

    def compile(self, layers: Stack) -> CompiledEdits | None:
        """Returns the edits of a stack, or None where no layer is enabled.

        Raises:
            InputError: A layer cannot be applied; the sentence begins with its name.
        """
        if not any(layer.enabled for layer in layers):
            return None
        raise NotImplementedError
