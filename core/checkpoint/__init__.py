"""LandMark checkpoints: opening and describing every layout that LandMark writes."""

from .inspect import Description, describe
from .landmark import Opened, open_checkpoint
from .naming import find_checkpoint

__all__ = ["Description", "Opened", "describe", "find_checkpoint", "open_checkpoint"]
