"""The GLFW library inside Dear PyGui's wheel: a probe that cannot abort, waiting for events, polled input.

Dear PyGui itself ends the process when no window can be made, and can only wait for events or spin. Its Linux
wheel exports the GLFW functions, so that both are done here through ctypes.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

VISIBLE, CONTEXT_MAJOR, CONTEXT_MINOR, ICONIFIED = 0x00020004, 0x00022002, 0x00022003, 0x00020002
GL_RENDERER = 0x1F01
KEYS = {  # of keys that are no letters, by Dear PyGui's names; a letter is its position on a US keyboard
    "Spacebar": 32,
    "LeftShift": 340,
    "LeftCtrl": 341,
    "LeftAlt": 342,
    "RightShift": 344,
    "RightCtrl": 345,
    "RightAlt": 346,
}
CONTROL, ALT, SUPER = 2, 4, 8  # GLFW's bits of the keys that make another key a command
RELEASED, PRESSED = 0, 1  # GLFW's words for what a key does
WRITING = range(32, 163)  # GLFW's keys that write a character
KEY_CALLBACK = ctypes.CFUNCTYPE(None, ctypes.c_void_p, *[ctypes.c_int] * 4)
DROP_CALLBACK = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(ctypes.c_char_p))


@dataclass(frozen=True)
class DisplayFacts:
    """What the probe found out; `error` says why no window can be opened."""

    error: str | None = None
    renderer: str = ""  # OpenGL's name of the device that draws the window
    scale: float = 1.0  # pixels per logical pixel
    work_area: tuple[int, ...] = (0, 0, 0, 0)  # left, top, width, height of the free screen; 0: unknown

    @property
    def is_software(self) -> bool:
        """Whether the processor draws the window, not a graphics device."""
        return any(name in self.renderer.lower() for name in ("llvmpipe", "softpipe", "swrast"))


@functools.cache
def library() -> Any:
    """Loads GLFW out of Dear PyGui's extension module and declares the functions used here."""
    import dearpygui._dearpygui as extension

    lib = ctypes.CDLL(extension.__file__)
    pointer, integer, real = ctypes.c_void_p, ctypes.c_int, ctypes.c_double
    out_int, out_float, out_real = (ctypes.POINTER(t) for t in (integer, ctypes.c_float, real))
    signatures: dict[str, tuple[Any, list[Any]]] = {
        "glfwInit": (integer, []),
        "glfwTerminate": (None, []),
        "glfwGetError": (integer, [ctypes.POINTER(ctypes.c_char_p)]),
        "glfwWindowHint": (None, [integer, integer]),
        "glfwCreateWindow": (pointer, [integer, integer, ctypes.c_char_p, pointer, pointer]),
        "glfwDestroyWindow": (None, [pointer]),
        "glfwMakeContextCurrent": (None, [pointer]),
        "glfwGetCurrentContext": (pointer, []),
        "glfwGetProcAddress": (pointer, [ctypes.c_char_p]),
        "glfwGetWindowContentScale": (None, [pointer, out_float, out_float]),
        "glfwGetPrimaryMonitor": (pointer, []),
        "glfwGetMonitorWorkarea": (None, [pointer, out_int, out_int, out_int, out_int]),
        "glfwGetWindowAttrib": (integer, [pointer, integer]),
        "glfwWindowShouldClose": (integer, [pointer]),
        "glfwSetWindowShouldClose": (None, [pointer, integer]),
        "glfwGetCursorPos": (None, [pointer, out_real, out_real]),
        "glfwGetMouseButton": (integer, [pointer, integer]),
        "glfwGetKey": (integer, [pointer, integer]),
        "glfwWaitEventsTimeout": (None, [real]),
        "glfwPostEmptyEvent": (None, []),
        "glfwSetDropCallback": (pointer, [pointer, DROP_CALLBACK]),
        "glfwSetKeyCallback": (KEY_CALLBACK, [pointer, KEY_CALLBACK]),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    return lib


@functools.cache
def probe() -> DisplayFacts:
    """Opens an invisible window and closes it again; must run before Dear PyGui shows its own."""
    try:
        lib = library()
    except ImportError as error:
        return DisplayFacts(f"the window library does not load: {error}")
    except AttributeError as error:
        return DisplayFacts(f"this build of Dear PyGui lacks a function that the window needs ({error})")
    if not lib.glfwInit():
        return DisplayFacts(_last_error(lib))
    try:
        return _probe_window(lib)
    finally:
        lib.glfwTerminate()


def _probe_window(lib: Any) -> DisplayFacts:
    lib.glfwWindowHint(VISIBLE, 0)
    lib.glfwWindowHint(CONTEXT_MAJOR, 3)
    lib.glfwWindowHint(CONTEXT_MINOR, 0)
    window = lib.glfwCreateWindow(64, 64, b"probe", None, None)
    if not window:
        return DisplayFacts(_last_error(lib))
    lib.glfwMakeContextCurrent(window)
    address = lib.glfwGetProcAddress(b"glGetString")
    if not address:
        return DisplayFacts("OpenGL has no glGetString")
    renderer = ctypes.CFUNCTYPE(ctypes.c_char_p, ctypes.c_uint)(address)(GL_RENDERER) or b""
    scale = ctypes.c_float(1.0)
    lib.glfwGetWindowContentScale(window, ctypes.byref(scale), None)
    area = (ctypes.c_int * 4)()
    if monitor := lib.glfwGetPrimaryMonitor():
        at = [ctypes.cast(ctypes.addressof(area) + 4 * i, ctypes.POINTER(ctypes.c_int)) for i in range(4)]
        lib.glfwGetMonitorWorkarea(monitor, *at)
    lib.glfwDestroyWindow(window)
    return DisplayFacts(None, renderer.decode(errors="replace"), float(scale.value), tuple(area))


def _last_error(lib: Any) -> str:
    text = ctypes.c_char_p()
    lib.glfwGetError(ctypes.byref(text))
    return text.value.decode(errors="replace").strip() if text.value else "GLFW gives no reason"


def wake() -> None:
    """Ends the wait of the main loop; any thread may call it."""
    library().glfwPostEmptyEvent()


_CALLBACKS: list[Any] = []  # GLFW may call them for as long as the process lives


class Window:
    """The window whose OpenGL context is current: that of Dear PyGui, once its viewport is shown."""

    def __init__(self) -> None:
        self._lib = library()
        self._handle = self._lib.glfwGetCurrentContext()
        self._drop: Any = None  # keeps the callback alive
        self.is_typing = False  # a field has the keyboard
        self._chords: set[int] = set()  # keys that went down while Ctrl was held
        self._written: set[int] = set()  # keys that are down of which Dear PyGui knows the character only
        self._watch_keys()

    def _watch_keys(self) -> None:
        """Looks at every key before Dear PyGui does: a slow loop may see it only after Ctrl is up again."""

        def changed(window: Any, key: int, scancode: int, action: int, modifiers: int) -> None:
            if action == PRESSED:
                (self._chords.add if modifiers & CONTROL else self._chords.discard)(key)
            if before and not self._only_writes(key, action, modifiers):
                before(window, key, scancode, action, modifiers)

        callback = KEY_CALLBACK(changed)
        before = self._lib.glfwSetKeyCallback(self._handle, callback)
        _CALLBACKS.append(callback)

    def _only_writes(self, key: int, action: int, modifiers: int) -> bool:
        """Whether nothing but the character of a key matters, which GLFW tells separately.

        ImGui takes in all characters that wait at once, but of keys that go down and up one a drawing.
        """
        if action == RELEASED and key in self._written:
            self._written.remove(key)
            return True
        if not self.is_typing or action == RELEASED or modifiers & (CONTROL | ALT | SUPER):
            return False
        if key in WRITING:
            self._written.add(key)
        return key in WRITING

    def wait(self, seconds: float) -> None:
        """Sleeps until an event arrives, `wake` is called, or the time is over."""
        self._lib.glfwWaitEventsTimeout(max(seconds, 1e-4))

    @property
    def cursor(self) -> tuple[float, float]:
        """Pointer position in pixels from the top left corner of the window."""
        x, y = ctypes.c_double(), ctypes.c_double()
        self._lib.glfwGetCursorPos(self._handle, ctypes.byref(x), ctypes.byref(y))
        return x.value, y.value

    def is_button_down(self, button: int) -> bool:
        """Whether a mouse button is held: 0 left, 1 right, 2 middle."""
        return bool(self._lib.glfwGetMouseButton(self._handle, button))

    def is_key_down(self, name: str) -> bool:
        """Whether a key is held, by its position: "W", "Spacebar", "LeftShift"."""
        return bool(self._lib.glfwGetKey(self._handle, KEYS.get(name) or ord(name)))

    def is_chord(self, name: str) -> bool:
        """Whether a key went down last while Ctrl was held."""
        return (KEYS.get(name) or ord(name)) in self._chords

    @property
    def is_minimised(self) -> bool:
        """Whether the window is an icon; Dear PyGui would block in this state."""
        return bool(self._lib.glfwGetWindowAttrib(self._handle, ICONIFIED))

    @property
    def should_close(self) -> bool:
        """Whether the user asked to close the window."""
        return bool(self._lib.glfwWindowShouldClose(self._handle))

    def keep_open(self) -> None:
        """Takes the wish to close back."""
        self._lib.glfwSetWindowShouldClose(self._handle, 0)

    def on_drop(self, receive: Callable[[list[Path]], None]) -> None:
        """Calls `receive` with the files that are dropped on the window."""

        def dropped(_window: Any, count: int, names: Any) -> None:
            receive([Path(names[i].decode(errors="surrogateescape")) for i in range(count)])

        self._drop = DROP_CALLBACK(dropped)
        self._lib.glfwSetDropCallback(self._handle, self._drop)
