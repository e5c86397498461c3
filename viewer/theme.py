"""Colours, fonts and spacing: tokens for dark and light, and the Dear PyGui themes made from them."""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import dearpygui.dearpygui as dpg

from .fonts.icons import ICON

log = logging.getLogger(__name__)

Rgba = tuple[int, int, int, int]
NONE: Rgba = (0, 0, 0, 0)
FONT_FOLDER = Path(__file__).resolve().parent / "fonts"


@dataclass(frozen=True)
class Tokens:
    """Named colours. One accent; green, amber and red only ever mean a state; everything else is grey."""

    base: str  # menu bar, tab bars, status bar, gaps
    panel: str
    raised: str  # menus, tooltips
    field: str  # inputs, buttons
    hover: str
    press: str
    line: str  # rules, plot border
    text: str
    muted: str  # labels
    faint: str  # hidden, disabled
    accent: str  # selection, progress, line of the front tab
    accent_deep: str  # primary button
    on_accent: str
    tint: str  # selected row, pressed toggle
    ok: str
    warn: str
    bad: str
    edge: str  # field border
    knob: str  # slider grabs
    plot: str  # plot ground


DARK = Tokens(
    base="#0E1114",
    panel="#16191D",
    raised="#1B1F24",
    field="#22272D",
    hover="#2C323A",
    press="#363D46",
    line="#282D34",
    text="#E4E7EB",
    muted="#9AA3AD",
    faint="#78828D",
    accent="#4C9AFF",
    accent_deep="#2A73D9",
    on_accent="#FFFFFF",
    tint="#1D3350",
    ok="#5DBB7E",
    warn="#E2A83E",
    bad="#E5655E",
    edge="#00000000",
    knob="#C9D0D8",
    plot="#12151A",
)
LIGHT = Tokens(
    base="#D5DAE0",
    panel="#F5F6F8",
    raised="#ECEEF1",
    field="#FFFFFF",
    hover="#E3E7EC",
    press="#D5DBE2",
    line="#DDE1E6",
    text="#1A1F25",
    muted="#55606B",
    faint="#67717D",
    accent="#1A5FD0",
    accent_deep="#174FB0",
    on_accent="#FFFFFF",
    tint="#DCE9FD",
    ok="#23774A",
    warn="#865200",
    bad="#C93C37",
    edge="#C6CCD4",
    knob="#5F6A76",
    plot="#FFFFFF",
)
TOKEN_NAMES = frozenset(f.name for f in fields(Tokens))

# The heads-up display is dark in both themes: it lies on imagery, not on the panel colour.
HUD_PLATE: Rgba = (14, 17, 20, 208)
HUD_TEXT: Rgba = (240, 243, 246, 255)
HUD_MUTED: Rgba = (176, 184, 193, 255)
HUD_ACCENT: Rgba = (92, 164, 255, 255)
HUD_OK: Rgba = (93, 187, 126, 255)
HUD_WARN: Rgba = (226, 168, 62, 255)
HUD_BAD: Rgba = (229, 101, 94, 255)
HUD_INK: Rgba = (10, 14, 18, 255)  # text on a bright mark
AXIS_EAST: Rgba = (240, 96, 88, 255)
AXIS_NORTH: Rgba = (104, 204, 120, 255)
HALO: Rgba = (8, 12, 18, 150)

# Font roles: face and ImGui pixel height (an em is 0.83 of it).
FACES = {
    "body": ("Regular", 16),
    "small": ("Regular", 14),
    "strong": ("SemiBold", 16),
    "title": ("SemiBold", 19),
    "hud": ("Medium", 14),
    "glyph": ("Regular", 40),
}

FRAMELESS = {"Button": NONE, "ButtonHovered": NONE, "ButtonActive": NONE, "Border": NONE}
QUIET = {"Button": NONE, "ButtonHovered": "hover", "ButtonActive": "press", "Border": NONE}
PRESSED = {"Button": "tint", "ButtonHovered": "tint", "ButtonActive": "tint", "Border": NONE}
HUD_BUTTON = {
    "Button": NONE,
    "ButtonHovered": (255, 255, 255, 40),
    "ButtonActive": (255, 255, 255, 70),
    "Border": NONE,
}
HUD_PRESSED = {
    "Button": (76, 154, 255, 70),
    "ButtonHovered": (76, 154, 255, 90),
    "ButtonActive": (76, 154, 255, 110),
    "Border": NONE,
}

