"""Building footprints as GeoJSON, in metres of the town's own coordinates."""

from __future__ import annotations

from typing import Any

from .buildings import Building

NOTE = "local: metres, x east, y north, the origin in the middle of the town; not longitude and latitude"


def to_geojson(buildings: list[Building]) -> dict[str, Any]:
    """Returns a FeatureCollection with one polygon for each building.

    Properties: `id`, `kind`, `block` (index east and north of the middle), `height` of the highest point
    above `ground_height`, both metres.
    """
    return {
        "type": "FeatureCollection",
        "coordinate_system": NOTE,
        "features": [_feature(building) for building in buildings],
    }


def _feature(building: Building) -> dict[str, Any]:
    ring = [[round(x, 3), round(y, 3)] for x, y in building.footprint]
    return {
        "type": "Feature",
        "id": building.id,
        "geometry": {"type": "Polygon", "coordinates": [[*ring, ring[0]]]},
        "properties": {
            "id": building.id,
            "kind": building.kind,
            "block": list(building.block),
            "height": round(building.height, 3),
            "ground_height": round(building.ground, 3),
        },
    }
