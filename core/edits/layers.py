"""Edit layers as data: what a user did to a scene. A stack is a tuple of layers, the last one on top.

Layers name places in scene units of the edited scene, never arrays or files' contents: they are small,
comparable, and stand in scene.yaml as they are. `compile.EditCompiler` says what they mean for a sample.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..appearance import Appearance
from .region import Region

EVERYWHERE = math.inf


@dataclass(frozen=True)
class Prism:
    """What stands on a region between two heights, scene units."""

    region: Region
    low: float = -EVERYWHERE  # of a building: the ground
    high: float = EVERYWHERE  # of a building: the roof

    @property
    def anchor(self) -> tuple[float, float, float]:
        """What a placement puts somewhere: middle of the region at the low height, or at 0 without one."""
        x, y = self.region.center
        return x, y, self.low if math.isfinite(self.low) else 0.0


@dataclass(frozen=True)
class Placement:
    """Where a copy stands."""

    position: tuple[float, float, float]  # of the prism's anchor, scene units of the edited scene
    heading: float = 0.0  # degrees, counter-clockwise seen from above
    scale: float = 1.0  # on all axes alike; of an insert on top of the ratio of the scenes' units


@dataclass(frozen=True)
class Layer:
    """What all layers have."""

    uid: int = 0  # tells the layers of a stack apart, whatever happens to them; not saved
    name: str = ""  # "": named after its kind
    enabled: bool = True
    locked: bool = False  # the window refuses to change it


@dataclass(frozen=True)
class Remove(Layer):
    """Takes a building away and closes the ground under it from its surroundings."""

    prism: Prism = field(default_factory=lambda: Prism(Region()))


@dataclass(frozen=True)
class Hide(Layer):
    """Empties a prism and leaves what shows behind it as it is."""

    prism: Prism = field(default_factory=lambda: Prism(Region()))


@dataclass(frozen=True)
class Crop(Layer):
    """Keeps only what is in a prism; isolating a building is a crop to its prism."""

    prism: Prism = field(default_factory=lambda: Prism(Region()))


@dataclass(frozen=True)
class Copy(Layer):
    """Puts what stands in a prism to other places as well.

    The source is the scene without its edits, so that a building that a layer removes can stand elsewhere; or
    another scene or checkpoint, whose units the prism then is in.
    """

    prism: Prism = field(default_factory=lambda: Prism(Region()))
    placements: tuple[Placement, ...] = ()
    source: Path | None = None  # another scene.yaml or checkpoint; in a file: relative to it
    appearance: Appearance | None = None  # appearance in the other scene; None: that scene's own


@dataclass(frozen=True)
class ReplaceBlock(Layer):
    """Reads a block from another checkpoint, as LandMark's sub{k}_add.th and sub{k}_remove.th."""

    block: int = 0
    checkpoint: Path = Path()
    mask: Path | None = None  # LandMark's alpha_volume_*.npy of the whole scene; None: the mask stays


@dataclass(frozen=True)
class Restyle(Layer):
    """Shows a region in another appearance."""

    prism: Prism = field(default_factory=lambda: Prism(Region()))
    appearance: Appearance = field(default_factory=Appearance)


KINDS: dict[str, type[Layer]] = {
    "remove": Remove,
    "hide": Hide,
    "crop": Crop,
    "copy": Copy,
    "replace-block": ReplaceBlock,
    "restyle": Restyle,
}
Stack = tuple[Layer, ...]


def bare(layers: Stack) -> Stack:
    """Returns layers without what changes nothing in the picture: equal ones make equal pictures."""
    return tuple(replace(layer, uid=0, name="", locked=False) for layer in layers)


def kind_of(layer: Layer) -> str:
    """Returns the word of a layer's kind, as files and the window say it."""
    return next(word for word, kind in KINDS.items() if type(layer) is kind)
