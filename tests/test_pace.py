from types import SimpleNamespace

from landmark_viewer.viewer import main_window
from landmark_viewer.viewer.pace import HELD_BACK, LINGER, LINGER_INTERVAL, LONGEST_WAIT, SHORTEST, Pace


def settled(now: float = 0.0) -> Pace:
    """Returns a pace that owes nothing and lingers no more."""
    return Pace(owed=0, linger_until=now, last=now)


def test_nothing_is_drawn_when_nothing_happens():
    pace = settled()
    assert not pace.due(100.0)
    assert pace.next_time(100.0) == 100.0 + LONGEST_WAIT


def test_an_event_is_drawn_at_once_and_then_slowly_for_a_while():
    pace = settled()
    pace.touch(10.0, 1)
    assert pace.due(10.0)
    pace.drew(10.0)
    assert pace.next_time(10.0) == 10.0 + LINGER_INTERVAL
    assert not pace.due(10.0 + LINGER_INTERVAL / 2)
    assert pace.next_time(10.0 + LINGER) >= 10.0 + LINGER + LONGEST_WAIT


def test_two_drawings_keep_their_distance():
    pace = settled()
    pace.touch(10.0, 2)
    pace.drew(10.0)
    assert not pace.due(10.0 + SHORTEST / 2)
    assert pace.due(10.0 + SHORTEST)


def test_the_distance_counts_from_where_a_drawing_began(monkeypatch):
    clock, pace = [10.0], settled()
    monkeypatch.setattr(main_window, "since_start", lambda: clock[0])
    slow = SimpleNamespace(render_dearpygui_frame=lambda: clock.append(clock.pop() + SHORTEST))
    monkeypatch.setattr(main_window, "dpg", slow)
    pace.touch(10.0, 2)
    window = SimpleNamespace(
        _show=lambda: None,
        _pace=pace,
        _picture_pending=None,
        _drawn=9,
        _ready=True,
        _front=[],
        _viewport=SimpleNamespace(measure=lambda: False),
    )
    main_window.MainWindow._draw(window)
    assert pace.due(clock[0])


def test_a_drag_waits_for_its_picture_but_not_for_ever():
    pace = settled()
    pace.hold(10.0)
    assert not pace.due(10.0 + HELD_BACK / 2)
    assert pace.due(10.0 + HELD_BACK)


def test_a_steady_drag_does_not_put_its_drawing_off():
    pace = settled()
    for step in range(20):
        pace.hold(10.0 + step * HELD_BACK / 4)
    assert pace.next_time(10.5) == 10.0 + HELD_BACK


def test_a_picture_ends_the_wait_of_a_drag():
    pace = settled()
    pace.hold(10.0)
    pace.release()
    assert pace.due(10.0 + SHORTEST)
