"""Which states a block goes through, which is fetched next and which has to go."""

from __future__ import annotations

import pytest

from landmark_viewer.core.streaming.contracts import BlockKey, BlockState
from landmark_viewer.core.streaming.machine import (
    LINGER,
    LINGER_AGAIN,
    ON_DISK,
    STAY,
    TRANSITIONS,
    Event,
    Machine,
)

from .scripted_source import N_BLOCKS, Clockwork, Want, ordered, wants

A = BlockKey(3)
REACHED = {  # events that lead to each state
    BlockState.DISK: (),
    BlockState.FETCHING: (Event.READ,),
    BlockState.DEVICE: (Event.READ, Event.ARRIVED),
    BlockState.HOST: (Event.READ, Event.ARRIVED, Event.DEMOTED),
    BlockState.FAILED: (Event.READ, Event.BROKEN),
}


@pytest.mark.parametrize("event", Event)
@pytest.mark.parametrize("state", REACHED)
def test_every_pair_of_state_and_event_is_allowed_or_refused(state: BlockState, event: Event) -> None:
    machine = Machine(N_BLOCKS)
    for step in REACHED[state]:
        machine.apply(A, step, 0.0)
    assert machine.state(A) is state
    target = TRANSITIONS.get((state, event))
    if target is None:
        with pytest.raises(ValueError, match=rf"block 3.0 is {state.value} and cannot be {event.value}"):
            machine.apply(A, event, 1.0)
        assert machine.state(A) is state
    else:
        assert machine.apply(A, event, 1.0) is target
        assert machine.state(A) is target


def test_transitions_are_those_that_the_design_names() -> None:
    assert {(old.value, event.value, new.value) for (old, event), new in TRANSITIONS.items()} == {
        ("disk", "read", "fetching"),
        ("host", "read", "fetching"),
        ("host", "dropped", "disk"),
        ("fetching", "arrived", "device"),
        ("fetching", "cancelled", "disk"),
        ("fetching", "demoted", "host"),
        ("fetching", "broken", "failed"),
        ("device", "demoted", "host"),
        ("device", "dropped", "disk"),
        ("failed", "retried", "disk"),
    }


def test_blocks_on_disk_leave_nothing_behind() -> None:
    machine = Machine(N_BLOCKS)
    for block in range(N_BLOCKS):
        for event in (Event.READ, Event.ARRIVED, Event.DROPPED):
            machine.apply(BlockKey(block), event, float(block))
    assert (machine.entries == ON_DISK).all()


def test_the_most_urgent_comes_first_and_nothing_that_is_there() -> None:
    works = Clockwork(4)
    works.want(wants([5, 2, 7]))
    assert works.step() == [5, 2, 7]
    works.want(wants([7, 9, 2]))
    assert works.step() == [9]


def test_blocks_that_nobody_wants_go_longest_unwanted_first() -> None:
    works = Clockwork(3)
    for block in (1, 2, 3):
        works.want(wants([block]))
        works.step(1.0)
    works.want(wants([4]))
    works.step(1.0)
    assert works.resident == {2, 3, 4}


def test_after_a_jump_the_destination_comes_at_once() -> None:
    works = Clockwork(4)
    works.want(wants([0, 1, 2, 3]))
    works.step()
    works.want(wants([12, 13, 14]))
    assert works.step() == [12, 13, 14]
    assert works.resident > {12, 13, 14}


def test_a_newcomer_must_be_more_urgent_by_a_margin() -> None:
    works = Clockwork(1)
    works.want(ordered(Want(BlockKey(1), 1.0)))
    works.step()
    works.want(ordered(Want(BlockKey(2), 1.2), Want(BlockKey(1), 1.0)))
    assert works.step(5.0) == []
    works.want(ordered(Want(BlockKey(2), 1.3), Want(BlockKey(1), 1.0)))
    assert works.step(5.0) == [2]


def test_a_block_stays_for_a_while_even_if_another_is_far_more_urgent() -> None:
    works = Clockwork(1)
    works.want(ordered(Want(BlockKey(1), 1.0)))
    works.step()
    works.want(ordered(Want(BlockKey(2), 100.0), Want(BlockKey(1), 1.0)))
    assert works.step(STAY * 0.9) == []
    assert works.step(STAY * 0.2) == [2]


