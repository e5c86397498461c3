"""Compiles edit layers in a thread of its own: the newest stack wins, the picture lives on meanwhile.

A stack with a new removal comes twice: as a draft, soon, and then as it is meant.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..core.edits.layers import Remove, Stack, bare
from ..core.errors import InputError
from .events import since_start

if TYPE_CHECKING:
    from ..core.edits.compile import EditCompiler
    from ..core.edits.compiled import CompiledEdits

DRAFT_SECONDS = 0.3  # that the picture of a draft is waited for
KEPT = 8  # stacks that are shown at once when they come back, the last used ones

log = logging.getLogger(__name__)


class EditJob:
    """Keeps what the renderer is given in line with the layers of the state. Used from the main thread."""

    def __init__(self, wake: Callable[[], None]) -> None:
        """`wake` makes the main loop look here again."""
        self._wake = wake
        self._condition = threading.Condition()
        self._compiler: EditCompiler | None = None
        self._wanted: Stack | None = None  # still to be compiled
        self._given: Stack = ()  # what was asked for last
        self._asked: Stack = ()  # the same, bare, as `_settled`
        self._asked_since = 0.0  # seconds since process start
        self._settled: Stack = ()  # that were compiled last, or could not be
        self._kept: OrderedDict[Stack, CompiledEdits | None] = OrderedDict()  # by their bare layers
        self._done: CompiledEdits | None = None
        self._shown: CompiledEdits | None = None
        self._failure: str | None = None
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="edits", daemon=True)
        self._thread.start()

    def open(self, compiler: EditCompiler, compiled: CompiledEdits | None) -> None:
        """Serves another scene from now on, whose layers are compiled already."""
        with self._condition:
            self._compiler, self._done, self._wanted = compiler, compiled, None
            self._given = compiled.layers if compiled else ()
            self._asked = self._settled = bare(self._given)
            self._kept.clear()
            self._keep((), None)
            self._keep(self._asked, compiled)
            self._failure = None

    def ask(self, layers: Stack) -> None:
        """Wants these layers, which are there at once if known; what was asked for before is forgotten."""
        if layers == self._given:
            return
        self._given, wanted = layers, bare(layers)
        with self._condition:
            if wanted == self._asked:
                return
            self._asked, self._asked_since = wanted, since_start()
            if wanted in self._kept:
                self._kept.move_to_end(wanted)
                self._done, self._settled, self._wanted = self._kept[wanted], wanted, None
            else:
                self._wanted = layers
                self._condition.notify_all()

    @property
    def current(self) -> CompiledEdits | None:
        """The newest that is compiled; None: no edits."""
        with self._condition:
            return self._done

    def note_shown(self, compiled: CompiledEdits | None) -> None:
        """These edits are on screen."""
        with self._condition:
            if compiled is not self._shown:
                self._shown = compiled
                self._condition.notify_all()

    @property
    def is_behind(self) -> bool:
        """Whether the newest layers are still being compiled."""
        with self._condition:
            return self._asked != self._settled

    @property
    def seconds_behind(self) -> float:
        """For how long the newest layers have been compiling; 0: they are compiled."""
        return since_start() - self._asked_since if self.is_behind else 0.0

    def take_failure(self) -> str | None:
        """Returns why the last layers could not be compiled, once."""
        with self._condition:
            failure, self._failure = self._failure, None
        return failure

    def close(self, timeout: float = 1.0) -> bool:
        """Ends the thread after what it compiles now; False when it did not end in time."""
        with self._condition:
            self._stopping = True
            self._condition.notify_all()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._is_outdated)
                if self._stopping:
                    return
                layers, self._wanted, compiler = self._wanted, None, self._compiler
            assert layers is not None, "it was waited for"
            assert compiler is not None, "layers are asked for in an open scene"
            failure = None
            try:
                if compiler.has_drafts and self._adds_removal(layers):
                    self._show_draft(compiler, layers)
                compiled = compiler.compile(layers)
            except InputError as error:
                failure = str(error)
            except Exception as error:
                log.exception("compiling the edits failed")
                failure = f"The edits cannot be shown: {str(error) or type(error).__name__}"
            with self._condition:
                if compiler is not self._compiler:
                    continue
                made = bare(layers)
                if failure is None:
                    self._keep(made, compiled)
                    if self._asked != self._settled:
                        self._done, self._settled = compiled, made
                elif made == self._asked:
                    self._failure, self._settled = failure, made
            self._wake()

    @property
    def _is_outdated(self) -> bool:
        return self._stopping or self._wanted is not None

    def _adds_removal(self, layers: Stack) -> bool:
        """Whether a stack removes more than what is shown."""
        with self._condition:
            shown = bare(self._done.layers) if self._done else ()
        return any(isinstance(layer, Remove) and layer not in shown for layer in bare(layers))

    def _show_draft(self, compiler: EditCompiler, layers: Stack) -> None:
        """Lets a draft be shown until the stack itself is compiled."""
        draft = compiler.compile(layers, is_draft=True)
        with self._condition:
            if compiler is not self._compiler or bare(layers) != self._asked:
                return
            self._done = draft
            self._wake()
            # Its picture needs the processor and the interpreter more than what is compiled next.
            self._condition.wait_for(lambda: self._shown is draft or self._is_outdated, DRAFT_SECONDS)

    def _keep(self, layers: Stack, compiled: CompiledEdits | None) -> None:
        self._kept[layers] = compiled
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
