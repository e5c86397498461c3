"""The interactive engine: pictures of a moving camera from keyframes and a few fresh rays.

A displayed picture is looked up in finished keyframes, and where these fail it is rendered anew or, at last,
guessed. Meanwhile the next keyframe is rendered little by little, for where the camera is expected to be.
What is shown is a function of the scene, the looks, the cameras with their times, and the budgets, whatever
the number of threads. Exact pictures are never made here; they only come in.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from ...cuda import ops
from ...cuda.tables import FrameBuffers, RenderControl
from ...cuda.warp import KeyframeBuilder, Warp
from ...cuda.warp_tables import Counts, WarpSettings
from ..camera import Camera, camera_at
from ..errors import InputError
from ..rays import view_of
from ..render import Renderer
from .casting import PACK, Caster
from .confidence import BEHIND, behind_share, mean_behind
from .contracts import Budget, Course, Displayed, Kind, Look, Refined
from .course import Motion
from .detail import Detail, Haste
from .recolor import samples
from .ring import Chosen, Held, Ring, colors_of
from .scatter import scattered
from .under_way import UnderWay

COVERED = 0.4  # share of the view that keyframes must show: with less, a coarse picture comes first
GIVEN_UP = 0.6  # share of a keyframe that is finished, below which it makes way for a coarser one
WRONG = 0.02  # mean squared error of check rays, 17 dB, with which keyframes are given up if also less than
CONFIRMED = 0.8  # of these rays meet the surface that is shown: this is neither motion nor fine texture
COARSEST = 0.125  # share of the resolution per side, of a coarse picture
MARGIN_STEPS = 4.0  # that a ray starts before the surface that is expected
FRONT_STEPS = 8.0  # that a front layer is deep, as LV_FRONT_SAMPLES in compositing.h
STARTING = 1 / 75  # cost of beginning a keyframe, in rays for each of its pixels
LONGEST = 2.0  # seconds that a keyframe is expected to take at most
SIZES = 3  # of pictures whose scratch memory is kept


@dataclass(frozen=True)
class _Fresh:
    """What the fresh rays of a picture have brought."""

    n: int = 0
    guessed: int = 0  # pixels that are the mean of their neighbours
    error: float | None = None
    confirmed: float = 1.0  # share of the check rays that met the surface that keyframes show
    lacking: int = 0  # pixels that read a coarse stand-in for a block
    lacks: np.ndarray | None = None  # bool [n_blocks]

    @property
    def is_wrong(self) -> bool:
        """Whether keyframes do not show what is there."""
        return self.error is not None and self.error > WRONG and self.confirmed < CONFIRMED


class Engine:
    """Makes the pictures of one renderer's scene while the camera moves. For one thread, `cancel`s aside."""

    def __init__(self, renderer: Renderer, threads: int = 0) -> None:
        """`threads` is how many may be used; 0: all cores of this process."""
        self._renderer = renderer
        self._caster = Caster(renderer, threads)
        self._threads = threads
        self._ring = Ring()
        self._motion = Motion()
        self._under_way: UnderWay | None = None
        self._warps: dict[tuple[int, int], Warp] = {}  # by size, the last one used last
        self._camera: Camera | None = None  # that was displayed last
        self._seen: Camera | None = None  # the same, or that of a picture that came in since
        self._look = Look()
        self._budget = Budget(0, 0, 0, 0)
        self._course: Course | None = None
        self._detail, self._haste = Detail(), Haste()
        self._behind = 0.0  # share of the opacity behind the front layer of the newest keyframe
        self._stays = False  # whether the next keyframe is to be of the displayed camera
        self._blocks: object = None  # stands for the blocks in memory that the keyframes were judged by
        step = float(renderer.model.step)
        self._settings = WarpSettings(margin=MARGIN_STEPS * step)
        self._front = FRONT_STEPS * step

    def serves(self, look: Look) -> str | None:
        """Returns why the engine cannot show a look, in a few words; None: it can."""
        return self._caster.serves(look)

    @property
    def key_area(self) -> float:
        """Pixels that keyframes need, as a share of those of a picture.

        Those that are coarser than that for a fast camera are to come sooner, not to cost less.
        """
        return self._detail_scale**2

    @property
    def behind(self) -> float:
        """Share of the opacity that lies behind the front layer, in the newest keyframe."""
        return self._behind

    def display(
        self,
        camera: Camera,
        look: Look,
        budget: Budget,
        now: float,
        course: Course | None = None,
        planes: bool = False,
    ) -> Displayed:
        """Makes the picture of a camera.

        Args:
            camera: Where from. One that stays the same for longer than others did is taken to rest.
            look: What is to be seen.
            budget: Rays that it may cost.
            now: Seconds, never falling.
            course: Where the camera will be, where that is known.
            planes: Whether opacity and depths are wanted as well.

        Raises:
            InputError: The pose is not finite: nothing could be kept of what is known beside it.
        """
        if not np.isfinite(camera.matrix).all():
            raise InputError(f"c2w of the camera must be finite numbers, got {camera.c2w}")
        if camera == self._camera and look.edits is not self._look.edits:  # nothing else moves
            budget = Budget(budget.total, 0, budget.total, 0, budget.check)
        is_restyled = self._see(look)
        self._motion.note(camera, now)
        self._ring.jump(self._seen or camera, camera)
        self._camera, self._budget, self._course = camera, budget, course
        self._seen = camera
        self._stays = self._motion.rests
        self._review(camera, look, is_restyled)
        warp = self._warp_for(camera)
        warp.next()
        held = self._ring.at(camera)
        if held is not None:
            self._ring.stand_at(held)
            warp.show(held.keyframe)
            return self._displayed(warp, Kind.KEYFRAME, [held], _Fresh(), 0)
        chosen, counts = self._project(warp, camera, planes)
        rays = 0
        if counts.coverage < COVERED and budget.total < camera.width * camera.height:
            rays = self._recolor(camera, look, budget.total - budget.key)
            chosen, counts = self._project(warp, camera, planes)
        if counts.coverage < COVERED:
            rays += self._begin_coarse(camera, look, budget.total, now)
            chosen, counts = self._project(warp, camera, planes)
        under_way = self._under_way
        if under_way is not None and under_way.camera == camera and under_way.is_alike(look):
            warp.show_part(under_way.builder, under_way.finished)
        fresh = self._freshen(warp, chosen, counts.holes, budget)
        if fresh.is_wrong:  # as where the near plane had cut something away
            self._ring.drop()
            warp.forget()
            rays += fresh.n + self._begin_coarse(camera, look, budget.total, now)
            chosen, counts = self._project(warp, camera, planes)
            fresh = self._freshen(warp, chosen, counts.holes, budget)
        self._hurry(fresh.guessed / (camera.width * camera.height))
        kind = Kind.WARPED if chosen.held[0].is_alike else Kind.RECOLORED
        kind = Kind.COARSE if self._ring.is_coarse else kind
        return self._displayed(warp, kind, list(chosen.held), replace(fresh, n=fresh.n + rays), counts.holes)

    def refine(self, n: int, cancelled: RenderControl | None = None) -> Refined:
        """Renders some rays of the next keyframe; begins one where there is none.

        Args:
            n: Rays. The last pack of them is completed.
            cancelled: May be cancelled from any thread, which ends the work after the packs under way. What
                is finished stays.

        Returns:
            What was done. No rays, not cancelled: the picture that is displayed cannot be bettered.
        """
        if cancelled is not None and cancelled.is_cancelled:
            return Refined(0, False)
        under_way = self._under_way
        if under_way is None:
            under_way = self._under_way = self._begin()
            if under_way is None:
                return Refined(0, False)
            n = max(n - round(STARTING * under_way.n_pixels), PACK)
        rays = 0
        while rays < n:
            done = under_way.advance(self._caster, -(-(n - rays) // PACK) * PACK, cancelled)
            rays += done
            if under_way.is_finished and not under_way.renew(self._have_come):
                self._finish(under_way)
                return Refined(rays, True, under_way.needs)
            if not done or (cancelled is not None and cancelled.is_cancelled):
                break
        return Refined(rays, False)

    def adopt(
        self,
        camera: Camera,
        look: Look,
        buffers: FrameBuffers,
        lacking: np.ndarray | None = None,
        lacks: np.ndarray | None = None,
    ) -> None:
        """Takes a finished picture, however it was made, as the newest keyframe.

        Args:
            camera: That it was rendered from.
            look: That it shows.
            buffers: The picture, with its front layer.
            lacking: Pixels that read coarse stand-ins for blocks; None: none did. bool [height, width]
            lacks: The blocks that these stand for. bool [n_blocks]
        """
        assert buffers.front is not None, "keyframes need the depth of the front layer"
        builder = KeyframeBuilder(view_of(camera))
        self._judge_depth(mean_behind(buffers.opacity.numpy(), buffers.front[..., 1].numpy()))
        buffers = replace(buffers, front=buffers.front.clone())
        self._caster.place_front(buffers)
        builder.put_picture(buffers)
        if lacking is not None:
            builder.lacking[:] = lacking
        held = Held(camera, look, builder.finish(), lacks)
        self._detail = self._detail.after(held.keyframe, 1.0)
        held.see(self._look, self._front, self._have_come)
        self._ring.add(held)
        self._seen = camera
        if self._under_way is not None and self._under_way.camera == camera:
            self._under_way = None

    def prepare(self, cancelled: RenderControl | None = None) -> None:
        """Finds out where the field holds anything, once, so that rays are cheaper from then on.

        That takes about a second of processor time: it is for when nothing else is to be done.

        Args:
            cancelled: May be cancelled from any thread; then the next call begins again.
        """
        self._caster.prepare(cancelled)

    # What is looked at

    def _see(self, look: Look) -> bool:
        """Finds out what keyframes are worth for a look and the blocks that are in memory now.

        Returns:
            Whether colours are others now.
        """
        stream = self._renderer.stream
        blocks = (stream.residency, stream.residency.version) if stream is not None else None
        before, self._look = self._look, look
        is_restyled = colors_of(look) != colors_of(before)
        if look.edits is not before.edits or is_restyled:
            if self._under_way is not None and not self._under_way.follow(look, self._front):
                self._under_way = None
            for warp in self._warps.values():
                warp.forget()
            for held in self._ring.held:
                held.see(look, self._front, self._have_come)
        elif blocks != self._blocks:
            for held in self._ring.held:
                held.look_for(self._have_come)
        self._blocks = blocks
        return is_restyled

    def _review(self, camera: Camera, look: Look, is_restyled: bool) -> None:
        """Drops the keyframe under way where it is no longer what is wanted.

        Colours that change are likely to change again, in which case one in any colours serves for its depths
        and its detail. Where they stay or the camera does, one in these colours is better.
        """
        if self._under_way is None:
            return
        is_here, is_alike = self._under_way.camera == camera, self._under_way.is_alike(look)
        if not (is_here and is_alike if self._stays else is_alike or is_restyled):
            self._under_way = None

    def _missing(self, lacks: np.ndarray) -> np.ndarray:
        """Returns which of some blocks are not in memory now. lacks: bool [n_blocks]"""
        stream, edits = self._renderer.stream, self._look.edits
        missing = lacks.copy()
        if stream is not None:
            blocks = stream.residency.tables(edits.variants if edits else ()).blocks
            for block in np.flatnonzero(lacks):
                missing[block] = blocks[block] is None
        return missing

    def _have_come(self, lacks: np.ndarray) -> bool:
        """Whether any of some blocks are in memory now. lacks: bool [n_blocks]"""
        return bool((self._missing(lacks) != lacks).any())

    # The picture

    def _project(self, warp: Warp, camera: Camera, planes: bool) -> tuple[Chosen, Counts]:
        chosen = self._ring.choose(camera, self._key_scale)
        counts = warp.project(view_of(camera), chosen.sources, self._settings, chosen.fade, planes)
        return chosen, counts if chosen.held else replace(counts, coverage=0.0)  # points alone do not do

    @property
    def _key_scale(self) -> float:
        """Share of the displayed resolution per side that keyframes of a moving camera have."""
        return self._detail_scale * self._haste.scale

    @property
    def _detail_scale(self) -> float:
        return self._detail.at(self._camera.width if self._camera is not None else 0)

    def _hurry(self, guessed: float) -> None:
        """Makes keyframes coarser where they come too late; one that has just begun is given up for that."""
        before, self._haste = self._haste, self._haste.after(guessed)
        under_way = self._under_way
        if self._haste.halvings > before.halvings and under_way is not None and under_way.share < GIVEN_UP:
            self._under_way = None

    def _recolor(self, camera: Camera, look: Look, n: int) -> int:
        """Gives the nearest keyframe of other colours those of a look, from about n rays.

        Returns:
            Its rays; none where there is no such keyframe.
        """
        held = self._ring.unlike(camera, self._key_scale)
        if held is None:
            return 0
        pixels = held.standing(samples(held.camera.width, held.camera.height, n))
        cast = self._caster.cast(held.camera, look, pixels, self._starts(held.camera, pixels))
        backdrop = self._caster.backdrop(look) - self._caster.backdrop(held.look)
        held.recolor(backdrop, pixels, cast.buffers.rgb[0].numpy())
        return len(pixels)

    def _begin_coarse(self, camera: Camera, look: Look, n: int, now: float) -> int:
        """Renders a coarse keyframe of about n rays, which a full one of this camera will follow.

        Returns:
            Its rays.
        """
        scale = math.sqrt(n / (camera.width * camera.height))
        coarse = camera_at(camera, min(max(scale, COARSEST), 1.0))
        under_way = UnderWay(coarse, look, n_blocks=self._caster.n_blocks)
        rays = under_way.advance(self._caster, under_way.n_pixels, None)
        held = under_way.finish(is_coarse=True)
        self._judge_depth(behind_share(held.keyframe))
        self._ring.add(held)
        self._motion.forget()
        self._motion.note(camera, now)
        self._under_way, self._stays = None, True
        return rays

    def _freshen(self, warp: Warp, chosen: Chosen, holes: int, budget: Budget) -> _Fresh:
        """Renders pixels anew as the budget allows, and guesses what is left."""
        assert self._camera is not None, "it is being displayed"
        room = max(budget.total - budget.key, 0)
        fill = min(budget.fill, holes, room)
        edge = min(budget.edge, room - fill)
        choice = warp.choose(fill, edge, budget.check)
        n, lacking, lacks, check = len(choice.pixels), 0, None, None
        if n:
            start = None
            if chosen.is_whole and not self._caster.is_hazy:
                start = choice.start
                start[n - choice.n_check :] = 0.0  # these find what no keyframe knows, too
            cast = self._caster.cast(self._camera, self._look, choice.pixels, start)
            check, lacking, lacks = warp.put(choice, cast.buffers), int(cast.lacking.sum()), cast.lacks
        error, elsewhere = (check.error, check.elsewhere) if check else (None, 0.0)
        return _Fresh(n, warp.fill_rest(), error, 1.0 - elsewhere, lacking, lacks)

    def _displayed(self, warp: Warp, kind: Kind, held: list[Held], fresh: _Fresh, holes: int) -> Displayed:
        assert self._camera is not None, "it is being displayed"
        n_pixels = warp.width * warp.height
        lacking = [each.lacks for each in held if each.lacks is not None]
        lacking += [fresh.lacks] if fresh.lacks is not None else []
        return Displayed(
            camera=self._camera,
            kind=kind,
            image=warp.image(),
            buffers=warp.buffers(),
            rays=fresh.n,
            holes=holes / n_pixels,
            guessed=fresh.guessed / n_pixels,
            error=fresh.error,
            coarse=min(held[0].lacking_share + fresh.lacking / n_pixels, 1.0),
            lacking=self._missing(np.logical_or.reduce(lacking)) if lacking else None,
        )

    def _warp_for(self, camera: Camera) -> Warp:
        size = camera.width, camera.height
        warp = self._warps.pop(size, None) or ops.open_warp(*size, self._threads)
        self._warps[size] = warp
        while len(self._warps) > SIZES:
            del self._warps[next(iter(self._warps))]
        return warp

    # The next keyframe

    def _begin(self) -> UnderWay | None:
        """Begins the next keyframe; None where it would be one that there is, or nothing is displayed."""
        if self._camera is None:
            return None
        camera = self._camera
        if not self._stays:
            scale = self._key_scale
            n_pixels = camera.width * camera.height * scale**2
            seconds = min(self._motion.interval * n_pixels / max(self._budget.key, 1), LONGEST)
            camera = camera_at(self._motion.ahead(seconds, self._course), scale)
        if self._ring.at(camera) is not None:
            return None
        start = self._starts(camera, scattered(camera.width, camera.height).pixels)
        return UnderWay(camera, self._look, start, self._settings.margin, self._caster.n_blocks)

    def _starts(self, camera: Camera, pixels: np.ndarray) -> np.ndarray | None:
        """Returns where rays of some pixels may start, from all depths that are known; None: none are."""
        geometry = self._ring.geometry
        if not geometry or self._caster.is_hazy:  # rays begin in the haze
            return None
        warp = self._warps[next(reversed(self._warps))]
        return warp.starts(view_of(camera), geometry, pixels, self._settings)

    def _judge_depth(self, behind: float) -> None:
        """Decides how the next rays are to be used, from how much of a keyframe lies behind its front."""
        self._behind = behind
        self._caster.is_hazy = behind > BEHIND

    def _finish(self, under_way: UnderWay) -> None:
        held = under_way.finish()
        self._judge_depth(behind_share(held.keyframe))
        if self._camera is not None:
            self._detail = self._detail.after(held.keyframe, held.camera.width / self._camera.width)
        held.see(self._look, self._front, self._have_come)
        self._ring.add(held)
        self._under_way = None