def test_prefetched_blocks_never_push_out_seen_ones_but_seen_ones_do() -> None:
    works = Clockwork(1)
    works.want(ordered(Want(BlockKey(1), 1.0)))
    works.step()
    works.want(ordered(Want(BlockKey(1), 1.0), Want(BlockKey(2), 100.0, prefetch=True)))
    assert works.step(5.0) == []
    works = Clockwork(1)
    works.want(ordered(Want(BlockKey(2), 100.0, prefetch=True)))
    works.step()
    works.want(ordered(Want(BlockKey(1), 1.0), Want(BlockKey(2), 100.0, prefetch=True)))
    assert works.step(5.0) == [1]


def test_pinned_and_held_blocks_do_not_go() -> None:
    works = Clockwork(2)
    works.machine.pinned[1] = BlockKey(1)
    works.machine.hold([BlockKey(2)])
    works.machine.urgent = (BlockKey(2),)
    works.step()
    assert works.resident == {1, 2}
    works.machine.urgent = ()
    works.want(wants([3, 4]))
    assert works.step(60.0) == []
    works.machine.release([BlockKey(2)], works.now)
    assert works.step(60.0) == [3]
    assert works.resident == {1, 3}


def test_what_a_picture_waits_for_goes_before_all_that_is_wanted() -> None:
    works = Clockwork(2)
    works.want(wants([1, 2, 3, 4]))
    works.step()
    works.machine.hold([BlockKey(8), BlockKey(9)])
    works.machine.urgent = (BlockKey(8), BlockKey(9))
    assert works.step() == [8, 9]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([0, 1, 2, 3], [2, 3, 4, 5]),
        ([0, 1, 2], [3, 4, 5]),
        ([0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0]),
        ([0, 1, 2, 3, 4], [1, 2, 3, 4, 5]),
    ],
    ids=["overlapping", "disjoint", "reversed", "shifted"],
)
@pytest.mark.parametrize("seconds", [0.016, 0.3])
def test_hovering_between_two_views_does_not_thrash(one: list[int], other: list[int], seconds: float) -> None:
    roomy, short = Clockwork(6), Clockwork(5)
    for number in range(1000):
        for works in (roomy, short):
            works.want(wants(other if number % 2 else one, top=6.0))
            works.step(seconds)
    assert max(roomy.fetches.values()) == 1
    assert roomy.resident == set(range(6))
    assert max(short.fetches.values()) <= 2
    assert len(short.resident) == 5


def test_priorities_that_swap_do_not_thrash() -> None:
    works = Clockwork(1)
    for number in range(1000):
        first, second = (1.0, 10.0) if number % 2 else (10.0, 1.0)
        works.want(ordered(Want(BlockKey(1), first), Want(BlockKey(2), second)))
        works.step()
    assert sum(works.fetches.values()) <= 2


def test_a_read_is_useless_once_nobody_has_wanted_it_for_a_while() -> None:
    machine = Machine(N_BLOCKS)
    machine.want(wants([1, 2]), 0.0)
    machine.apply(BlockKey(1), Event.READ, 0.0)
    machine.want(wants([2, 3]), 0.1)
    assert not machine.is_useless(BlockKey(1), 0.1)
    assert machine.is_useless(BlockKey(1), LINGER + 0.1)
    machine.want(wants([1, 2]), 1.0)
    assert not machine.is_useless(BlockKey(1), 60.0)
    machine.want(wants([9]), 61.0)  # a jump
    assert machine.is_useless(BlockKey(1), 61.0)


def test_a_block_that_comes_back_stays_longer() -> None:
    works = Clockwork(1)
    works.want(wants([1]))
    works.step()
    works.want(wants([2]))
    assert works.step() == [2]  # a jump
    works.want(wants([1]))
    assert works.step() == [1]
    works.want(wants([2]))
    assert works.step(LINGER_AGAIN * 0.9) == []
    assert works.step(LINGER_AGAIN * 0.2) == [2]


def test_a_block_sent_away_stays_away_while_it_is_wanted() -> None:
    works = Clockwork(2)
    works.want(wants([1, 2]))
    works.step()
    works.machine.send_away(BlockKey(1))
    works.holdings.drop(BlockKey(1), works.now)
    works.want(wants([2, 1]))
    assert works.step() == []
    works.want(wants([2]))
    works.want(wants([2, 1]))
    assert works.step() == [1]


def test_copies_in_main_memory_are_the_last_used_ones() -> None:
    works = Clockwork(1, n_copies=2)
    states = []
    for block in (1, 2, 3):
        works.want(wants([block]))
        works.step(5.0)
        states.append([works.machine.state(BlockKey(n)).value for n in (1, 2, 3)])
    assert states == [
        ["device", "disk", "disk"],
        ["host", "device", "disk"],
        ["disk", "host", "device"],
    ]
    assert works.holdings.host is not None
    assert works.holdings.host.allocated == 128
