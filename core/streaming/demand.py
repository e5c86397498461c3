"""Which blocks a view wants, and how much each is expected to count."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ...cuda.stream_tables import CoarseTables
    from ..camera import Camera
    from ..gridnerf import GridNeRF

ROUNDING = 1e-4  # of a block's side: rays are float32, so blocks this close to the frustum count
SPARE_PIXELS = 1.0  # all round the picture, for pictures of other sizes
ASIDE = 0.25  # weight of a block at a right angle to the view axis; 1 on the axis
KEEP_DISTANCE = 0.25  # sides of a block: what was seen stays wanted until this far outside the frustum
KEEP_DETAIL = 0.8  # of the least size of a coarse texel, down to which what was wanted stays so
STEADY = 1.3  # factor by which an expected contribution must change before the order follows

Point = tuple[float, float, float]


@dataclass(frozen=True)
class CityGrid:
    """Where the blocks of a field lie, and which there are."""

    aabb: np.ndarray  # float64 [2, 3], scene units
    division: tuple[int, int]  # blocks along x and y; block (i, j) has index i * division[1] + j
    exists: np.ndarray  # bool [n_blocks]
    texel: float = 0.0  # between texels of the coarse stand-ins' finest planes, scene units

    @classmethod
    def of(cls, model: GridNeRF, coarse: CoarseTables | None = None) -> CityGrid:
        """Makes the grid of a field; without its coarse stand-ins their texel is not known."""
        aabb, division = model.aabb.numpy().astype(np.float64), model.layout.division
        if coarse is None:
            there: Iterable[bool]
            if model.source is not None:
                there = map(model.source.exists, range(model.layout.n_blocks))
            else:
                there = (block is not None for block in model.blocks)
            return cls(aabb, division, np.fromiter(there, bool, model.layout.n_blocks))
        level = max(coarse.density_planes[: model.n_levels], key=lambda plane: plane.shape[2])
        n_v, n_u = level.shape[1:3]
        side = (aabb[1] - aabb[0])[:2] / division
        texel = float(max(side[0] / max(n_u - 1, 1), side[1] / max(n_v - 1, 1)))
        return cls(aabb, division, coarse.rows.numpy() >= 0, texel)

    @property
    def side(self) -> np.ndarray:
        """Size of a block along x and y, scene units. [2]"""
        size: np.ndarray = (self.aabb[1] - self.aabb[0])[:2] / self.division
        return size

    @property
    def n_blocks(self) -> int:
        """Number of blocks, present or not."""
        return self.division[0] * self.division[1]

    def place(self, point: np.ndarray) -> np.ndarray:
        """Returns a point in blocks from the low corner, along x and y. [2]"""
        place: np.ndarray = (np.asarray(point, dtype=np.float64)[:2] - self.aabb[0, :2]) / self.side
        return place

    def at(self, columns: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Returns which blocks there are where columns and rows cross; none off the map. int64 [n]"""
        columns = columns[(columns >= 0) & (columns < self.division[0])]
        rows = rows[(rows >= 0) & (rows < self.division[1])]
        blocks = (columns[:, None] * self.division[1] + rows).reshape(-1).astype(np.int64)
        there: np.ndarray = blocks[self.exists[blocks]]
        return there


@dataclass(frozen=True)
class Outlook:
    """Blocks in or close to a view; arrays are [n]."""

    blocks: np.ndarray  # int64
    outside: np.ndarray  # distance from what the view covers, at least; 0 or less: in view. Scene units
    share: np.ndarray  # expected contribution, (0, 1]: a share of the picture, weighted
    texel: np.ndarray  # pixels that a coarse texel spans at most


def blocks_in(grid: CityGrid, bounds: tuple[float, float, float, float]) -> np.ndarray:
    """Returns the blocks that a plan rectangle touches: least x and y, greatest x and y, scene units."""
    low = np.floor(grid.place(np.array(bounds[:2])) - ROUNDING)
    high = np.floor(grid.place(np.array(bounds[2:])) + ROUNDING)
    low, high = low.clip(0, grid.division), high.clip(-1, np.array(grid.division) - 1)
    return grid.at(np.arange(low[0], high[0] + 1, dtype=int), np.arange(low[1], high[1] + 1, dtype=int))


