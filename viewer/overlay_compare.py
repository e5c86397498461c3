"""A comparison over the picture: the line of a wipe, what is where, and how far both are apart."""

from __future__ import annotations

import math

from .comparison import CompareStatus
from .state import Compare, CompareMode
from .theme import HALO, HUD_MUTED, HUD_PLATE, HUD_TEXT, HUD_WARN
from .widgets import Pen

TOP, PLATE_HEIGHT, MARGIN = 108, 26, 16  # logical pixels; the floating bars end above
BOTTOM = 60  # logical pixels; scale bar and badge lie below
GRAB = 10  # logical pixels beside the line of a wipe that still take it


def draw_compare(pen: Pen, compare: Compare, status: CompareStatus, width: int, height: int) -> None:
    """Draws line, names of both pictures and the score, for a viewport in pixels."""
    px, other = pen.look.px, status.label if status.is_beside else "…"
    line = line_of(compare, width)
    if line is not None:
        pen.line((line, 0), (line, height), HALO, 4)
        pen.line((line, 0), (line, height), HUD_TEXT, 1.5)
    if compare.mode is CompareMode.WIPE and line is not None:
        middle = (line, height / 2)
        pen.circle(middle, px(13), fill=HUD_PLATE, color=HUD_TEXT)
        pen.text(line, height / 2 - px(8), "A  B", HUD_TEXT, 0.5)
    if line is not None:
        _name(pen, line - px(MARGIN), "A  now", 1.0)
        _name(pen, line + px(MARGIN), f"B  {other}", 0.0)
    elif compare.mode is CompareMode.DIFFERENCE:
        _name(pen, width / 2, f"now − {other}   × {compare.gain:.1f}", 0.5)
    else:
        _name(pen, width / 2, f"B  {other}" if status.is_second and status.is_beside else "A  now", 0.5)
    words, color = score_text(status), HUD_TEXT
    if status.note:
        words, color = status.note, HUD_WARN
    elif not status.finished:
        color = HUD_MUTED
    total = pen.text_width(words) + px(24)
    left, top = (width - total) / 2, height - px(BOTTOM + PLATE_HEIGHT)
    pen.plate(left, top, total, px(PLATE_HEIGHT), HUD_PLATE)
    pen.text(left + px(12), top + px(5), words, color)


def line_of(compare: Compare, width: int) -> float | None:
    """Returns where A ends and B begins, pixels from the left; None where no line divides them."""
    if compare.mode is CompareMode.WIPE:
        return compare.position * width
    return width / 2 if compare.mode is CompareMode.SIDE else None


def grabs_line(compare: Compare, column: float, width: int, scale: float) -> bool:
    """Whether a press at a column of the viewport takes the line of a wipe; `scale` is the interface's."""
    line = line_of(compare, width)
    return compare.mode is CompareMode.WIPE and line is not None and abs(column - line) <= GRAB * scale


def score_text(status: CompareStatus) -> str:
    """Says how near both pictures come to each other, or what is still to be waited for."""
    if status.score is not None:
        psnr = status.score.psnr
        if math.isinf(psnr):
            return "Both pictures are equal"
        return f"PSNR {psnr:.2f} dB   SSIM {status.score.ssim:.4f}"
    if status.finished:
        return "Both pictures are finished"
    return f"Refining B {100 * status.progress:.0f} %" if status.progress else "Waiting for both pictures"


def _name(pen: Pen, x: float, words: str, align: float) -> None:
    px = pen.look.px
    width = pen.text_width(words) + px(16)
    left = x - align * width
    pen.plate(left, px(TOP), width, px(PLATE_HEIGHT), HUD_PLATE)
    pen.text(left + px(8), px(TOP + 5), words, HUD_TEXT)