APP_COLORS: dict[str, str | Rgba] = {
    "FrameBg": "field",
    "FrameBgHovered": "hover",
    "FrameBgActive": "press",
    "Button": "field",
    "ButtonHovered": "hover",
    "ButtonActive": "press",
    "Header": "field",
    "HeaderHovered": "hover",
    "HeaderActive": "press",
    "Text": "text",
    "WindowBg": "panel",
    "ChildBg": NONE,
    "PopupBg": "raised",
    "ModalWindowDimBg": (0, 0, 0, 110),
    "Border": "edge",
    "BorderShadow": NONE,
    "TextDisabled": "faint",
    "MenuBarBg": "base",
    "CheckMark": "accent",
    "SliderGrab": "knob",
    "SliderGrabActive": "accent",
    "Separator": "line",
    "SeparatorHovered": "accent",
    "SeparatorActive": "accent",
    "Tab": "base",
    "TabHovered": "hover",
    "TabActive": "panel",
    "TabUnfocused": "base",
    "TabUnfocusedActive": "panel",
    "TabSelected": "panel",
    "TabDimmed": "base",
    "TabDimmedSelected": "panel",
    "TabSelectedOverline": NONE,
    "TabDimmedSelectedOverline": NONE,
    "TitleBg": "base",
    "TitleBgActive": "base",
    "TitleBgCollapsed": "base",
    "ScrollbarBg": NONE,
    "ScrollbarGrab": "hover",
    "ScrollbarGrabHovered": "press",
    "ScrollbarGrabActive": "faint",
    "DockingPreview": "accent@110",
    "DockingEmptyBg": "base",
    "PlotHistogram": "accent",
    "TextSelectedBg": "accent@90",
    "TableBorderLight": "line",
    "TableBorderStrong": "line",
    "TableHeaderBg": NONE,
    "ResizeGrip": NONE,
    "NavCursor": NONE,
}
APP_STYLES: dict[str, Any] = {
    "WindowPadding": (12, 12),
    "FramePadding": (8, 4),
    "ItemSpacing": (8, 6),
    "ItemInnerSpacing": (8, 4),
    "CellPadding": (4, 2),
    "FrameRounding": 4,
    "GrabRounding": 3,
    "TabRounding": 4,
    "PopupRounding": 6,
    "WindowRounding": 6,
    "ChildRounding": 4,
    "ScrollbarRounding": 4,
    "ScrollbarSize": 10,
    "GrabMinSize": 8,
    "WindowBorderSize": 0,
    "ChildBorderSize": 0,
    "PopupBorderSize": 1,
    "FrameBorderSize": "field_border",
    "TabBarOverlineSize": 2,
    "TabBarBorderSize": 0,
    "TabBorderSize": 0,
    "DockingSeparatorSize": 2,
    "WindowMinSize": (16, 16),
}
ALIGN_LEFT, ALIGN_RIGHT = "0.0,0.5", "1.0,0.5"  # strings: shares, not pixels
PLAIN = {"FrameBorderSize": 0, "FramePadding": (0, 4)}


@dataclass(frozen=True)
class Style:
    """One theme as data: colours are tokens, `token@alpha` or RGBA; sizes are logical pixels."""

    colors: dict[str, str | Rgba] = field(default_factory=dict)
    styles: dict[str, Any] = field(default_factory=dict)
    plot_colors: dict[str, str | Rgba] = field(default_factory=dict)
    plot_styles: dict[str, Any] = field(default_factory=dict)


