"""Edits are compiled in a thread: the newest wins, a failure is told once, another scene starts afresh."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest

from landmark_viewer.core.edits.layers import Hide, Prism, Remove
from landmark_viewer.core.edits.region import Region
from landmark_viewer.core.errors import InputError
from landmark_viewer.viewer.edit_job import KEPT, EditJob

A, B, C = (Hide(uid, name, prism=Prism(Region(), high=uid)) for uid, name in enumerate("abc", 1))


class Compiler:
    """Compiles when it is let, and remembers what."""

    def __init__(self, error: Exception | None = None, has_drafts: bool = False):
        self.free = threading.Semaphore(0)
        self.compiled: list[tuple] = []
        self.error = error
        self.has_drafts = has_drafts

    def compile(self, layers, is_draft=False):
        if is_draft:
            return SimpleNamespace(layers=layers, is_draft=True)
        self.compiled.append(layers)
        assert self.free.acquire(timeout=20)
        if self.error is not None and layers:
            raise self.error
        return SimpleNamespace(layers=layers) if layers else None


@pytest.fixture
def job():
    made = EditJob(lambda: None)
    yield made
    made.close()


def wait(condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.001)


def test_what_was_asked_for_last_is_compiled_and_what_came_between_is_not(job):
    compiler = Compiler()
    job.open(compiler, None)
    job.ask((A,))
    wait(lambda: compiler.compiled)
    job.ask((A, B))
    job.ask((A, B, C))
    assert job.is_behind
    assert job.seconds_behind > 0
    compiler.free.release(2)
    wait(lambda: not job.is_behind)
    assert compiler.compiled == [(A,), (A, B, C)]
    assert job.current.layers == (A, B, C)
    assert job.seconds_behind == 0


def test_a_new_removal_is_shown_as_a_draft_first(job):
    compiler = Compiler(has_drafts=True)
    job.open(compiler, None)
    removal = Remove(4, prism=A.prism)
    job.ask((A, removal))
    wait(lambda: job.current is not None)
    assert job.current.is_draft
    assert not compiler.compiled, "the picture of the draft goes first"
    assert job.is_behind
    job.note_shown(job.current)
    compiler.free.release()
    wait(lambda: not job.is_behind)
    assert not hasattr(job.current, "is_draft")
    job.ask((removal,))
    wait(lambda: len(compiler.compiled) == 2)
    assert not hasattr(job.current, "is_draft"), "what is shown already needs no draft"
    compiler.free.release()


def test_the_last_edits_stay_until_the_next_are_ready(job):
    compiler = Compiler()
    job.open(compiler, SimpleNamespace(layers=(A,)))
    job.ask((A,))
    assert not job.is_behind
    job.ask((B,))
    wait(lambda: compiler.compiled)
    assert job.current.layers == (A,)
    compiler.free.release()
    wait(lambda: not job.is_behind)
    assert job.current.layers == (B,)


def test_no_layers_mean_no_edits(job):
    compiler = Compiler()
    compiler.free.release()
    job.open(compiler, SimpleNamespace(layers=(A,)))
    job.ask(())
    wait(lambda: not job.is_behind)
    assert job.current is None


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (InputError("Shed: nothing stands there"), "Shed: nothing stands there"),
        (ValueError("odd"), "The edits cannot be shown: odd"),
        (NotImplementedError(), "The edits cannot be shown: NotImplementedError"),
    ],
)
def test_a_failure_is_told_once_and_the_work_is_over(job, error, sentence):
    compiler = Compiler(error)
    compiler.free.release(2)
    job.open(compiler, None)
    job.ask((A,))
    wait(lambda: not job.is_behind)
    assert job.take_failure() == sentence
    assert job.take_failure() is None
    assert not job.is_behind
    job.ask(())
    wait(lambda: not job.is_behind)
    assert job.take_failure() is None


def test_what_was_compiled_for_another_scene_is_dropped(job):
    old, new = Compiler(), Compiler()
    job.open(old, None)
    job.ask((A,))
    wait(lambda: old.compiled)
    job.open(new, SimpleNamespace(layers=(B,)))
    old.free.release()
    new.free.release()
    job.ask((C,))
    wait(lambda: not job.is_behind)
    assert job.current.layers == (C,)
    assert new.compiled == [(C,)]


def test_it_ends_after_what_it_compiles_and_begins_nothing_new(job):
    compiler = Compiler()
    job.open(compiler, None)
    job.ask((A,))
    wait(lambda: compiler.compiled)
    job.ask((B,))
    assert not job.close(0.01)
    compiler.free.release()
    assert job.close(10)
    assert compiler.compiled == [(A,)]


def test_what_changes_nothing_in_the_picture_is_not_compiled_again(job):
    compiler = Compiler()
    job.open(compiler, SimpleNamespace(layers=(A, B)))
    shown = job.current
    job.ask((replace(A, name="Shed"), replace(B, uid=9, locked=True)))
    assert not job.is_behind
    assert job.current is shown
    assert compiler.compiled == []


def test_layers_that_come_back_are_there_at_once(job):
    compiler = Compiler()
    job.open(compiler, None)
    for layers in ((A,), (A, B)):
        compiler.free.release()
        job.ask(layers)
        wait(lambda: not job.is_behind)
    job.ask((A,))  # undo
    assert not job.is_behind
    assert job.current.layers == (A,)
    job.ask(())
    assert job.current is None
    job.ask((A, B))  # redo
    assert job.current.layers == (A, B)
    assert compiler.compiled == [(A,), (A, B)]


def test_what_is_ready_late_does_not_take_the_place_of_what_came_back(job):
    compiler = Compiler()
    job.open(compiler, SimpleNamespace(layers=(A,)))
    job.ask((B,))
    wait(lambda: compiler.compiled)
    job.ask((A,))
    compiler.free.release(2)
    job.ask((C,))
    wait(lambda: not job.is_behind)
    job.ask((A,))
    assert job.current.layers == (A,)
    job.ask((B,))
    assert job.current.layers == (B,), "what was compiled in vain is kept"
    assert compiler.compiled == [(B,), (C,)]


def test_only_the_last_stacks_are_kept(job):
    compiler = Compiler()
    compiler.free.release(100)
    job.open(compiler, None)
    layers = [(Hide(prism=Prism(Region(), high=n)),) for n in range(KEPT + 2)]
    for each in (*layers, layers[0]):
        job.ask(each)
        wait(lambda: not job.is_behind)
    assert compiler.compiled == [*layers, layers[0]]
