"""The dockable panels, one file each. PANELS is the registry that the window is built from."""

from .blocks import BlocksPanel
from .camera import CameraPanel
from .panel import DockedPanel, Host, Panel, Submit
from .render import RenderPanel
from .scene import ScenePanel
from .stats import StatsPanel
from .status import StatusBar

PANELS: tuple[type[DockedPanel], ...] = (ScenePanel, BlocksPanel, CameraPanel, RenderPanel, StatsPanel)

__all__ = ["PANELS", "DockedPanel", "Host", "Panel", "StatusBar", "Submit"]
