"""The finished keyframes: the newest, the one before, and a coarse one where neither shows the view."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ...cuda.warp_tables import BORDER, FAR, Keyframe, Source, Trust
from ..camera import Camera
from ..rotation import rotation_vector
from .changes import blocks_trust, changed_boxes, trust_of
from .contracts import Look
from .recolor import recolored

FADES = (0.25, 0.5, 0.75)  # share of a keyframe in the pictures after it has come to be the first source
SAMPLED = 8  # every so many rows and columns tell a typical depth
FARTHEST = 0.4  # way of a jump, as a share of the depth: a coarse picture is better than keyframes so far off
DETAIL = 0.1  # radians that a keyframe is worse by for pixels e times as large

BlocksCame = Callable[[np.ndarray], bool]  # whether any of these blocks are there now


class Held:
    """A finished keyframe, and what it is worth for what is looked at now."""

    def __init__(
        self,
        camera: Camera,
        look: Look,
        keyframe: Keyframe,
        lacks: np.ndarray | None = None,
        is_coarse: bool = False,
    ) -> None:
        """Takes a keyframe that has just been made.

        Args:
            camera: That it was rendered from.
            look: That it shows.
            keyframe: The picture.
            lacks: Blocks of a streamed field that were read but not in memory. bool [n_blocks]
            is_coarse: It has only a part of the resolution.
        """
        self.camera, self.look, self.keyframe, self.lacks = camera, look, keyframe, lacks
        self.is_coarse = is_coarse
        depth = keyframe.color[BORDER:-BORDER:SAMPLED, BORDER:-BORDER:SAMPLED, 3]
        near = depth[depth < FAR]
        self._depth = float(np.median(near)) if len(near) else FAR
        self._is_alike = self._is_there = True  # in colour; in geometry, if only in parts
        self._recolored: Keyframe | None = None  # in the colours that are looked at, about
        self._edited: np.ndarray | None = None  # what edits void; values of Trust, None: nothing
        self._trust: np.ndarray | None = None  # and what blocks make stale

    def see(self, look: Look, margin: float, have_come: BlocksCame) -> None:
        """Finds out what is still good in a look.

        Args:
            look: What is looked at.
            margin: How far behind its mean depth a front layer may reach, scene units.
            have_come: Tells whether blocks that the keyframe lacked are there now.
        """
        self._is_alike = colors_of(look) == colors_of(self.look)
        self._recolored = None
        boxes = changed_boxes(self.look.edits, look.edits)
        self._is_there = boxes is not None
        self._edited = trust_of(self.keyframe, boxes, margin) if boxes else None
        self.look_for(have_come)

    def look_for(self, have_come: BlocksCame) -> None:
        """Finds out whether blocks that were lacking have come."""
        self._trust = self._edited
        if self.lacks is not None and self.lacks.any() and have_come(self.lacks):
            stale = blocks_trust(self.keyframe)
            self._trust = stale if self._edited is None else np.maximum(stale, self._edited)

    def recolor(self, backdrop: np.ndarray, pixels: np.ndarray, rgb: np.ndarray) -> None:
        """Takes over the colours that are looked at, until others are.

        Args:
            backdrop: What their background has more of each colour. float32 [3]
            pixels: Some pixels of the keyframe, row * width + column. int32 [n]
            rgb: How they look. float32 [n, 3]
        """
        self._recolored = recolored(self.keyframe, backdrop, pixels, rgb)

    def standing(self, pixels: np.ndarray) -> np.ndarray:
        """Returns those of some pixels that edits have left as they were. int32 [n]"""
        return pixels if self._edited is None else pixels[self._edited.reshape(-1)[pixels] != Trust.VOID]

    @property
    def is_alike(self) -> bool:
        """Whether it was rendered in the colours that are looked at."""
        return self._is_alike

    @property
    def shows(self) -> bool:
        """Whether any of its colours can be shown."""
        return self._is_there and (self._is_alike or self._recolored is not None)

    @property
    def is_whole(self) -> bool:
        """Whether the scene is as it has it, its colours aside."""
        return self._is_there and self._trust is None

    @property
    def source(self) -> Source:
        """The keyframe with what its colours are worth."""
        return Source(self._recolored or self.keyframe, self._trust)

    @property
    def geometry(self) -> Source | None:
        """The keyframe with what its depths are worth, if anything."""
        return Source(self.keyframe, self._edited) if self._is_there else None

    @property
    def lacking_share(self) -> float:
        """Share of the pixels that read a coarse stand-in for a block."""
        return float(np.mean(self.keyframe.lacking)) if self.lacks is not None else 0.0

    def is_outdone_by(self, other: Held) -> bool:
        """Whether a newer one shows all that this one shows."""
        return self.camera == other.camera and colors_of(self.look) == colors_of(other.look)

    def way(self, camera: Camera) -> float:
        """Returns how far a view's eye is from the keyframe's, as a share of the depth."""
        return self.depths(self.camera, camera)

    def depths(self, one: Camera, other: Camera) -> float:
        """Returns how far two eyes are from each other, as a share of the depth."""
        return float(np.linalg.norm(one.eye - other.eye)) / max(self._depth, 1e-9)

    def distance(self, camera: Camera, scale: float = 1.0) -> float:
        """Returns how far a view is from the keyframe's: radians, of the turn and of what the way makes.

        `scale` is the share of the view's resolution that keyframes need.
        """
        between = np.linalg.inv(self.camera.matrix) @ camera.matrix
        turn = float(np.linalg.norm(rotation_vector(between[:3, :3])))
        finer = camera.fl_y / self.camera.fl_y
        return turn + self.way(camera) + DETAIL * max(math.log(finer * scale), -math.log(finer), 0.0)


@dataclass(frozen=True)
class Chosen:
    """Keyframes for one picture, best first."""

    held: tuple[Held, ...]
    fade: float = 1.0  # share of the first where the second shows the same

    @property
    def sources(self) -> list[Source]:
        """As the warp wants them."""
        return [each.source for each in self.held]

    @property
    def is_whole(self) -> bool:
        """Whether the scene is as all of them have it, colours aside."""
        return all(each.is_whole for each in self.held)


class Ring:
    """At most two keyframes and a coarse one, in the order of their coming."""

    def __init__(self) -> None:
        self.newest: Held | None = None
        self.previous: Held | None = None
        self.coarse: Held | None = None
        self._is_followed = False  # whether a full keyframe has come since the coarse one
        self._first: Held | None = None  # source of the last picture
        self._before: Held | None = None  # the first source before that
        self._age = len(FADES)  # pictures since they changed places

    @property
    def held(self) -> list[Held]:
        """All keyframes."""
        return self._full + ([self.coarse] if self.coarse is not None else [])

    @property
    def _full(self) -> list[Held]:
        return [each for each in (self.newest, self.previous) if each is not None]

    @property
    def is_coarse(self) -> bool:
        """Whether what is seen has been rendered at a part of the resolution only."""
        return self.coarse is not None and self.coarse.shows and not self._is_followed

    @property
    def geometry(self) -> list[Source]:
        """All keyframes with depths that can be relied on."""
        return [source for each in self.held if (source := each.geometry) is not None]

    def add(self, held: Held) -> None:
        """Takes in the newest keyframe, for the oldest, or for one of the same camera and colours."""
        self._is_followed = not held.is_coarse
        if held.is_coarse:
            self.coarse = held
            return
        if self.newest is not None and not self.newest.is_outdone_by(held):
            self.previous = self.newest
        self.newest = held

    def at(self, camera: Camera) -> Held | None:
        """Returns the full keyframe of this very camera that is wholly good, if there is one."""
        here = (each for each in self._full if each.camera == camera)
        return next((each for each in here if each.is_alike and each.is_whole), None)

    def choose(self, camera: Camera, scale: float = 1.0) -> Chosen:
        """Returns the keyframes to make a picture from, and goes on with the fade between the first ones.

        `scale` is the share of the view's resolution that keyframes need.
        """

        def rank(held: Held) -> tuple[bool, bool, float]:
            return held.is_coarse, not held.is_alike, held.distance(camera, scale)

        order = sorted((each for each in self.held if each.shows), key=rank)
        first = order[0] if order else None
        if first is not self._first:
            self._first, self._before, self._age = first, self._first, 0
        before = self._before
        if self._age >= len(FADES) or before is None or before not in order:
            self._age = len(FADES)
            if self._is_followed:
                self.coarse = None
                order = [each for each in order if not each.is_coarse]
            return Chosen(tuple(order))
        fade = FADES[self._age]
        self._age += 1
        order.remove(before)
        return Chosen((order[0], before, *order[1:]), fade)

    def unlike(self, camera: Camera, scale: float = 1.0) -> Held | None:
        """Returns the full keyframe that would show most if it were not for its colours; scale: as above."""
        found = [each for each in self._full if each.geometry is not None and not each.shows]
        return min(found, key=lambda each: each.distance(camera, scale), default=None)

    def jump(self, before: Camera, camera: Camera) -> None:
        """The view changes; where it does not fly but jump, keyframes that are far from it are dropped."""
        if self.newest is None or self.newest.depths(before, camera) < FARTHEST:
            return
        near = [each for each in self._full if each.way(camera) < FARTHEST]
        self.newest, self.previous = (*near, None, None)[:2]

    def drop(self) -> None:
        """The full keyframes do not show what is there."""
        self.newest = self.previous = None

    def stand_at(self, held: Held) -> None:
        """A picture was made of one keyframe as it is: the next one does not fade from others."""
        self._first, self._before, self._age = held, None, len(FADES)


def colors_of(look: Look) -> tuple[object, ...]:
    """Returns what all colours depend on."""
    return look.appearance.mix, look.appearance.latent, look.background
