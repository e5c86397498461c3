"""Drives the viewer's window as a person would: xdotool's mouse and keys; event log and pixels answer."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import psutil
from PIL import ImageGrab

Event = dict[str, Any]
Answer = TypeVar("Answer")
Point = tuple[int, int]

PAUSE = 0.03  # seconds between two steps of a gesture: what a hand does, and more than a frame
QUIET = 0.2  # seconds without an event after which nothing that a hand has done is still to arrive


@contextmanager
def virtual_display(width: int, height: int) -> Iterator[str]:
    """Starts Xvfb on a free display number, yields it as DISPLAY wants it, and ends the server.

    Keys do not repeat there: on a busy machine one is released late, and would be typed twice.
    """
    reader, writer = os.pipe()
    screen = f"{width}x{height}x24"
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", str(writer), "-screen", "0", screen, "-nolisten", "tcp", "-noreset", "-r"],
        pass_fds=[writer],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(writer)
    try:
        with os.fdopen(reader) as pipe:
            number = pipe.readline().strip()
        if not number:
            raise RuntimeError("Xvfb must start and name its display, it ended instead")
        yield f":{number}"
    finally:
        server.terminate()
        server.wait(10)


def wait_for(condition: Callable[[], Answer | None], what: str, seconds: float = 30) -> Answer:
    """Returns the first true answer of `condition`, or raises after `seconds`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        answer = condition()
        if answer:
            return answer
        time.sleep(0.02)
    raise TimeoutError(f"waited {seconds:g} s for {what}")


