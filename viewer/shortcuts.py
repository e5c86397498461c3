"""The table of keys and mouse gestures, as data: dispatch, help window and README are all drawn from it.

A key name is a Dear PyGui constant without its prefix: "W" is mvKey_W, "NumPad7" is mvKey_NumPad7. The two
rows with "Shift" and "Alt" name modifiers, which the app reads itself.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import Enum

from . import commands
from .commands import Command
from .state import Handle, Mode

FASTER = 1.25  # one press of the speed keys


class Action(str, Enum):
    """What a key or a mouse gesture asks for."""

    FORWARD = "forward"
    BACKWARD = "backward"
    LEFT = "left"
    RIGHT = "right"
    UP = "up"
    DOWN = "down"
    FAST = "fast"
    SLOW = "slow"
    FASTER = "faster"
    SLOWER = "slower"
    TURN = "turn"
    ORBIT = "orbit"
    PAN = "pan"
    PAN_VIEW = "pan view"
    ZOOM = "zoom"
    DOLLY = "dolly"
    NAVIGATION = "navigation"
    FOCUS = "focus"
    HOME = "home"
    TOP_DOWN = "top down"
    NORTH_UP = "north up"
    COLOR = "colour"
    DEPTH = "depth"
    OPACITY = "opacity"
    NORMALS = "normals"
    BLOCKS = "blocks"
    BLOCK_BORDERS = "block borders"
    MAP_SELECT = "map select"
    MAP_FLY = "map fly"
    MAP_MENU = "map menu"
    MAP_ZOOM = "map zoom"
    MAP_PAN = "map pan"
    INTERFACE = "interface"
    HELP = "help"
    SCREENSHOT = "screenshot"
    DISMISS = "dismiss"
    OPEN = "open"
    UNDO = "undo"
    REDO = "redo"
    SAVE = "save"
    SAVE_AS = "save as"
    EDITS = "edits"
    SELECT_BUILDING = "select building"
    SELECT_RECTANGLE = "select rectangle"
    SELECT_POLYGON = "select polygon"
    MEASURE = "measure"
    CONFIRM = "confirm"
    TAKE_BACK = "take back"
    ADD = "add"
    SUBTRACT = "subtract"
    INVERT = "invert"
    REMOVE = "remove"
    HIDE = "hide"
    UNHIDE = "unhide"
    COPY = "copy"
    PASTE = "paste"
    DUPLICATE = "duplicate"
    MOVE = "move"
    ROTATE = "rotate"
    SCALE = "scale"


class Trigger(str, Enum):
    """How an action starts."""

    PRESS = "press"  # once, when the key goes down
    HOLD = "hold"  # for as long as the key is down
    MOUSE = "mouse"  # a mouse gesture over the picture or the map


class Section(str, Enum):
    """Headings of the table."""

    MOUSE = "Mouse"
    FLY = "Fly"
    VIEW = "View"
    PICTURE = "Picture"
    BLOCKS = "Map of blocks"
    EDIT = "Edit"
    PROGRAM = "Program"


@dataclass(frozen=True)
class Chord:
    """A key with the modifiers that must be held with it."""

    key: str
    ctrl: bool = False
    shift: bool = False

    @property
    def text(self) -> str:
        """How the chord is written: "Ctrl+Shift+Z"."""
        parts = ["Ctrl"] * self.ctrl + ["Shift"] * self.shift + [KEY_TEXT.get(self.key, self.key)]
        return "+".join(parts)


@dataclass(frozen=True)
class Shortcut:
    """One row of the table."""

    action: Action
    section: Section
    what: str  # what it does, as the help says it
    trigger: Trigger
    chords: tuple[Chord, ...] = ()
    mouse: tuple[str, ...] = ()  # gestures as the help says them

    @property
    def keys(self) -> str:
        """All ways to ask for it: "E or Space"."""
        return " or ".join([chord.text for chord in self.chords] + list(self.mouse))


KEY_TEXT = {
    "Spacebar": "Space",
    "Plus": "=",
    "Add": "Numpad +",
    "Minus": "-",
    "Subtract": "Numpad -",
    "NumPad7": "Numpad 7",
    "Escape": "Esc",
    "Delete": "Del",
    "Back": "Backspace",
    "Return": "Enter",
}


def _press(
    action: Action, section: Section, what: str, *chords: Chord, mouse: tuple[str, ...] = ()
) -> Shortcut:
    return Shortcut(action, section, what, Trigger.PRESS, chords, mouse)


def _hold(action: Action, what: str, *keys: str) -> Shortcut:
    return Shortcut(action, Section.FLY, what, Trigger.HOLD, tuple(Chord(key) for key in keys))


def _mouse(action: Action, what: str, *gestures: str, section: Section = Section.MOUSE) -> Shortcut:
    return Shortcut(action, section, what, Trigger.MOUSE, mouse=gestures)


SHORTCUTS: tuple[Shortcut, ...] = (
    _mouse(Action.TURN, "Orbit about the pivot, or look around when flying", "Left drag"),
    _mouse(Action.ORBIT, "Orbit about the pivot", "Middle drag"),
    _mouse(Action.PAN, "Pan: what is under the cursor stays under it", "Right drag"),
    _mouse(Action.PAN_VIEW, "Pan in the plane of the pivot", "Shift+Middle drag"),
    _mouse(Action.ZOOM, "Change the field of view", "Ctrl+Middle drag"),
    _mouse(Action.DOLLY, "Move to the point under the cursor, or away from it", "Wheel"),
    _hold(Action.FORWARD, "Fly forward", "W"),
    _hold(Action.LEFT, "Fly left", "A"),
    _hold(Action.BACKWARD, "Fly backward", "S"),
    _hold(Action.RIGHT, "Fly right", "D"),
    _hold(Action.UP, "Fly up", "E", "Spacebar"),
    _hold(Action.DOWN, "Fly down", "Q", "C"),
    _hold(Action.FAST, "Fly 5 times as fast while held", "Shift"),
    _hold(Action.SLOW, "Fly 5 times as slowly while held", "Alt"),
    _press(Action.FASTER, Section.FLY, "Raise the flying speed", Chord("Plus"), Chord("Add")),
    _press(Action.SLOWER, Section.FLY, "Lower the flying speed", Chord("Minus"), Chord("Subtract")),
    _press(
        Action.NAVIGATION, Section.VIEW, "Orbit or fly; the first W, A, S or D also enters fly", Chord("V")
    ),
    _press(
        Action.FOCUS, Section.VIEW, "Focus on the point under the cursor", Chord("F"), mouse=("Double-click",)
    ),
    _press(Action.HOME, Section.VIEW, "Return to the first view", Chord("Home")),
    _press(Action.TOP_DOWN, Section.VIEW, "Look straight down", Chord("NumPad7")),
    _press(Action.NORTH_UP, Section.VIEW, "Turn to the north", Chord("N")),
    _press(Action.COLOR, Section.PICTURE, "Show colour", Chord("F5")),
    _press(Action.DEPTH, Section.PICTURE, "Show depth", Chord("F6")),
    _press(Action.OPACITY, Section.PICTURE, "Show opacity", Chord("F7")),
    _press(Action.NORMALS, Section.PICTURE, "Show normals", Chord("F8")),
    _press(Action.BLOCKS, Section.PICTURE, "Show blocks", Chord("F9")),
    _press(Action.EDITS, Section.PICTURE, "Show what is edited", Chord("F10")),
    _press(Action.BLOCK_BORDERS, Section.PICTURE, "Show or hide the borders of the blocks", Chord("B")),
    _mouse(Action.MAP_SELECT, "Select a block", "Click in the map", section=Section.BLOCKS),
    _mouse(Action.MAP_FLY, "Fly to a block", "Double-click in the map", section=Section.BLOCKS),
    _mouse(
        Action.MAP_MENU,
        "Pin, evict, reload, isolate, hide or replace a block",
        "Right-click in the map",
        section=Section.BLOCKS,
    ),
    _mouse(Action.MAP_ZOOM, "Enlarge the map", "Wheel over the map", section=Section.BLOCKS),
    _mouse(Action.MAP_PAN, "Move the map", "Right or middle drag in the map", section=Section.BLOCKS),
    _press(Action.SELECT_BUILDING, Section.EDIT, "Select a building by a click", Chord("G")),
    _press(Action.SELECT_RECTANGLE, Section.EDIT, "Select a rectangle on the ground by a drag", Chord("R")),
    _press(Action.SELECT_POLYGON, Section.EDIT, "Select a polygon on the ground by clicks", Chord("P")),
    _mouse(Action.ADD, "Add what is clicked or drawn to the selection", "Shift+Click", section=Section.EDIT),
    _mouse(Action.SUBTRACT, "Take it out of the selection", "Ctrl+Click", section=Section.EDIT),
    _press(Action.MEASURE, Section.EDIT, "Measure a distance by two clicks", Chord("M")),
    _press(Action.CONFIRM, Section.EDIT, "Close the outline or end the line", Chord("Return")),
    _press(Action.TAKE_BACK, Section.EDIT, "Take the last corner back", Chord("Back")),
    _press(Action.INVERT, Section.EDIT, "Select the rest of the scene", Chord("I", ctrl=True)),
    _press(Action.REMOVE, Section.EDIT, "Remove what is selected", Chord("Delete")),
    _press(Action.HIDE, Section.EDIT, "Hide what is selected", Chord("H")),
    _press(Action.UNHIDE, Section.EDIT, "Show all that is hidden", Chord("H", shift=True)),
    _press(Action.COPY, Section.EDIT, "Copy what is selected", Chord("C", ctrl=True)),
    _press(Action.PASTE, Section.EDIT, "Put the copy under the pointer", Chord("V", ctrl=True)),
    _press(Action.DUPLICATE, Section.EDIT, "Put a copy beside what is selected", Chord("D", ctrl=True)),
    _press(Action.MOVE, Section.EDIT, "Handles that move a placed copy", Chord("1")),
    _press(Action.ROTATE, Section.EDIT, "Handle that turns a placed copy", Chord("2")),
    _press(Action.SCALE, Section.EDIT, "Handle that scales a placed copy", Chord("3")),
    _press(Action.INTERFACE, Section.PROGRAM, "Hide or show the panels", Chord("Tab")),
    _press(Action.HELP, Section.PROGRAM, "Show or hide this help", Chord("F1")),
    _press(Action.SCREENSHOT, Section.PROGRAM, "Save the picture", Chord("F12")),
    _press(Action.DISMISS, Section.PROGRAM, "Leave the outline, tool, message or selection", Chord("Escape")),
    _press(Action.OPEN, Section.PROGRAM, "Open a scene", Chord("O", ctrl=True)),
    _press(Action.SAVE, Section.PROGRAM, "Save the scene", Chord("S", ctrl=True)),
    _press(
        Action.SAVE_AS, Section.PROGRAM, "Save the scene under a new name", Chord("S", ctrl=True, shift=True)
    ),
    _press(Action.UNDO, Section.PROGRAM, "Undo, camera moves included", Chord("Z", ctrl=True)),
    _press(Action.REDO, Section.PROGRAM, "Redo", Chord("Z", ctrl=True, shift=True), Chord("Y", ctrl=True)),
)

# Actions that are one fixed command.
COMMAND_OF: Mapping[Action, Command] = {
    Action.FASTER: commands.ChangeSpeed(FASTER),
    Action.SLOWER: commands.ChangeSpeed(1 / FASTER),
    Action.NAVIGATION: commands.ToggleNavigation(),
    Action.HOME: commands.Home(),
    Action.TOP_DOWN: commands.TopDown(),
    Action.NORTH_UP: commands.NorthUp(),
    Action.COLOR: commands.SetMode(Mode.COLOR),
    Action.DEPTH: commands.SetMode(Mode.DEPTH),
    Action.OPACITY: commands.SetMode(Mode.OPACITY),
    Action.NORMALS: commands.SetMode(Mode.NORMALS),
    Action.BLOCKS: commands.SetMode(Mode.BLOCKS),
    Action.EDITS: commands.SetMode(Mode.EDITS),
    Action.BLOCK_BORDERS: commands.ToggleBlockBorders(),
    Action.INTERFACE: commands.ToggleInterface(),
    Action.HELP: commands.ToggleHelp(),
    Action.INVERT: commands.InvertSelection(),
    Action.REMOVE: commands.RemoveSelection(),
    Action.HIDE: commands.HideSelection(),
    Action.UNHIDE: commands.UnhideAll(),
    Action.MOVE: commands.SetHandle(Handle.MOVE),
    Action.ROTATE: commands.SetHandle(Handle.ROTATE),
    Action.SCALE: commands.SetHandle(Handle.SCALE),
    Action.DISMISS: commands.DismissMessage(),
}

# Actions that depend on the tool in hand and the place of the pointer; DISMISS is theirs first.
TOOL_ACTIONS = frozenset(
    {
        Action.SELECT_BUILDING,
        Action.SELECT_RECTANGLE,
        Action.SELECT_POLYGON,
        Action.MEASURE,
        Action.CONFIRM,
        Action.TAKE_BACK,
        Action.COPY,
        Action.PASTE,
        Action.DUPLICATE,
    }
)

# Actions that need the program itself: a picked point, a dialog, the history.
APP_ACTIONS = frozenset(
    {
        Action.FOCUS,
        Action.SCREENSHOT,
        Action.OPEN,
        Action.SAVE,
        Action.SAVE_AS,
        Action.UNDO,
        Action.REDO,
    }
)

# What a held key adds to the flight: right, up, forward.
AXIS_OF: Mapping[Action, tuple[int, int, int]] = {
    Action.RIGHT: (1, 0, 0),
    Action.LEFT: (-1, 0, 0),
    Action.UP: (0, 1, 0),
    Action.DOWN: (0, -1, 0),
    Action.FORWARD: (0, 0, 1),
    Action.BACKWARD: (0, 0, -1),
}

_PRESSED = {chord: row.action for row in SHORTCUTS if row.trigger is Trigger.PRESS for chord in row.chords}
_HELD = {chord.key: row.action for row in SHORTCUTS if row.trigger is Trigger.HOLD for chord in row.chords}

PRESS_KEYS = tuple(sorted({chord.key for chord in _PRESSED}))  # the app watches these for presses
FLY_KEYS = tuple(
    sorted(key for key, action in _HELD.items() if action in AXIS_OF)
)  # and these for being down


def action_for(key: str, ctrl: bool = False, shift: bool = False) -> Action | None:
    """Returns what a key press asks for; a Shift that no row names is ignored (it is held for speed)."""
    exact = _PRESSED.get(Chord(key, ctrl, shift))
    return exact or _PRESSED.get(Chord(key, ctrl))


def fly_axes(down: Collection[str], ctrl: bool = False) -> tuple[float, float, float]:
    """Returns right, up and forward in [-1, 1] for the keys that are down; none with Ctrl."""
    if ctrl:
        return 0.0, 0.0, 0.0
    actions = {_HELD[key] for key in down if key in _HELD}
    right, up, forward = (
        float(sum(AXIS_OF[action][axis] for action in actions if action in AXIS_OF)) for axis in range(3)
    )
    return right, up, forward


def keys_of(action: Action) -> str:
    """Returns the keys of an action as tooltips and menus show them, "" for none."""
    return next((row.keys for row in SHORTCUTS if row.action is action), "")


def markdown_table() -> str:
    """Returns the table that the README shows."""
    rows = [f"| {row.what} | {row.keys} |" for row in SHORTCUTS]
    return "\n".join(["| action | keys |", "|---|---|", *rows])
