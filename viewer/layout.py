"""Where the panels are docked: generated for the size and scale of the window, saved when it closes."""

from __future__ import annotations

import ctypes
import logging
from pathlib import Path

import dearpygui.dearpygui as dpg

from .recent import config_folder

log = logging.getLogger(__name__)

# Window tags are the keys of the layout file. They must be far above the automatic ids, which count from 1.
FIRST_TAG = 10**12 + 1
NAMES = (
    *("Scene", "Blocks", "Viewport", "Status", "Camera", "Render", "Stats", "Appearance"),
    *("Compare", "Measure", "Edit"),
)
WINDOW = {name: FIRST_TAG + index for index, name in enumerate(NAMES)}
DOCKED = {  # dock node and place among its tabs
    "Scene": (2, 0),
    "Blocks": (3, 0),
    "Viewport": (6, 0),
    "Status": (11, 0),
    "Camera": (8, 0),
    "Render": (8, 1),
    "Appearance": (8, 2),
    "Edit": (9, 0),
    "Compare": (9, 1),
    "Measure": (9, 2),
    "Stats": (9, 3),
}
_NODES = [node for node, _ in DOCKED.values()]
SHARES_DOCK = {name: _NODES.count(node) > 1 for name, (node, _) in DOCKED.items()}  # with another tab
MENU_HEIGHT, STATUS_HEIGHT, LEFT_WIDTH = 28, 28, 288  # logical pixels
SMALL_WIDTH = 1400  # logical pixels of window width below which the docks are narrower
RIGHT_WIDTH, SMALL_RIGHT_WIDTH = 360, 336  # logical pixels
LEAVING = (  # panels that are left out together where room is short, in this order
    ("Scene", "Blocks"),
    ("Camera", "Render", "Appearance", "Edit", "Compare", "Measure", "Stats"),
)
SPLITTER = 2  # pixels between two docks
LEAST_VIEWPORT = 0.4  # of the window's width


def default_layout(width: int, height: int, scale: float) -> str:
    """Returns ImGui's layout text for a window size in pixels."""
    small = width / scale < SMALL_WIDTH
    menu, status, left = (round(v * scale) for v in (MENU_HEIGHT, STATUS_HEIGHT, LEFT_WIDTH))
    right = round((SMALL_RIGHT_WIDTH if small else RIGHT_WIDTH) * scale)
    body = height - menu - status
    middle = max(width - left - right, 16)
    scene = body - round(404 * scale) if small else min(round(456 * scale), body // 2)
    scene = max(scene, body // 4)
    upper = min(round(596 * scale), round(body * 0.6313))
    windows = [
        f"[Window][WindowOverViewport_11111111]\nPos=0,{menu}\nSize={width},{height - menu}\nCollapsed=0\n"
    ]
    for name, (node, order) in DOCKED.items():
        windows.append(f"[Window][###{WINDOW[name]}]\nCollapsed=0\nDockId=0x{node:08X},{order}\n")
    plain = "NoWindowMenuButton=1 NoCloseButton=1"
    docking = f"""[Docking][Data]
DockSpace       ID=0x08BD597D Window=0x1BBC0F80 Pos=0,{menu} Size={width},{height - menu} Split=Y
  DockNode      ID=0x0000000A Parent=0x08BD597D SizeRef={width},{body} Split=X
    DockNode    ID=0x00000001 Parent=0x0000000A SizeRef={left},{body} Split=Y
      DockNode  ID=0x00000002 Parent=0x00000001 SizeRef={left},{scene} {plain}
      DockNode  ID=0x00000003 Parent=0x00000001 SizeRef={left},{body - scene} {plain}
    DockNode    ID=0x00000004 Parent=0x0000000A SizeRef={width - left},{body} Split=X
      DockNode  ID=0x00000006 Parent=0x00000004 SizeRef={middle},{body} CentralNode=1 NoTabBar=1
      DockNode  ID=0x0000000C Parent=0x00000004 SizeRef={right},{body} Split=Y
        DockNode ID=0x00000008 Parent=0x0000000C SizeRef={right},{upper} {plain}
        DockNode ID=0x00000009 Parent=0x0000000C SizeRef={right},{body - upper} {plain}
  DockNode      ID=0x0000000B Parent=0x08BD597D SizeRef={width},{status} NoResize=1 NoTabBar=1
"""
    return "\n".join([*windows, docking])


class Room:
    """Which panels a narrow window leaves out, so that the viewport keeps its part of the width."""

    def __init__(self, scale: float) -> None:
        """`scale` is pixels per logical pixel."""
        left, right = (round(width * scale) + SPLITTER for width in (LEFT_WIDTH, SMALL_RIGHT_WIDTH))
        self._taken = [left + right, right]  # pixels beside the viewport, by how many groups are left out
        self._width = 0
        self._n_left_out = 0

    @property
    def left_out(self) -> tuple[str, ...]:
        """Names of the panels."""
        return sum(LEAVING[: self._n_left_out], ())

    def fit(self, width: int) -> bool:
        """Follows the width of the window, pixels; True where other panels are left out now.

        A window that grows leaves out no more, however wide the docks were made by hand.
        """
        if width == self._width:
            return False
        grows = 0 < self._width < width
        self._width = width
        fits = [width - taken >= LEAST_VIEWPORT * width for taken in self._taken]
        wanted = [*fits, True].index(True)
        before = self._n_left_out
        self._n_left_out = min(wanted, before) if grows else wanted
        return self._n_left_out != before

    def note(self, viewport: int) -> None:
        """Takes the width of the viewport, pixels, once all is in place: docks keep the widths they have."""
        if self._n_left_out < len(self._taken):
            self._taken[self._n_left_out] = self._width - viewport


class Layout:
    """The saved layout of one interface scale; sizes of another scale would not fit."""

    def __init__(self, scale: float) -> None:
        self._scale = scale
        self.saved = config_folder() / f"layout-{round(100 * scale)}.ini"
        self._default = config_folder() / f"layout-{round(100 * scale)}-default.ini"

    def prepare(self, width: int, height: int) -> Path:
        """Returns the layout file to start with: the saved one, or a fresh default."""
        if self._is_usable(self.saved):
            return self.saved
        self._default.parent.mkdir(parents=True, exist_ok=True)
        self._default.write_text(default_layout(width, height, self._scale))
        return self._default

    def save(self) -> None:
        """Keeps the layout of the window for the next start."""
        try:
            self.saved.parent.mkdir(parents=True, exist_ok=True)
            dpg.save_init_file(str(self.saved))
        except OSError as error:
            log.warning("the layout is not saved: %s", error)

    def reset(self, width: int, height: int) -> bool:
        """Docks everything as at first; False if this Dear PyGui can only do so at the next start."""
        self.saved.unlink(missing_ok=True)
        import dearpygui._dearpygui as extension

        text = default_layout(width, height, self._scale).encode()
        try:
            load = ctypes.CDLL(extension.__file__)._ZN5ImGui25LoadIniSettingsFromMemoryEPKcm
        except (OSError, AttributeError):
            return False
        load.argtypes, load.restype = [ctypes.c_char_p, ctypes.c_size_t], None
        load(text, len(text))
        return True

    @staticmethod
    def _is_usable(path: Path) -> bool:
        """Whether a saved layout knows every window of this version."""
        try:
            text = path.read_text()
        except (OSError, UnicodeDecodeError):
            return False
        return all(f"[Window][###{tag}]" in text for tag in WINDOW.values()) and "[Docking]" in text