def visible(
    grid: CityGrid, camera: Camera, far: float = math.inf, detail: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Finds the blocks that rays of a picture may cross.

    No block that a ray crosses inside the bounding box, up to `far`, is missed; only those in view are
    returned, whether or not something hides them.

    Args:
        grid: The blocks.
        camera: The view.
        far: z-depth up to which rays go.
        detail: Blocks whose coarse texels span fewer pixels are left out; 0: none is.

    Returns:
        Blocks int64 [n] and expected contributions float64 [n], largest first.
    """
    outlook = look_out(grid, camera, far)
    return _ranked(outlook.blocks, outlook.share, (outlook.outside <= 0) & (outlook.texel >= detail))


def look_out(grid: CityGrid, camera: Camera, far: float = math.inf, margin: float = 0.0) -> Outlook:
    """Returns the blocks in view and those at most `margin` scene units beside what it covers.

    All blocks span the whole height of the box, so one is in view exactly if its rectangle meets the
    plan of the part of the box that is in view, a convex polygon: they do unless a line along one of
    their edges lies between them.
    """
    polygon = footprint(grid, camera, far)
    if not len(polygon):
        nothing = np.zeros(0)
        return Outlook(nothing.astype(np.int64), nothing, nothing, nothing)
    side, rounding = grid.side, ROUNDING * float(grid.side.max())
    lows = [grid.aabb[0, axis] + side[axis] * np.arange(grid.division[axis]) for axis in (0, 1)]
    beside = [
        np.maximum(low - polygon[:, axis].max(), polygon[:, axis].min() - (low + side[axis])) - rounding
        for axis, low in enumerate(lows)
    ]
    columns, rows = (np.flatnonzero(distance <= margin) for distance in beside)
    outside = np.maximum(beside[0][columns][:, None], beside[1][rows])
    x, y = lows[0][columns], lows[1][rows]
    if len(polygon) > 1:
        edges = np.roll(polygon, -1, axis=0) - polygon
        for (n_x, n_y), (p_x, p_y) in zip(_outward(edges), polygon, strict=True):
            nearest_x = n_x * ((x if n_x > 0 else x + side[0]) - p_x)
            nearest_y = n_y * ((y if n_y > 0 else y + side[1]) - p_y)
            outside = np.maximum(outside, nearest_x[:, None] + nearest_y - rounding)
    at_x, at_y = np.nonzero(outside <= margin)
    blocks = columns[at_x] * grid.division[1] + rows[at_y]
    there = grid.exists[blocks]
    at_x, at_y = at_x[there], at_y[there]
    share, texel = _expected(grid, camera, x[at_x], y[at_y])
    return Outlook(blocks[there], outside[at_x, at_y], share, texel)


def footprint(grid: CityGrid, camera: Camera, far: float = math.inf) -> np.ndarray:
    """Returns the plan of what a view covers of the box, as a convex polygon, anticlockwise. [n, 2]

    The view is a pyramid from the eye on: a near bound is not cut off. Its corners are those of the
    box's faces cut by the pyramid, and those of the pyramid that lie in the box.
    """
    planes, corners = _pyramid(camera, far)
    low, high = grid.aabb.tolist()
    points = [p for p in corners if all(a <= v <= b for a, v, b in zip(low, p, high, strict=True))]
    for axis in range(3):
        u, v = (n for n in range(3) if n != axis)
        for level in (low[axis], high[axis]):
            face: list[Point] = []
            for at_u, at_v in ((low[u], low[v]), (high[u], low[v]), (high[u], high[v]), (low[u], high[v])):
                corner = [level, level, level]
                corner[u], corner[v] = at_u, at_v
                face.append((corner[0], corner[1], corner[2]))
            for plane in planes:
                face = _cut(face, plane)
            points += face
    return _hull([(x, y) for x, y, _ in points])


def _pyramid(camera: Camera, far: float) -> tuple[list[tuple[float, float, float, float]], list[Point]]:
    # Planes (a, b, c, d) with a x + b y + c z + d >= 0 in view; sides first.
    left, right = -SPARE_PIXELS, camera.width - 1 + SPARE_PIXELS
    top, bottom = -SPARE_PIXELS, camera.height - 1 + SPARE_PIXELS
    matrix = camera.matrix
    eye = matrix[:3, 3]
    local = [
        ((column - camera.cx) / camera.fl_x, -(row - camera.cy) / camera.fl_y, -1.0)
        for column, row in ((left, top), (right, top), (right, bottom), (left, bottom))
    ]
    rays = np.array(local) @ matrix[:3, :3].T
    normals = np.cross(rays, np.roll(rays, -1, axis=0))
    normals *= np.sign(normals @ rays.sum(axis=0))[:, None]
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    planes = [(*normal, -float(normal @ eye)) for normal in normals.tolist()]
    corners = [eye, *(eye + rays * far)] if math.isfinite(far) else [eye]
    if math.isfinite(far):
        forward = _forward(camera)
        planes.append((*(-forward).tolist(), far + float(forward @ eye)))
    return planes, [(float(x), float(y), float(z)) for x, y, z in corners]


def _forward(camera: Camera) -> np.ndarray:
    # z-depth of p is forward . (p - eye), also where the matrix scales.
    forward: np.ndarray = -np.linalg.inv(camera.matrix[:3, :3])[2]
    return forward


def _cut(face: list[Point], plane: tuple[float, float, float, float]) -> list[Point]:
    # Sutherland-Hodgman: the part of a convex polygon on the positive side of a plane.
    a, b, c, d = plane
    heights = [a * x + b * y + c * z + d for x, y, z in face]
    if not heights or max(heights) < 0:
        return []
    if min(heights) >= 0:
        return face
    kept: list[Point] = []
    for number, (point, height) in enumerate(zip(face, heights, strict=True)):
        before, height_before = face[number - 1], heights[number - 1]
        if (height < 0) != (height_before < 0):
            s = height_before / (height_before - height)
            x, y, z = (p + s * (q - p) for p, q in zip(before, point, strict=True))
            kept.append((x, y, z))
        if height >= 0:
            kept.append(point)
    return kept


def _hull(points: list[tuple[float, float]]) -> np.ndarray:
    # Andrew's monotone chain, anticlockwise.
    ordered = sorted(set(points))
    if len(ordered) < 3:
        return np.array(ordered).reshape(-1, 2)

    def chain(points: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
        hull: list[tuple[float, float]] = []
        for x, y in points:
            while len(hull) > 1:
                (x0, y0), (x1, y1) = hull[-2:]
                if (x1 - x0) * (y - y0) - (y1 - y0) * (x - x0) > 0:
                    break
                hull.pop()
            hull.append((x, y))
        return hull[:-1]

    return np.array(chain(ordered) + chain(reversed(ordered)))


def _outward(edges: np.ndarray) -> list[tuple[float, float]]:
    # Unit normals to the right of edges, which is outside of an anticlockwise polygon.
    lengths = np.hypot(edges[:, 0], edges[:, 1])
    return [
        (y / length, -x / length) for (x, y), length in zip(edges.tolist(), lengths.tolist(), strict=True)
    ]


def _expected(grid: CityGrid, camera: Camera, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    # Expected contribution of blocks with these low corners [n], and pixels per coarse texel; [n] each.
    (e_x, e_y, e_z), forward = camera.eye.tolist(), _forward(camera)
    s_x, s_y, s_z = size = [*grid.side.tolist(), float(grid.aabb[1, 2] - grid.aabb[0, 2])]
    x, y, z = x - e_x, y - e_y, float(grid.aabb[0, 2]) - e_z  # as seen from the eye
    near = _length(_clip(0.0, x, s_x), _clip(0.0, y, s_y), _clip(0.0, z, s_z))
    m_x, m_y, m_z = x + s_x / 2, y + s_y / 2, z + s_z / 2
    distance = np.maximum(_length(m_x, m_y, m_z), 1e-9 * max(size))
    faces = (np.abs(m_x) * (s_y * s_z) + np.abs(m_y) * (s_x * s_z) + abs(m_z) * (s_x * s_y)) / distance
    reach = np.maximum(near, 0.5 * min(s_x, s_y))
    pixels = faces * (camera.fl_x * camera.fl_y) / reach**2
    axis = (forward / np.linalg.norm(forward)).tolist()
    aimed = [  # where the axis comes close
        _clip(distance * along, low, side) for along, low, side in zip(axis, (x, y, z), size, strict=True)
    ]
    length = _length(*aimed)
    along = sum(part * each for part, each in zip(aimed, axis, strict=True))
    cosine = np.where(length > 0, np.clip(along / np.maximum(length, 1e-300), 0, 1), 1.0)
    centre = ASIDE + (1 - ASIDE) * cosine**2
    nearness = 1 / (1 + near / (0.5 * (s_x + s_y)))
    share = np.minimum(pixels / (camera.width * camera.height), 1) * centre * nearness
    f_x, f_y, f_z = forward.tolist()
    depth = m_x * f_x + m_y * f_y + (m_z * f_z - float(np.abs(forward) @ size) / 2)  # of the nearest corner
    texel = max(camera.fl_x, camera.fl_y) * grid.texel / np.maximum(depth, 1e-9 * max(size))
    return share, np.where(depth > 0, texel, np.inf)


def _clip(value: np.ndarray | float, low: np.ndarray | float, side: float) -> np.ndarray:
    clipped: np.ndarray = np.minimum(np.maximum(value, low), low + side)
    return clipped


def _length(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    length: np.ndarray = np.sqrt(x * x + y * y + z * z)
    return length


def _ranked(blocks: np.ndarray, share: np.ndarray, kept: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    blocks, share = blocks[kept], share[kept]
    order = np.argsort(-share, kind="stable")
    return blocks[order], share[order]


class ViewDemand:
    """Wants what is in view. Remembers what was wanted, so that a trembling camera changes nothing.

    While the camera hovers, what was seen stays wanted close beside the view. The order of priority
    follows only what changes much. What pictures have measured takes the place of what is expected.
    """

    def __init__(self, grid: CityGrid, detail: float = 0.0) -> None:
        self._grid = grid
        self._detail = detail
        self._share = np.zeros(grid.n_blocks)  # by which wanted blocks are ordered; 0: not wanted
        self._measured = np.full(grid.n_blocks, np.nan)  # needs; nan: not known
        self._in_view = np.zeros(grid.n_blocks, dtype=bool)  # of the last view

    def seen(self, camera: Camera, hovers: bool = True) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Takes a view as the present one.

        Args:
            camera: The view.
            hovers: It is not under way to somewhere else.

        Returns:
            Blocks int64 [n] and contributions float64 [n], largest first; and blocks that are in view but
            hidden, as the last picture says, int64 [m].
        """
        grid, wanted_before = self._grid, self._share > 0
        # The model's far bound says where the first sample may lie, not where rays end: the box does.
        margin = KEEP_DISTANCE * float(grid.side.min()) if hovers else 0.0
        outlook = look_out(grid, camera, margin=margin)
        blocks, before = outlook.blocks, wanted_before[outlook.blocks]
        close = (outlook.outside <= 0) | before
        fine = outlook.texel >= np.where(before, KEEP_DETAIL, 1.0) * self._detail
        measured = self._measured[blocks]
        hidden = close & fine & (measured == 0)
        share = np.zeros(grid.n_blocks)
        # A copy of a building, say, reads blocks that lie elsewhere.
        elsewhere = self._measured > 0
        elsewhere[blocks] = False
        share[elsewhere] = self._measured[elsewhere]
        kept = close & fine & ~hidden
        share[blocks[kept]] = np.where(measured > 0, measured, outlook.share)[kept]
        steady = wanted_before & (share < self._share * STEADY) & (share > self._share / STEADY)
        self._share = np.where(steady, self._share, share)
        self._in_view = np.zeros(grid.n_blocks, dtype=bool)
        self._in_view[blocks[close]] = True
        return *_ranked(np.arange(grid.n_blocks), self._share, self._share > 0), blocks[hidden]

    def soon(self, camera: Camera, taken: np.ndarray) -> np.ndarray:
        """Returns what a coming view wants beside what is taken, most urgent first. int64 [n]

        `taken` is bool [n_blocks].
        """
        rest = replace(self._grid, exists=self._grid.exists & ~taken)
        return visible(rest, camera, detail=self._detail)[0]

    def note_needs(self, needs: np.ndarray, is_whole: bool) -> None:
        """Takes what a picture of the present view has measured.

        Args:
            needs: How much each block counted, or would have if it had been there. [n_blocks]
            is_whole: All tiles were rendered, so that 0 means hidden; of some alone it means nothing.
        """
        known = needs > 0
        if is_whole:
            self._measured[~self._in_view] = np.nan
            known = known | self._in_view
        self._measured[known] = needs[known]

    def forget(self) -> None:
        """Forgets earlier views and what their pictures measured."""
        self._share = np.zeros(self._grid.n_blocks)
        self._measured = np.full(self._grid.n_blocks, np.nan)
        self._in_view = np.zeros(self._grid.n_blocks, dtype=bool)
