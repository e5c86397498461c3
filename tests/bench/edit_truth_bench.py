"""Removals and copies in the shipped town against ray-traced pictures of a town that was built that way.

`python -m tests.bench.edit_truth_bench` from the checkout; `--write` puts the tables into RESULTS.md.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import numpy as np

from landmark_viewer.core.edits.compile import EditCompiler
from landmark_viewer.core.edits.layers import Layer, Remove
from landmark_viewer.core.render import Renderer
from landmark_viewer.scenes.city.appearances import APPEARANCES
from landmark_viewer.scenes.city.town import Addition, Town, TownSpec
from landmark_viewer.scenes.load import demo_scene_path, open_scene

from ..edit_truth import (
    Score,
    Truth,
    compare_towns,
    copied,
    decibels,
    field_picture,
    ground_depth_errors,
    prism_of,
    score,
    view_around,
    view_from,
)
from .results import machine, write_section

SPEC = TownSpec(seed=1, blocks=(2, 2))
BUILDINGS = (4995003, 5005003, 5005000, 5005001, 4995000, 4995002, 5004992, 4994994)
OPEN = (45.0, -50.0)  # metres: on the river, where next to nothing casts a shadow on a copy
REMOVAL_BOUND, COPY_BOUND, DEPTH_BOUND = 24.0, 22.0, 0.5  # dB, dB, metres
AZIMUTHS = (200.0, 110.0, 20.0, 290.0)  # where the views stand, degrees clockwise from north
PITCH = 45.0


class Bench:
    """The shipped town, ready to be edited."""

    def __init__(self) -> None:
        self.renderer = Renderer(open_scene(demo_scene_path()).model, device="cpu")
        self.compiler = EditCompiler(self.renderer)
        self.town = Town(SPEC)

    def removal(self, number: int, n_views: int) -> str:
        """Returns the table row of one removed building."""
        town, after = self.town, Town(replace(SPEC, removed=(number,)))
        building = town.building(number)
        views = [
            compare_towns(town, after, view_around(town, number, azimuth, PITCH, 100 + building.height))
            for azimuth in AZIMUTHS[:n_views]
        ]
        layer = Remove(prism=prism_of(town, number, self.compiler.terrain))
        edits = self.compiler.compile((layer,))
        errors = [
            ground_depth_errors(truth, field_picture(self.renderer, truth, 0, edits), number)
            for truth in views
        ]
        depth = float(np.median(np.abs(np.concatenate(errors))))
        colors = self._colors(views, layer, REMOVAL_BOUND)
        return f"| {building.kind} {number} | {colors} | {_marked(depth, depth < DEPTH_BOUND, 2)} |"

    def copy(self, number: int, degrees: float, n_views: int) -> str:
        """Returns the table row of one building that is copied to an open place."""
        town, building = self.town, self.town.building(number)
        addition = Addition(number, *OPEN, degrees)
        after = Town(replace(SPEC, added=(addition,)))
        target = np.array([*OPEN, min(building.height, 30.0) / 3])
        views = [
            compare_towns(town, after, view_from(target, azimuth, PITCH, 100 + building.height))
            for azimuth in AZIMUTHS[:n_views]
        ]
        prism = prism_of(town, number, self.compiler.terrain)
        layer = copied(prism, town, addition, self.compiler.terrain)
        turned = f", turned {degrees:g}°" if degrees else ""
        return f"| {building.kind} {number}{turned} | {self._colors(views, layer, COPY_BOUND)} |"

    def _colors(self, views: list[Truth], layer: Layer, bound: float) -> str:
        edits = self.compiler.compile((layer,))
        assert edits is not None
        cells = []
        for code in range(len(APPEARANCES)):
            scores = [score(self.renderer, truth, code, edits) for truth in views]
            n = [int(truth.changed.sum()) for truth in views]
            edited, unedited, floor = (_mean(scores, n, part) for part in ("edited", "unedited", "floor"))
            cells.append(f"{_marked(edited, edited >= bound, 1)} / {unedited:.1f} / {floor:.1f}")
        return " | ".join(cells)


def _mean(scores: list[Score], n: list[int], part: str) -> float:
    """Returns the PSNR over the changed pixels of all views together."""
    return decibels(float(np.average([getattr(each, part) for each in scores], weights=n)))


def _marked(value: float, holds: bool, digits: int) -> str:
    return f"**{value:.{digits}f}**" if holds else f"{value:.{digits}f}"


def main() -> None:
    """Measures, prints, and keeps the tables if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--views", type=int, default=len(AZIMUTHS), help="views of each building")
    parser.add_argument("--write", action="store_true", help="put the tables into RESULTS.md")
    given = parser.parse_args()
    bench = Bench()
    names = " | ".join(appearance.name for appearance in APPEARANCES)
    rule = "|---" * (len(APPEARANCES) + 1)
    lines = [
        "## Edits of the shipped town against a town that was built that way",
        "",
        machine(),
        "",
        f"{given.views} views of 160x120 of each building, exact quality; buildings are selected by a click",
        "on their middle. PSNR in dB over the pixels whose true depth differs: the edited field, and the",
        "field as it is, against the ray-traced town after the edit; third, for comparison, the field as it",
        "is against the town before in pixels near by. Depth: median absolute error of the ground under the",
        "footprint, metres. Bold: as wanted, which is",
        f"{REMOVAL_BOUND:g} dB and {DEPTH_BOUND:g} m for a removal, {COPY_BOUND:g} dB for a copy.",
        "",
        f"| removed | {names} | depth |",
        f"{rule}|---|",
        *(bench.removal(number, given.views) for number in BUILDINGS),
        "",
        "Copies stand on the river at 45, -50: the one wide place that only an evening sun leaves in shadow.",
        "A field holds the light on a building as its colour: a copy keeps the sunny side and neighbours'",
        "shadows of its source, so that a turned one is right only where there is no sun.",
        "",
        f"| copied | {names} |",
        f"{rule}|",
        *(bench.copy(number, degrees, given.views) for number in BUILDINGS for degrees in (0.0, 90.0)),
    ]
    text = "\n".join(lines)
    print(text)
    if given.write:
        write_section("edit_truth_bench", text)


if __name__ == "__main__":
    main()
