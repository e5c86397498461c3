"""The elements of a block exchange XML that matter here, read as a stream."""

from __future__ import annotations

import math
from array import array
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError, TreeBuilder, XMLParser

import numpy as np

from ...core.camera import LARGEST
from ...core.errors import InputError
from .source_camera import check_points

CHUNK = 1 << 20  # bytes
MAX_POINTS = 1_000_000  # tie points kept, the first ones
MAX_ELEMENTS = 20_000_000
SKIPPED = frozenset(
    {"ControlPoints", "Metadata", "ExifData", "ColorModel", "ColorModelReference", "Measurement"}
)


class _Blocks(TreeBuilder):
    """Builds the tree without what is not needed; of tie points only the positions stay.

    A document type is refused: with it, a few bytes could stand for gigabytes.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.points = array("d")
        self.n_elements = 0
        self._depth = 0  # below an element that is skipped
        self._tie_points: Element | None = None

    def doctype(self, name: str, public: str | None, system: str | None) -> None:
        """Is called by the parser where a document type begins."""
        raise InputError(f"{self.path} must be an XML without a document type, got <!DOCTYPE {name}")

    def start(self, tag: str, attributes: dict[str, str], /) -> Element:
        """Is called by the parser where an element begins."""
        if self._depth or tag in SKIPPED:
            self._depth += 1
            return _NOTHING
        self.n_elements += 1
        if self.n_elements > MAX_ELEMENTS:
            raise InputError(f"{self.path} must have at most {MAX_ELEMENTS} elements")
        element = super().start(tag, attributes)
        if tag == "TiePoints":
            self._tie_points = element
        return element

    def end(self, tag: str, /) -> Element:
        """Is called by the parser where an element ends."""
        if self._depth:
            self._depth -= 1
            return _NOTHING
        element = super().end(tag)
        if tag == "TiePoint" and self._tie_points is not None:
            self._keep(element)
            self._tie_points.clear()
            self.n_elements = 0
        return element

    def data(self, data: str, /) -> None:
        """Is called by the parser for text."""
        if not self._depth:
            super().data(data)

    def _keep(self, tie_point: Element) -> None:
        position = tie_point.find("Position")
        if position is not None and len(self.points) < 3 * MAX_POINTS:
            self.points.extend(number(f"{self.path}: TiePoint", position, axis) for axis in "xyz")


_NOTHING = Element("nothing")


def parse_blocks(path: Path) -> tuple[Element, np.ndarray]:
    """Reads the XML: the root element, and the positions of the tie points, float64 [n, 3].

    Raises:
        InputError: The file is unreadable or not well-formed.
    """
    blocks = _Blocks(path)
    parser = XMLParser(target=blocks)
    try:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                parser.feed(chunk)
        root = parser.close()
    except OSError as error:
        raise InputError(f"{path} must be a readable XML, got: {error.strerror}") from None
    except InputError:
        raise
    except (ParseError, ValueError, LookupError) as error:
        raise InputError(f"{path} must be a whole, well-formed XML, got: {error}") from None
    points = (
        np.frombuffer(blocks.points, dtype=np.float64).reshape(-1, 3) if blocks.points else np.empty((0, 3))
    )
    check_points(path, points)
    return root, points


def number(where: str, parent: Element, tag: str) -> float:
    """Returns the number in an element below `parent`; `where` starts the error message.

    Raises:
        InputError: The element is missing or is no finite number.
    """
    text = parent.findtext(tag)
    if text is None:
        raise InputError(f"{where}: {parent.tag} must hold {tag}, which is missing")
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not abs(value) <= LARGEST:
        raise InputError(f"{where}: {tag} in {parent.tag} must be a finite number, got {text.strip()[:40]!r}")
    return value
