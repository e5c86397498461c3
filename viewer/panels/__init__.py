"""The dockable panels, one file each. PANELS is the registry that the window is built from."""

from .appearance import AppearancePanel
from .blocks import BlocksPanel
from .camera import CameraPanel
from .compare import ComparePanel
from .edit import EditPanel
from .measure import MeasurePanel
from .panel import DockedPanel, Host, Panel, Submit
from .render import RenderPanel
from .scene import ScenePanel
from .stats import StatsPanel
from .status import StatusBar

PANELS: tuple[type[DockedPanel], ...] = (
    ScenePanel,
    BlocksPanel,
    CameraPanel,
    RenderPanel,
    AppearancePanel,
    EditPanel,
    ComparePanel,
    MeasurePanel,
    StatsPanel,
)

__all__ = ["PANELS", "DockedPanel", "Host", "Panel", "StatusBar", "Submit"]