THEMES: dict[str, Style] = {
    "app": Style(APP_COLORS, APP_STYLES),
    "label": Style({**FRAMELESS, "Text": "muted"}, {**PLAIN, "ButtonTextAlign": ALIGN_LEFT}),
    "value": Style({**FRAMELESS, "Text": "text"}, {**PLAIN, "ButtonTextAlign": ALIGN_LEFT}),
    "right": Style({**FRAMELESS, "Text": "muted"}, {**PLAIN, "ButtonTextAlign": ALIGN_RIGHT}),
    "right_value": Style({**FRAMELESS, "Text": "text"}, {**PLAIN, "ButtonTextAlign": ALIGN_RIGHT}),
    "right_warn": Style({**FRAMELESS, "Text": "warn"}, {**PLAIN, "ButtonTextAlign": ALIGN_RIGHT}),
    "muted": Style({"Text": "muted"}),
    "warn": Style({"Text": "warn"}),
    "even": Style({}, {"CellPadding": (4, 0)}),
    "list": Style({}, {"CellPadding": (4, 1)}),
    "grid": Style({}, {"CellPadding": (4, 3)}),
    "tab_front": Style({"TabSelectedOverline": "accent", "TabDimmedSelectedOverline": "accent"}),
    "tab_back": Style({"Text": "muted"}),
    "icon": Style({**QUIET, "Text": "muted"}, PLAIN),
    "on": Style({**PRESSED, "Text": "accent"}, {"FrameBorderSize": 0}),
    "off": Style({"Text": "muted"}),
    "primary": Style(
        {
            "Button": "accent_deep",
            "ButtonHovered": "accent",
            "ButtonActive": "accent",
            "Text": "on_accent",
            "Border": NONE,
        }
    ),
    "row": Style(
        {**QUIET, "Text": "text"},
        {"FrameBorderSize": 0, "FramePadding": (4, 4), "ButtonTextAlign": ALIGN_LEFT},
    ),
    "canvas": Style({"WindowBg": NONE}, {"WindowPadding": (0, 0), "ItemSpacing": (0, 0)}),
    "status": Style({"WindowBg": "base"}, {"WindowPadding": (12, 2), "ItemSpacing": (16, 0)}),
    "menu": Style(
        {"MenuBarBg": "base", "Border": NONE},
        {"FramePadding": (8, 6), "ItemSpacing": (12, 6), "WindowPadding": (8, 8), "FrameBorderSize": 0},
    ),
    "hud": Style({**HUD_BUTTON, "Text": HUD_TEXT}, {"FramePadding": (6, 4), "FrameBorderSize": 0}),
    "hud_on": Style(
        {**HUD_PRESSED, "Text": (150, 198, 255, 255)}, {"FramePadding": (6, 4), "FrameBorderSize": 0}
    ),
    "hud_bar": Style(
        {"ChildBg": HUD_PLATE}, {"WindowPadding": (2, 2), "ChildRounding": 6, "ItemSpacing": (0, 0)}
    ),
    "banner": Style(
        {"ChildBg": (14, 17, 20, 236), "Border": (255, 255, 255, 36), "Text": HUD_TEXT},
        {"WindowPadding": (12, 8), "ChildRounding": 6, "ChildBorderSize": 1},
    ),
    "banner_bad": Style({**FRAMELESS, "Text": (255, 130, 122, 255)}, PLAIN),
    "banner_warn": Style({**FRAMELESS, "Text": HUD_WARN}, PLAIN),
    "banner_info": Style({**FRAMELESS, "Text": HUD_ACCENT}, PLAIN),
    "thin": Style(
        {"FrameBg": "hover", "PlotHistogram": "accent"},
        {"FramePadding": (0, 0), "FrameRounding": 2, "FrameBorderSize": 0},
    ),
    "tip": Style(
        {"PopupBg": "raised", "Border": "line", "Text": "text"}, {"WindowPadding": (8, 6), "PopupRounding": 4}
    ),
    "dialog": Style(
        {
            "WindowBg": "raised",
            "PopupBg": "raised",
            "Border": "line",
            "TitleBg": "raised",
            "TitleBgActive": "raised",
        },
        {"WindowPadding": (16, 16), "WindowBorderSize": 1},
    ),
    "plot": Style(
        {},
        {"FrameBorderSize": 0},
        {
            "PlotBg": "plot",
            "FrameBg": NONE,
            "PlotBorder": "line",
            "AxisText": "muted",
            "AxisGrid": "muted@38",
            "AxisTick": NONE,
        },
        {
            "PlotPadding": (2, 4),
            "LabelPadding": (4, 4),
            "PlotBorderSize": 1,
            "MajorTickLen": (0, 0),
            "MinorTickLen": (0, 0),
            "MinorAlpha": 0,
        },
    ),
    "series": Style({}, {}, {"Line": "accent"}, {"LineWeight": 1.25}),
}


