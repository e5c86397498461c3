"""One job in the background: its result, its failure, its progress, and what a cancel leaves of it."""

from __future__ import annotations

import threading
import time

import pytest

from landmark_viewer.core.errors import InputError
from landmark_viewer.viewer.jobs import Jobs


@pytest.fixture
def jobs():
    return Jobs(lambda: None)


def finish(jobs: Jobs) -> None:
    """Polls until the job is over."""
    end = time.monotonic() + 20
    while jobs.status is not None:
        assert time.monotonic() < end, "it took too long"
        jobs.poll()
        time.sleep(0.001)


def test_a_result_is_handed_over_by_poll(jobs):
    results = []
    assert jobs.start("Counting", lambda _: 42, results.append, pytest.fail)
    assert jobs.status.what == "Counting"
    finish(jobs)
    assert results == [42]


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (InputError("photo.png must be a picture"), "photo.png must be a picture"),
        (ValueError("odd"), "Counting failed: odd"),
        (KeyError(), "Counting failed: KeyError"),
    ],
)
def test_a_failure_is_one_sentence(jobs, error, sentence):
    failures = []

    def work(_):
        raise error

    jobs.start("Counting", work, pytest.fail, failures.append)
    finish(jobs)
    assert failures == [sentence]


def test_one_job_runs_at_a_time_and_says_how_far_it_is(jobs):
    free, reached = threading.Event(), threading.Event()

    def work(progress):
        progress.share = 0.5
        reached.set()
        assert free.wait(20)

    done = []
    jobs.start("First", work, done.append, pytest.fail)
    assert reached.wait(20)
    assert jobs.status.progress == 0.5
    assert not jobs.start("Second", lambda _: None, pytest.fail, pytest.fail)
    free.set()
    finish(jobs)
    assert done == [None]
    assert jobs.start("Third", lambda _: 3, done.append, pytest.fail)
    finish(jobs)
    assert done == [None, 3]


def test_a_cancelled_job_hears_of_it_and_its_result_is_dropped(jobs):
    def work(progress):
        end = time.monotonic() + 20
        while not progress.is_cancelled:
            assert time.monotonic() < end
            time.sleep(0.001)
        return "late"

    jobs.start("Counting", work, pytest.fail, pytest.fail)
    jobs.cancel()
    finish(jobs)


def test_cancelling_nothing_is_no_error(jobs):
    jobs.cancel()
    jobs.poll()
    assert jobs.status is None