class Window:
    """One process of the viewer on a virtual display, with settings of its own.

    Gestures are relative to the viewport, the part of the window that shows the scene: (0, 0) is its upper
    left corner, (1, 1) its lower right one.
    """

    def __init__(
        self, display: str, folder: Path, *arguments: str, environment: dict[str, str] | None = None
    ):
        """Starts `landmark-viewer` with these arguments; `folder` takes event log, settings and output."""
        folder.mkdir(parents=True, exist_ok=True)
        self.display = display
        self.folder = folder
        self._log = folder / "events.jsonl"
        self._log.unlink(missing_ok=True)
        self._errors = folder / "stderr.txt"
        self._environment = {
            **os.environ,
            "DISPLAY": display,
            "LANDMARK_VIEWER_CONFIG": str(folder / "config"),
            "XDG_CONFIG_HOME": str(folder / "config"),
            "XDG_STATE_HOME": str(folder / "state"),
            "XDG_PICTURES_DIR": str(folder / "pictures"),
            **(environment or {}),
        }
        command = [sys.executable, "-m", "landmark_viewer.viewer.cli", *arguments]
        with self._errors.open("w") as errors:
            self.process = subprocess.Popen(
                [*command, "--event-log", str(self._log)],
                cwd=folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
            )
        self._usage = psutil.Process(self.process.pid)

    def __enter__(self) -> Window:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait(10)

    # What the window says

    @property
    def errors(self) -> str:
        """What it wrote to standard output and error."""
        return self._errors.read_text()

    def events(self, name: str | None = None, since: int = 0) -> list[Event]:
        """Returns the events from number `since` on, all of them or those of one name."""
        lines = self._log.read_text().split("\n")[:-1] if self._log.exists() else []
        read = [json.loads(line) for line in lines[since:]]
        return [event for event in read if name is None or event["event"] == name]

    def mark(self) -> int:
        """Returns the number that the next event will have."""
        return len(self.events())

    def wait(self, name: str, /, since: int = 0, seconds: float = 30, **fields: Any) -> Event:
        """Waits for an event of this name with these fields and returns it."""

        def found() -> Event | None:
            if self.process.poll() is not None and name != "closed":
                raise RuntimeError(f"the viewer ended with {self.process.returncode}:\n{self.errors}")
            for event in self.events(name, since):
                if all(event.get(key) == value for key, value in fields.items()):
                    return event
            return None

        try:
            return wait_for(found, f"{name} {fields or ''}", seconds)
        except TimeoutError as error:
            raise TimeoutError(
                f"{error}; the last events: {self.events(since=since)[-8:]}\n{self.errors}"
            ) from None

    def wait_still(self, since: int = 0, after: str = "input", seconds: float = 90) -> Event:
        """Waits for an event `after`, then until nothing is under way; returns the last picture."""
        self.wait(after, since, seconds)

        def is_still() -> bool:
            seen = [event["event"] for event in self.events()]
            if [name for name in seen if name != "prepared"][-1] != "idle":
                return False
            time.sleep(QUIET)
            return self.mark() == len(seen)

        wait_for(is_still, "the picture to be finished", seconds)
        return self.events("picture")[-1]

    # What a hand does

    def xdotool(self, *arguments: object) -> None:
        """Runs one xdotool command line on the display."""
        subprocess.run(["xdotool", *map(str, arguments)], env=self._environment, check=True)

    def rect(self, item: str = "viewport") -> tuple[int, int, int, int]:
        """Returns left, top, width and height of a part of the window on the screen, in pixels."""
        left, top, width, height = [event for event in self.events() if "rects" in event][-1]["rects"][item]
        return int(left), int(top), int(width), int(height)

    def at(self, x: float, y: float, item: str = "viewport") -> Point:
        """Returns a point of the screen for shares of a part of the window."""
        left, top, width, height = self.rect(item)
        return round(left + x * width), round(top + y * height)

    def move(self, x: float = 0.5, y: float = 0.5) -> None:
        """Moves the mouse over the viewport."""
        self.xdotool("mousemove", *self.at(x, y), "sleep", 3 * PAUSE)

    def click(self, item: str, x: float = 0.5, y: float = 0.5) -> None:
        """Clicks on a part of the window."""
        self.xdotool("mousemove", *self.at(x, y, item), "sleep", 3 * PAUSE, "click", 1, "sleep", PAUSE)

    def double_click(self, x: float, y: float) -> None:
        """Double-clicks in the viewport."""
        self.move(x, y)
        self.xdotool("click", "--repeat", 2, "--delay", 80, 1)

    def drag(
        self,
        start: tuple[float, float],
        end: tuple[float, float],
        steps: int = 8,
        button: int = 1,
        pause: float = PAUSE,
    ) -> None:
        """Drags over the viewport in small steps, `pause` seconds apart."""
        (x0, y0), (x1, y1) = self.at(*start), self.at(*end)
        path: list[object] = []
        for step in range(1, steps + 1):
            share = step / steps
            path += [
                "mousemove",
                round(x0 + share * (x1 - x0)),
                round(y0 + share * (y1 - y0)),
                "sleep",
                pause,
            ]
        self.xdotool("mousemove", x0, y0, "sleep", 3 * PAUSE, "mousedown", button, "sleep", 2 * PAUSE, *path)
        self.xdotool("sleep", 2 * PAUSE, "mouseup", button)

    def wheel(self, clicks: int) -> None:
        """Turns the wheel over the middle of the viewport: away from the hand for positive numbers."""
        self.move()
        self.xdotool("click", "--repeat", abs(clicks), "--delay", 60, 4 if clicks > 0 else 5)

    def key(self, *keys: str) -> None:
        """Presses keys or chords one after another, as xdotool names them: F6, ctrl+o."""
        for key in keys:
            self.xdotool("key", "--delay", 40, key, "sleep", PAUSE)

    def hold(self, key: str, seconds: float) -> None:
        """Holds one key for a while."""
        self.xdotool("keydown", key, "sleep", seconds, "keyup", key)

    def type(self, text: str) -> None:
        """Types into the field that has the focus."""
        self.xdotool("type", "--delay", 25, "--", text)

    def answer(self, chord: str, path: str) -> None:
        """Opens a dialog that asks for a path, and types one once the field has had time for the focus.

        What stands in the field is selected then, so that typing replaces it.
        """
        before, began = self.screenshot(), time.monotonic()
        self.key(chord)
        wait_for(lambda: difference(before, self.screenshot()) > 0.02, "the dialog")
        time.sleep(max(10 * PAUSE, 2 * (time.monotonic() - began)))  # some frames, however slow they are
        self.type(path)
        self.key("Return")

    def resize(self, width: int, height: int) -> None:
        """Gives the window another size in pixels."""
        with self._x_window() as (_, window):
            window.configure(width=width, height=height)

    def close(self, seconds: float = 5) -> int:
        """Asks the window to close, as its close button does, and returns the exit code."""
        from Xlib import X
        from Xlib.protocol.event import ClientMessage

        with self._x_window() as (server, window):
            protocols, delete = map(server.intern_atom, ("WM_PROTOCOLS", "WM_DELETE_WINDOW"))
            data = (32, [delete, X.CurrentTime, 0, 0, 0])
            window.send_event(ClientMessage(window=window, client_type=protocols, data=data))
        return self.process.wait(seconds)

    @contextmanager
    def _x_window(self) -> Iterator[tuple[Any, Any]]:
        """Yields the connection to the X server and this process's window on it."""
        from Xlib import X
        from Xlib.display import Display

        server = Display(self.display)
        try:
            owner = server.intern_atom("_NET_WM_PID")
            for window in server.screen().root.query_tree().children:
                pid = window.get_full_property(owner, X.AnyPropertyType)
                if pid is not None and pid.value[0] == self.process.pid:
                    yield server, window
                    server.sync()
                    return
            raise RuntimeError("the viewer must have a window on the display, it has none")
        finally:
            server.close()

    # What an eye and a meter see

    def screenshot(self) -> np.ndarray:
        """Returns the pixels of the whole screen. uint8 [height, width, 3]"""
        return np.asarray(ImageGrab.grab(xdisplay=self.display).convert("RGB"))

    def picture(self) -> np.ndarray:
        """Returns the pixels of the viewport. uint8 [height, width, 3]"""
        left, top, width, height = self.rect()
        return self.screenshot()[top : top + height, left : left + width]

    def cpu_seconds(self) -> float:
        """Returns the processor time that the process has used."""
        used = self._usage.cpu_times()
        return used.user + used.system

    def memory(self) -> int:
        """Returns the resident memory in bytes."""
        return self._usage.memory_info().rss


def difference(before: np.ndarray, after: np.ndarray) -> float:
    """Returns the share of pixels that differ visibly between two pictures of one size."""
    return float((np.abs(before.astype(int) - after.astype(int)).max(axis=-1) > 16).mean())