class Look:
    """The colours and sizes in force: everything that draws asks here."""

    def __init__(self, scale: float = 1.0, light: bool = False) -> None:
        self.scale = scale
        self.light = light
        self.fonts: dict[str, int] = {}
        self.themes: dict[str, int] = {}
        self._colors: list[tuple[int, str]] = []  # theme colour items that follow a token
        self._borders: list[int] = []  # theme style items that are 1 pixel in the light theme only

    @property
    def tokens(self) -> Tokens:
        """Colours of the theme in force."""
        return LIGHT if self.light else DARK

    def px(self, value: float) -> int:
        """Turns logical pixels into pixels; every size passes through here."""
        return round(value * self.scale)

    def color(self, name: str, alpha: int | None = None) -> Rgba:
        """Returns a token, or `token@alpha`, as RGBA."""
        token, _, share = name.partition("@")
        digits = getattr(self.tokens, token).lstrip("#")
        red, green, blue, opaque = (int(digits.ljust(8, "f")[i : i + 2], 16) for i in (0, 2, 4, 6))
        return red, green, blue, int(share) if share else opaque if alpha is None else alpha

    def load_fonts(self) -> None:
        """Loads the bundled faces; where that fails Dear PyGui's own small font stays."""
        with dpg.font_registry():
            for role, (face, height) in FACES.items():
                try:
                    self.fonts[role] = dpg.add_font(
                        str(FONT_FOLDER / f"LandmarkUI-{face}.ttf"), self.px(height)
                    )
                except SystemError as error:
                    log.warning(
                        "the font LandmarkUI-%s.ttf does not load: %s", face, error.__cause__ or error
                    )
        if "body" in self.fonts:
            dpg.bind_font(self.fonts["body"])

    def font_height(self, role: str) -> int:
        """Returns the ImGui pixel height of a font role."""
        return self.px(FACES[role][1])

    def build_themes(self) -> None:
        """Makes all themes and binds the one of the window."""
        for name, style in THEMES.items():
            self.themes[name] = self._build(style)
        dpg.bind_theme(self.themes["app"])

    def switch(self, light: bool) -> None:
        """Changes between dark and light while the window stands."""
        self.light = light
        for item, name in self._colors:
            dpg.set_value(item, self.color(name))
        for item in self._borders:
            dpg.set_value(item, [1.0 if light else 0.0, 0.0])
        dpg.set_viewport_clear_color(self.color("panel"))
        self.recolour_base_style()

    def recolour_base_style(self) -> None:
        """Writes the colours into ImGui's own style, for what is drawn before any theme is pushed: dock bars.

        The accessor is exported by the wheel but is no promise; without it they keep a default colour.
        """
        import dearpygui._dearpygui as extension

        try:
            accessor = ctypes.CDLL(extension.__file__)._ZN5ImGui17GetStyleColorVec4Ei
        except (OSError, AttributeError):
            log.info("this build of Dear PyGui hides its style; dock bars keep their default colour")
            return
        accessor.argtypes, accessor.restype = [ctypes.c_int], ctypes.POINTER(ctypes.c_float * 4)
        # Docked windows cover the dock's own ground, or draw on what the window is cleared to.
        for name, value in {**APP_COLORS, "WindowBg": NONE}.items():
            rgba = self.color(value) if isinstance(value, str) else value
            accessor(getattr(dpg, "mvThemeCol_" + name)).contents[:] = [channel / 255 for channel in rgba]

    def _build(self, style: Style) -> int:
        with dpg.theme() as theme, dpg.theme_component(dpg.mvAll):
            for prefix, colors, kind in (
                ("mvThemeCol_", style.colors, dpg.mvThemeCat_Core),
                ("mvPlotCol_", style.plot_colors, dpg.mvThemeCat_Plots),
            ):
                for name, value in colors.items():
                    rgba = self.color(value) if isinstance(value, str) else value
                    item = dpg.add_theme_color(getattr(dpg, prefix + name), rgba, category=kind)
                    if isinstance(value, str):
                        self._colors.append((item, value))
            for prefix, styles, kind in (
                ("mvStyleVar_", style.styles, dpg.mvThemeCat_Core),
                ("mvPlotStyleVar_", style.plot_styles, dpg.mvThemeCat_Plots),
            ):
                for name, value in styles.items():
                    item = dpg.add_theme_style(
                        getattr(dpg, prefix + name), *self._sizes(value), category=kind
                    )
                    if value == "field_border":
                        self._borders.append(item)
        return theme

    def _sizes(self, value: Any) -> Iterator[float]:
        if value == "field_border":
            yield 1.0 if self.light else 0.0
        elif isinstance(value, str):
            yield from (float(share) for share in value.split(","))
        else:
            for size in value if isinstance(value, tuple) else (value,):
                yield size * self.scale if 0 < abs(size) < 2 and size != 1 else self.px(size)


def icon(name: str, text: str = "") -> str:
    """Returns an icon, then text: the icons live in the text font, so a label can hold both."""
    return ICON[name] + ("  " + text if text else "")
