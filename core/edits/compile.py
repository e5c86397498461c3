"""EditCompiler: turns layers into what the kernels read. What a layer needs is made once and kept."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path

from ...cuda.edit_tables import FAR, EditKind, EditOp, EditTables, Source, Transform
from ...cuda.tables import Quality
from ..appearance import Appearance
from ..camera import Camera, look_at
from ..errors import InputError
from ..gridnerf import GridNeRF
from ..render import Renderer, RenderSettings, options_for
from .compiled import CompiledEdits
from .field import Field, SourceField
from .index import Covered, make_index, make_reach
from .layers import (
    Copy,
    Crop,
    Hide,
    Layer,
    Placement,
    Prism,
    Remove,
    ReplaceBlock,
    Restyle,
    Stack,
    bare,
    kind_of,
)
from .patch import make_patches
from .raster import footprint_of, texel_side
from .region import Region
from .replacement import replaced
from .sunlight import looks_of
from .terrain import Terrain

KEPT = 512  # layers whose operations are kept, the last used ones
REHEARSED = 12  # texels from the middle of a removal that is made ahead
NEAR = 100.0  # texels around a removal in which others count as near
GROUND_SLACK = 3.0  # texels by which a ground height must differ from the found one to count as set by hand


@dataclass(frozen=True)
class SourceScene:
    """Another scene that buildings are taken from."""

    model: GridNeRF
    appearance: Appearance  # as its files say
    metres_per_unit: float | None


OpenSource = Callable[[Path], SourceScene]


class EditCompiler:
    """Compiles stacks for one renderer. Safe to use from several threads, one after the other."""

    def __init__(
        self,
        renderer: Renderer,
        open_source: OpenSource | None = None,
        metres_per_unit: float | None = None,
    ) -> None:
        """`open_source` opens the scenes and checkpoints that layers name; without it none can be."""
        self.renderer = renderer
        self._open_source = open_source
        self._metres_per_unit = metres_per_unit
        self._lock = threading.RLock()
        self._base = Field.of(renderer)
        self._terrains: OrderedDict[int, Terrain] = OrderedDict()
        self._variants: OrderedDict[tuple[Layer, ...], Field] = OrderedDict()
        self._sources: OrderedDict[Path, tuple[Field | SourceField, SourceScene]] = OrderedDict()
        self._kept: OrderedDict[tuple[object, ...], tuple[Covered, ...]] = OrderedDict()

    @property
    def terrain(self) -> Terrain:
        """The terrain of the unedited field."""
        return self._terrain_of(self._base)

    def preparations(self, x: float, y: float) -> Iterator[Callable[[], object]]:
        """Yields short pieces of work after which an edit near a point is compiled soon; for any thread."""
        terrain = self.terrain
        yield from terrain.preparations(x, y)
        low_x, low_y, high_x, high_y = terrain.bounds
        x, y = min(max(x, low_x), high_x), min(max(y, low_y), high_y)
        reach = REHEARSED * terrain.side
        yield lambda: self._rehearse(Region.rectangle(x - reach, y - reach, x + reach, y + reach))

    def compile(self, layers: Stack, is_draft: bool = False) -> CompiledEdits | None:
        """Returns the edits of a stack, or None where no layer is enabled.

        Args:
            layers: The stack.
            is_draft: What was not compiled before is done in less time and less well: shadows of removed
                buildings stay. For a first picture.

        Raises:
            InputError: A layer cannot be applied; the sentence begins with its name.
        """
        with self._lock:
            enabled = tuple(layer for layer in layers if layer.enabled)
            if not enabled:
                return None
            field = self._with_replaced_blocks(enabled)
            sources: list[Path] = []
            covered: list[Covered] = []
            relit: list[Covered] = []  # grounds without the shadows of what was removed, under all layers
            for layer in enabled:
                try:
                    made = self._operations(layer, field, enabled, sources, is_draft)
                    if isinstance(layer, Remove):
                        made, shadow = made[:1], made[1:]
                        relit += shadow
                    covered += made
                except InputError as error:
                    raise InputError(f"{layer.name or kind_of(layer)}: {error}") from None
            covered = relit + covered
            edits = None
            if covered:
                edits = EditTables(
                    ops=tuple(each.op for each in covered),
                    sources=tuple(self._as_source(path, enabled) for path in sources),
                    index=make_index(field.tables, field.texel, covered),
                    reach=make_reach(field.tables, field.texel, covered),
                )
            models = tuple(self._source(path).model for path in sources)
            ratios = tuple((path, self.unit_ratio(path)) for path in sources)
            return CompiledEdits(layers, field.model, field.tables, edits, models, ratios, field.variants)

    def _rehearse(self, region: Region) -> None:
        """Removes a region in pictures of a few pixels: what runs for the first time is slow."""
        camera = Camera.from_fov(look_at((*region.center, 1.0), (*region.center, 0.0)), 8, 8, 50.0)
        layer = Remove(prism=Prism(region))
        with suppress(InputError):
            for edits in (self.compile((layer,), is_draft=True), self.compile((layer,))):
                self.renderer.render(camera, RenderSettings(Quality.FAST, edits=edits, complete=False))

    @property
    def has_drafts(self) -> bool:
        """Whether drafts of removals are worth while: where shadows may be learnt into the field."""
        return self.terrain.has_looks

    def unit_ratio(self, path: Path) -> float:
        """Returns the length of one unit of another scene in this one's; 1 where either knows no metres.

        Raises:
            InputError: The other scene cannot be opened.
        """
        with self._lock:
            self._source(path)
            metres = self._sources[path][1].metres_per_unit
        return metres / self._metres_per_unit if metres and self._metres_per_unit else 1.0

    # Fields

    def _terrain_of(self, field: Field) -> Terrain:
        key = id(field.tables)
        if key not in self._terrains:
            options = options_for(field.model, RenderSettings())
            looks = looks_of(field.model.embedding)
            survey = None
            if self.renderer.stream is not None:
                survey = partial(self.renderer.columns, variants=field.variants)
            self._terrains[key] = Terrain(
                field.tables, options, looks, self._metres_per_unit, field.texel, survey
            )
        return self._terrains[key]

    def _with_replaced_blocks(self, enabled: Stack) -> Field:
        """Returns the field with the blocks that layers replace; the last replacement of a block counts."""
        layers = tuple(layer for layer in enabled if isinstance(layer, ReplaceBlock))
        if not layers:
            return self._base
        key = bare(layers)
        if key not in self._variants:
            field = self._base
            for layer in layers:
                try:
                    field = replaced(self.renderer, field, layer)
                except InputError as error:
                    raise InputError(f"{layer.name or kind_of(layer)}: {error}") from None
            self._variants[key] = field
            while len(self._variants) > 4:
                _, dropped = self._variants.popitem(last=False)
                self._terrains.pop(id(dropped.tables), None)
        return self._variants[key]

    def _source(self, path: Path) -> Field:
        """Opens a scene that copies are taken from; its tables are whole, or hold none of its blocks."""
        if path not in self._sources:
            if self._open_source is None:
                raise InputError(f"{path}: no other scene can be opened here; switch the layer off")
            scene = self._open_source(path)
            precision, device = self.renderer.precision, self.renderer.device
            opened: Field | SourceField
            if scene.model.source is None and self.renderer.stream is None:
                tables = scene.model.tables(precision, device)
                opened = Field(scene.model, tables, texel_side(tables))
            else:
                opened = SourceField(scene.model, precision, device)
            self._sources[path] = opened, scene
        opened, _ = self._sources[path]
        return opened.field if isinstance(opened, SourceField) else opened

    def _as_source(self, path: Path, enabled: Stack) -> Source:
        """Returns what the kernels read of a scene that copies are taken from."""
        opened, scene = self._sources[path]
        field = self._source(path)
        tables = field.tables
        if isinstance(opened, SourceField):
            copied = [layer for layer in enabled if isinstance(layer, Copy) and layer.source == path]
            under = [opened.blocks_under(layer.prism.region) for layer in copied]
            tables = opened.tables(frozenset().union(*under))
        return Source(tables, field.mask_threshold, scene.appearance.embedding(field.model.embedding))

    # Operations

    def _operations(
        self, layer: Layer, field: Field, enabled: Stack, sources: list[Path], is_draft: bool
    ) -> tuple[Covered, ...]:
        """Returns the operations of one layer, from the kept ones where nothing they depend on changed."""
        number, source = 0, field
        if isinstance(layer, Copy) and layer.source is not None:
            if layer.source not in sources:
                sources.append(layer.source)
            number, source = sources.index(layer.source) + 1, self._source(layer.source)
        others = _removed_nearby(layer, enabled, field.texel) if isinstance(layer, Remove) else ()
        key = (bare((layer,)), others, number, id(field.tables))
        if key not in self._kept:
            if is_draft and isinstance(layer, Remove):
                ops = self._patches(layer.prism, field, others, is_draft)
                return tuple(Covered(op, field.tables, field.texel) for op in ops)
            ops = self._make(layer, field, others, number)
            read = source.tables if source.keeps_by_mask else None
            self._kept[key] = tuple(Covered(op, field.tables, field.texel, read) for op in ops)
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]

    def _make(
        self, layer: Layer, field: Field, others: tuple[Region, ...], number: int
    ) -> tuple[EditOp, ...]:
        if isinstance(layer, Remove):
            return self._patches(layer.prism, field, others)
        if isinstance(layer, Hide):
            # Walls are blurred over a texel: without it, their rim would float there.
            prism = replace(layer.prism, region=layer.prism.region.grown(field.texel))
            return (_claim(EditKind.CLEAR, prism, field.texel),)
        if isinstance(layer, Crop):
            return _crop(layer.prism, field.texel)
        if isinstance(layer, Restyle):
            if field.model.embedding is None:
                raise InputError("the model must have an appearance table to restyle a region, got none")
            latent = layer.appearance.embedding(field.model.embedding)
            return (replace(_claim(EditKind.STYLE, layer.prism, field.texel), latent=latent),)
        if isinstance(layer, Copy):
            return self._instances(layer, field, number)
        return ()

    def _patches(
        self, prism: Prism, field: Field, others: tuple[Region, ...], is_draft: bool = False
    ) -> tuple[EditOp, ...]:
        _check_region(prism.region)
        high = prism.high if math.isfinite(prism.high) else FAR
        patch, *relit = make_patches(self._terrain_of(field), prism.region, high, others, is_draft)
        if patch.ground is not None and patch.footprint is not None and math.isfinite(prism.low):
            shift = prism.low - patch.ground[patch.footprint.mask.bool()].median().item()
            if abs(shift) > GROUND_SLACK * field.texel:
                patch = replace(patch, ground=patch.ground + shift, z_low=patch.z_low + shift)
        return (patch, *relit)

    def _instances(self, layer: Copy, field: Field, number: int) -> tuple[EditOp, ...]:
        source, ratio, sigma = field, 1.0, 1.0
        if layer.source is not None:
            source, ratio = self._source(layer.source), self.unit_ratio(layer.source)
            sigma = source.model.distance_scale / field.model.distance_scale
        claim = _claim(EditKind.INSTANCE, layer.prism, source.texel)
        ops = []
        for placement in layer.placements:
            scale = placement.scale * ratio
            if not (math.isfinite(scale) and scale > 0):
                raise InputError(f"the scale of a copy must be positive, got {placement.scale:g}")
            transform = to_source(layer.prism, placement, scale)
            ops.append(replace(claim, to_source=transform, source=number, sigma_scale=sigma / scale))
        return tuple(ops)


def to_source(prism: Prism, placement: Placement, scale: float) -> Transform:
    """Returns the way from the edited scene to the source; `scale` is in edited units per source unit."""
    angle = math.radians(placement.heading)
    cosine, sine = math.cos(angle), math.sin(angle)
    (ax, ay, az), (px, py, pz) = prism.anchor, placement.position
    xx, xy, zz = cosine / scale, sine / scale, 1 / scale
    return Transform(
        xx=xx,
        xy=xy,
        x0=ax - (xx * px + xy * py),
        y0=ay - (-xy * px + xx * py),
        zz=zz,
        z0=az - zz * pz,
        cosine=cosine,
        sine=sine,
    )


def _check_region(region: Region) -> None:
    if region.is_empty:
        raise InputError("the region must have an area, got an empty one; draw it anew")


def _removed_nearby(layer: Remove, enabled: Stack, texel: float) -> tuple[Region, ...]:
    """Returns the regions that layers below a removal remove near it: a removal on top changes none below."""
    if layer.prism.region.is_empty:
        return ()
    x0, y0, x1, y1 = layer.prism.region.shape.buffer(NEAR * texel).bounds
    near = []
    for other in enabled[: enabled.index(layer)]:
        if isinstance(other, Remove) and not other.prism.region.is_empty:
            a0, b0, a1, b1 = other.prism.region.bounds
            if a0 < x1 and x0 < a1 and b0 < y1 and y0 < b1:
                near.append(other.prism.region)
    return tuple(near)


_footprint = lru_cache(maxsize=256)(footprint_of)


def _claim(kind: EditKind, prism: Prism, texel: float) -> EditOp:
    """Returns an operation that claims a prism."""
    _check_region(prism.region)
    return EditOp(
        kind, _footprint(prism.region, texel), z_low=max(prism.low, -FAR), z_high=min(prism.high, FAR)
    )


def _crop(prism: Prism, texel: float) -> tuple[EditOp, ...]:
    around = replace(_claim(EditKind.CLEAR, prism, texel), inside=False, z_low=-FAR, z_high=FAR)
    ops = [around]
    if math.isfinite(prism.low):
        ops.append(EditOp(EditKind.CLEAR, z_high=prism.low))
    if math.isfinite(prism.high):
        ops.append(EditOp(EditKind.CLEAR, z_low=prism.high))
    return tuple(ops)
