"""The event log and what is read from it."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from landmark_viewer.viewer.events import EventLog, latencies, read_events, since_start


def test_time_counts_from_the_start_of_the_process_not_from_the_import():
    code = (
        "import time; time.sleep(0.5); from landmark_viewer.viewer import events; print(events.since_start())"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(shown.stdout) >= 0.5


def test_time_goes_forward():
    first = since_start()
    assert 0 < first <= since_start()


def test_events_are_lines_of_json_with_their_time(tmp_path):
    log = EventLog(tmp_path / "log.jsonl")
    log.write("start", version=1)
    log.write("picture", path=Path("a.png"), scale=0.5)
    first, second = read_events(tmp_path / "log.jsonl")
    assert (first["event"], first["version"]) == ("start", 1)
    assert (second["path"], second["scale"]) == ("a.png", 0.5)
    assert 0 < first["t"] <= second["t"]
    log.close()
    log.write("late")
    assert len(read_events(tmp_path / "log.jsonl")) == 2


def test_without_a_file_nothing_is_written():
    log = EventLog()
    assert not log.is_open
    log.write("start")
    log.close()


def test_a_last_line_that_is_still_being_written_is_left_out(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text(json.dumps({"t": 1, "event": "start"}) + '\n{"t": 2, "ev')
    assert [event["event"] for event in read_events(path)] == ["start"]


def test_lines_of_several_threads_do_not_mix(tmp_path):
    log = EventLog(tmp_path / "log.jsonl")
    threads = [
        threading.Thread(target=lambda: [log.write("x", text="y" * 200) for _ in range(50)]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.close()
    assert len(read_events(tmp_path / "log.jsonl")) == 200


def test_latency_is_the_time_until_a_picture_shows_the_input():
    events = [
        {"event": "input", "t": 1.0},
        {"event": "picture", "t": 1.05, "input": 0.5},  # shows an older input
        {"event": "input", "t": 1.1},
        {"event": "picture", "t": 1.2, "input": 1.1},  # shows both
        {"event": "picture", "t": 1.3, "input": 1.1},  # the same, refined
        {"event": "input", "t": 2.0},  # not shown yet
    ]
    assert latencies(events) == pytest.approx([0.2, 0.1])
