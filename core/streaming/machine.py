"""Where each block is, which is fetched next and which has to go: rules without threads, memory or clocks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from .contracts import STATES, BlockKey, BlockState, Wants

MARGIN = 1.25  # a newcomer takes the place of a wanted block only if it is so much more urgent
STAY = 0.5  # seconds that a block stays at least once it is there, as long as it is wanted
LINGER = 0.5  # seconds that a block counts for what it counted at most, though it is wanted less now
LINGER_AGAIN = 2.0  # the same, and STAY, of a block that had gone and was fetched again
RETURN = 10.0  # seconds after which a block that went and is wanted again has not "come back"


class Event(str, Enum):
    """What happens to a block."""

    READ = "read"  # a thread begins to fetch it
    ARRIVED = "arrived"
    CANCELLED = "cancelled"  # nobody wants it any more, or the next attempt is later
    BROKEN = "broken"  # it cannot be read
    DEMOTED = "demoted"  # gone from the device, a copy in main memory remains
    DROPPED = "dropped"  # gone from memory
    RETRIED = "retried"  # a person asks for another attempt


TRANSITIONS = {
    (BlockState.DISK, Event.READ): BlockState.FETCHING,
    (BlockState.HOST, Event.READ): BlockState.FETCHING,
    (BlockState.HOST, Event.DROPPED): BlockState.DISK,
    (BlockState.FETCHING, Event.ARRIVED): BlockState.DEVICE,
    (BlockState.FETCHING, Event.CANCELLED): BlockState.DISK,
    (BlockState.FETCHING, Event.DEMOTED): BlockState.HOST,  # cancelled, with a copy in main memory
    (BlockState.FETCHING, Event.BROKEN): BlockState.FAILED,
    (BlockState.DEVICE, Event.DEMOTED): BlockState.HOST,
    (BlockState.DEVICE, Event.DROPPED): BlockState.DISK,
    (BlockState.FAILED, Event.RETRIED): BlockState.DISK,
}


DISK, HOST, DEVICE, FAILED = (
    STATES.index(state) for state in (BlockState.DISK, BlockState.HOST, BlockState.DEVICE, BlockState.FAILED)
)
LONG_AGO = float("-inf")

ENTRY = np.dtype(  # what is known of a block that is, or was a while ago, not just on disk; times are seconds
    [
        ("state", np.uint8),  # index into STATES
        ("arrived", np.float64),  # on the device
        ("last_wanted", np.float64),
        ("peak_seen", np.bool_),  # the most that it counted lately: seen rather than prefetched, then ...
        ("peak", np.float64),  # ... the priority ...
        ("peak_time", np.float64),  # ... and when
        ("came_back", np.bool_),  # it went and was fetched again within RETURN
        ("tries", np.int32),  # that failed since it was there
        ("retry_time", np.float64),  # not to be read before
    ]
)
ON_DISK = np.array((DISK, 0.0, LONG_AGO, False, 0.0, LONG_AGO, False, 0, LONG_AGO), dtype=ENTRY)
ASKED = np.dtype(  # what the present wants say of a block
    [
        ("is_wanted", np.bool_),
        ("is_seen", np.bool_),  # rather than prefetched
        ("priority", np.float64),
        ("is_sent_away", np.bool_),  # by a person, while it is wanted
    ]
)
Slots = NDArray[np.int64]


class Machine:
    """All blocks of one field. Not for several threads at once.

    Every block has a slot in arrays: the field's own ones that of their number, other versions one behind.
    """

    def __init__(self, n_blocks: int) -> None:
        """Begins with all blocks on disk."""
        self.pinned: dict[int, BlockKey] = {}
        self.held: Counter[BlockKey] = Counter()  # how many pictures need it now
        self.urgent: tuple[BlockKey, ...] = ()  # what a picture is waiting for
        self.reasons: dict[BlockKey, str] = {}  # why blocks have failed
        self._n_blocks = n_blocks
        self._versions: dict[BlockKey, int] = {}  # slots of other versions ...
        self._keys: list[BlockKey] = []  # ... in their order
        self.entries = np.full(n_blocks, ON_DISK)
        self.asked = np.zeros(n_blocks, dtype=ASKED)
        self._left = np.full(n_blocks, LONG_AGO)  # when it went
        self.order: Slots = np.zeros(0, dtype=np.int64)  # what is wanted, most urgent first
        self._jump_time = LONG_AGO

    def state(self, key: BlockKey) -> BlockState:
        """Where a block is."""
        return STATES[int(self.entries["state"][self.slot(key)])]

    def among(self, *states: BlockState) -> list[BlockKey]:
        """Lists the blocks in some states."""
        found = np.isin(self.entries["state"], [STATES.index(state) for state in states])
        return [self.key(slot) for slot in np.flatnonzero(found).tolist()]

    def versions_of(self, block: int) -> list[BlockKey]:
        """Lists the versions of a block that are known."""
        return [BlockKey(block), *(key for key in self._versions if key.block == block)]

    def apply(self, key: BlockKey, event: Event, now: float) -> BlockState:
        """Notes what happened to a block and returns where it is now.

        Raises:
            ValueError: That cannot happen to a block where this one is.
        """
        slot, old = self.slot(key), self.state(key)
        new = TRANSITIONS.get((old, event))
        if new is None:
            raise ValueError(f"block {key.block}.{key.variant} is {old.value} and cannot be {event.value}")
        entry = self.entries[slot]
        entry["state"] = STATES.index(new)
        if event is Event.READ:
            entry["came_back"] = now - self._left[slot] < RETURN
            entry["last_wanted"], self._left[slot] = now, LONG_AGO
        elif event is Event.ARRIVED:
            entry["arrived"], entry["tries"] = now, 0
            self._note_peaks(np.array([slot]), now)
        elif old is BlockState.DEVICE or event is Event.CANCELLED:
            self._left[slot] = now
        elif event is Event.RETRIED:
            entry["tries"] = 0
            self.reasons.pop(key, None)
        if new is BlockState.DISK and not entry["tries"]:
            self.entries[slot] = ON_DISK
        return new

    def note_try(self, key: BlockKey) -> int:
        """Counts a read that failed and returns how many have, since the block was there."""
        entry = self.entries[self.slot(key)]
        entry["tries"] += 1
        return int(entry["tries"])

    def put_off(self, key: BlockKey, retry_time: float) -> None:
        """Keeps a block from being read before some time."""
        self.entries["retry_time"][self.slot(key)] = retry_time

    # What is asked for

    def want(self, wants: Wants, now: float) -> None:
        """Replaces what is wanted."""
        before, slots = self.order, self._slots(wants)
        self.order, asked = slots, self.asked
        asked["is_wanted"][before] = False
        asked["is_wanted"][slots] = True
        asked["is_seen"][slots], asked["priority"][slots] = ~wants.prefetch, wants.priority
        if len(slots) and 2 * np.count_nonzero(asked["is_wanted"][before]) < len(before):
            self._jump_time = now
        asked["is_sent_away"] &= asked["is_wanted"]
        known = slots[self.entries["state"][slots] != DISK]
        self.entries["last_wanted"][known] = now
        self._note_peaks(known, now)

    def wanted(self, seen: bool) -> Slots:
        """Returns the slots of what is wanted as seen, or as prefetched, most urgent first."""
        slots: Slots = self.order[self.asked["is_seen"][self.order] == seen]
        return slots

    def hold(self, keys: Collection[BlockKey]) -> None:
        """Keeps blocks from being taken away until they are released."""
        self.held.update(keys)
        for key in keys:
            self.call_back(key)

    def release(self, keys: Collection[BlockKey], now: float) -> None:
        """Ends one `hold`."""
        self.held.subtract(keys)
        self.held = +self.held
        for key in keys:
            self.entries["last_wanted"][self.slot(key)] = now

    def send_away(self, key: BlockKey) -> None:
        """Keeps a block from being fetched for as long as it is wanted without a break."""
        slot = self.slot(key)
        self.asked["is_sent_away"][slot] = self.asked["is_wanted"][slot]

    def call_back(self, key: BlockKey) -> None:
        """Undoes `send_away`."""
        self.asked["is_sent_away"][self.slot(key)] = False

    def is_wanted(self, key: BlockKey) -> bool:
        """Whether it is of any use that the block comes."""
        asked = self.asked[self.slot(key)]
        return bool(asked["is_wanted"] and not asked["is_sent_away"]) or key in self.first()

    def is_useless(self, key: BlockKey, now: float) -> bool:
        """Whether nobody has wanted a block for long enough, or all look elsewhere now."""
        entry = self.entries[self.slot(key)]
        if entry["state"] == DISK or self.is_wanted(key):
            return False
        is_left_behind = entry["last_wanted"] <= self._jump_time and not entry["came_back"]
        return bool(is_left_behind or now - entry["last_wanted"] >= LINGER)

    def demand(self, now: float) -> Iterator[BlockKey]:
        """Returns the blocks to be fetched, most urgent first."""
        first = [self.slot(key) for key in (*self.urgent, *self.pinned.values())]
        wanted = self.order[~self.asked["is_sent_away"][self.order]]
        wanted = wanted[~np.isin(wanted, first)] if first else wanted
        slots = np.concatenate([np.array(first, dtype=np.int64), wanted])
        state = self.entries["state"][slots]
        is_due = ((state == DISK) | (state == HOST)) & (self.entries["retry_time"][slots] <= now)
        return map(self.key, slots[is_due].tolist())

    @property
    def has_retries(self) -> bool:
        """Whether a wanted block is waiting for another attempt."""
        return any(self.is_wanted(self.key(slot)) for slot in np.flatnonzero(self.entries["tries"]).tolist())

    def victim(self, newcomer: BlockKey, now: float) -> BlockKey | None:
        """Names the block on the device that makes room for another; None: that one has to wait."""
        entries, first = self.entries, self.first()
        is_there = entries["state"] == DEVICE
        is_there[[self.slot(key) for key in first]] = False
        slots = np.flatnonzero(is_there)
        if not len(slots):
            return None
        is_wanted, seen, priority = self._standings(slots, now)
        if not is_wanted.all():
            spare = slots[~is_wanted]
            return self.key(spare[np.argmin(entries["last_wanted"][spare])])
        least = np.lexsort((entries["arrived"][slots], priority, seen))[0]
        slot = slots[least]
        if newcomer in first:
            return self.key(slot)
        stay = LINGER_AGAIN if entries["came_back"][slot] else STAY
        asked, bar = self.asked[self.slot(newcomer)], priority[least] + (MARGIN - 1) * abs(priority[least])
        rises = asked["is_wanted"] and _exceeds(asked["is_seen"], asked["priority"], seen[least], bar)
        return self.key(slot) if rises and now - entries["arrived"][slot] >= stay else None

    # Slots

    def register(self, key: BlockKey) -> None:
        """Makes room for a version of a block that is not the field's own, unless it is known."""
        if key not in self._versions:
            self._versions[key] = len(self.entries)
            self._keys.append(key)
            self.entries = np.append(self.entries, ON_DISK)
            self.asked = np.append(self.asked, np.zeros(1, dtype=ASKED))
            self._left = np.append(self._left, LONG_AGO)

    def slot(self, key: BlockKey) -> int:
        """Returns where in the arrays a block is."""
        return self._versions[key] if key.variant else key.block

    def key(self, slot: int) -> BlockKey:
        """Returns which block is there."""
        return BlockKey(int(slot)) if slot < self._n_blocks else self._keys[slot - self._n_blocks]

    def _slots(self, wants: Wants) -> Slots:
        slots = wants.blocks.copy()
        for place in np.flatnonzero(wants.variants).tolist():
            slots[place] = self.slot(BlockKey(int(wants.blocks[place]), int(wants.variants[place])))
        return slots

    def first(self) -> set[BlockKey]:
        """What goes before all that is only wanted."""
        return {*self.held, *self.urgent, *self.pinned.values()}

    # Inside

    def _standings(
        self, slots: Slots, now: float
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.float64]]:
        """Returns whether blocks still count, as seen ones, and how much."""
        came_back, peak_time = self.entries["came_back"][slots], self.entries["peak_time"][slots]
        peak_seen, peak = self.entries["peak_seen"][slots], self.entries["peak"][slots]
        is_wanted, is_seen = self.asked["is_wanted"][slots], self.asked["is_seen"][slots]
        priority = np.where(is_wanted, self.asked["priority"][slots], -np.inf)
        seen = is_wanted & is_seen
        is_left_behind = (self.entries["last_wanted"][slots] <= self._jump_time) & ~came_back
        lingers = ~is_left_behind & (now - peak_time < _linger(came_back))
        by_peak = lingers & (is_wanted | came_back) & _exceeds(peak_seen, peak, seen, priority)
        return is_wanted | by_peak, np.where(by_peak, peak_seen, seen), np.where(by_peak, peak, priority)

    def _note_peaks(self, slots: Slots, now: float) -> None:
        """Notes what wanted blocks count now, if it is the most since a while."""
        slots = slots[self.asked["is_wanted"][slots]]
        entries, seen, priority = self.entries, self.asked["is_seen"][slots], self.asked["priority"][slots]
        is_less = _exceeds(entries["peak_seen"][slots], entries["peak"][slots], seen, priority)
        is_past = now - entries["peak_time"][slots] >= _linger(entries["came_back"][slots])
        rows = ~is_less | is_past
        slots = slots[rows]
        entries["peak_seen"][slots], entries["peak"][slots] = seen[rows], priority[rows]
        entries["peak_time"][slots] = now


def _linger(came_back: NDArray[np.bool_]) -> NDArray[np.float64]:
    return np.where(came_back, LINGER_AGAIN, LINGER)


def _exceeds(
    seen: NDArray[np.bool_],
    priority: NDArray[np.float64],
    other_seen: NDArray[np.bool_],
    other_priority: NDArray[np.float64],
) -> NDArray[np.bool_]:
    """Whether blocks count more than others: what is seen more than what is prefetched, then by priority."""
    exceeds: NDArray[np.bool_] = (seen & ~other_seen) | ((seen == other_seen) & (priority > other_priority))
    return exceeds
