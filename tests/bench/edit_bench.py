"""What edits cost: the shipped town with every building taken away and put back, against the town as it is.

`python -m tests.bench.edit_bench` from the checkout; `--write` puts the table into RESULTS.md.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import shapely

from landmark_viewer.core.camera import Camera, look_at
from landmark_viewer.core.edits.compile import EditCompiler
from landmark_viewer.core.edits.compiled import CompiledEdits
from landmark_viewer.core.edits.layers import Copy, Layer, Placement, Prism, Remove
from landmark_viewer.core.edits.region import Region
from landmark_viewer.core.render import Backend, Renderer, RenderSettings
from landmark_viewer.cuda.tables import Quality
from landmark_viewer.scenes.city.buildings import Building
from landmark_viewer.scenes.city.town import Town, TownSpec
from landmark_viewer.scenes.load import demo_scene_path, open_scene

from .results import machine, write_section

SIZE = (480, 270)
METRES = 100.0  # per scene unit
STRIPS = 5  # of every building: 20 buildings make 100 removals and 100 instances
MARGIN = 1.0  # metres around a footprint
PLAIN = "unedited"


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    quality: str
    edits: str
    ms: float  # best of all rounds, wall clock
    ratio: float  # to the unedited frame


def strips(building: Building) -> list[Prism]:
    """Cuts the prism of a building into strips from west to east."""
    x0, y0, x1, y1 = (np.array(shapely.Polygon(building.footprint).buffer(MARGIN).bounds) / METRES).tolist()
    low, high = building.ground / METRES, (building.ground + building.height + 2 * MARGIN) / METRES
    cuts = np.linspace(x0, x1, STRIPS + 1).tolist()
    return [Prism(Region.rectangle(a, y0, b, y1), low, high) for a, b in pairwise(cuts)]


def turned_back(building: Building, prism: Prism) -> Copy:
    """Returns the copy of a strip that stands where it belongs in the building turned half round."""
    x, y, z = prism.anchor
    parts = [part.region.bounds for part in strips(building)]
    middle_x, middle_y = (parts[0][0] + parts[-1][2]) / 2, (parts[0][1] + parts[0][3]) / 2
    return Copy(prism=prism, placements=(Placement((2 * middle_x - x, 2 * middle_y - y, z), 180.0),))


def stacks() -> dict[str, tuple[Layer, ...]]:
    """Returns what is measured, by name."""
    buildings = Town(TownSpec(seed=1, blocks=(2, 2))).buildings()
    removals = [Remove(prism=prism) for building in buildings for prism in strips(building)]
    copies = [turned_back(building, prism) for building in buildings for prism in strips(building)]
    return {
        f"{len(removals)} removals": tuple(removals),
        f"{len(copies)} instances": tuple(copies),
        f"{len(removals)} removals and {len(copies)} instances": (*removals, *copies),
    }


def measure(rounds: int) -> tuple[list[Row], dict[str, float]]:
    """Times all frames in turn, and returns the rows and the seconds that compiling each stack took."""
    scene = open_scene(demo_scene_path())
    renderer = Renderer(scene.model)
    compiler = EditCompiler(renderer)
    edits: dict[str, CompiledEdits | None] = {PLAIN: None}
    seconds = {}
    for name, layers in stacks().items():
        begin = time.perf_counter()
        edits[name] = compiler.compile(layers)
        seconds[name] = time.perf_counter() - begin
    camera = Camera.from_fov(look_at((-1.1, -1.3, 0.9), (0.0, 0.0, 0.05)), *SIZE, 50.0)
    settings = RenderSettings(background=scene.background, backend=Backend.NATIVE)
    best: dict[tuple[Quality, str], float] = {}
    for _ in range(rounds):
        for quality in Quality:
            for name, compiled in edits.items():
                begin = time.perf_counter()
                renderer.render(camera, replace(settings, quality=quality, edits=compiled))
                ms = (time.perf_counter() - begin) * 1000
                best[quality, name] = min(ms, best.get((quality, name), float("inf")))
    rows = [Row(quality.value, name, ms, ms / best[quality, PLAIN]) for (quality, name), ms in best.items()]
    return rows, seconds


def report(rows: list[Row], seconds: dict[str, float]) -> str:
    """Returns the section of RESULTS.md."""
    lines = [f"| {row.quality} | {row.edits} | {row.ms:.0f} | {row.ratio:.2f} |" for row in rows]
    compiled = ", ".join(f"{name} {value * 1000:.0f} ms" for name, value in seconds.items())
    return "\n".join(
        [
            "## What edits cost",
            "",
            machine(),
            "",
            f"The shipped town, {SIZE[0]}x{SIZE[1]}: its 20 buildings, each in {STRIPS} strips, are removed, "
            "put back turned half round, or both. Wanted: at most 1.3 times the unedited exact frame.",
            "",
            "| quality | edits | ms | ratio |",
            "|---|---|---|---|",
            *lines,
            "",
            f"Compiling from nothing: {compiled}.",
        ]
    )


def main() -> None:
    """Measures, prints, and keeps the table if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--write", action="store_true", help="put the table into RESULTS.md")
    given = parser.parse_args()
    text = report(*measure(3 if given.quick else 9))
    print(text)
    if given.write:
        write_section("edit_bench", text)


if __name__ == "__main__":
    main()
