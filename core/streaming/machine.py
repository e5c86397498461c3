"""Where each block is, which is fetched next and which has to go: rules without threads, memory or clocks."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from .contracts import BlockKey, BlockState, Want

MARGIN = 1.25  # a newcomer takes the place of a wanted block only if it is so much more urgent
STAY = 0.5  # seconds that a block stays at least once it is there, as long as it is wanted
LINGER = 0.5  # seconds that a block counts for what it counted at most, though it is wanted less now
LINGER_AGAIN = 2.0  # the same, and STAY, of a block that had gone and was fetched again
RETURN = 10.0  # seconds after which a block that went and is wanted again has not "come back"
N_LEFT = 1024  # blocks that went of which the time is remembered

Standing = tuple[bool, float]  # seen rather than prefetched, priority


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


@dataclass
class Entry:
    """What is known of a block that is, or was a while ago, not just on disk. Times are seconds."""

    state: BlockState = BlockState.DISK
    arrived: float = 0.0  # on the device
    last_wanted: float = float("-inf")
    peak: Standing = (False, 0.0)  # the most that it counted lately ...
    peak_time: float = float("-inf")  # ... and when
    came_back: bool = False  # it went and was fetched again within RETURN
    reason: str = ""  # why it failed
    tries: int = 0  # that failed since it was there
    retry_time: float = float("-inf")  # not to be read before


_ON_DISK = Entry()


class Machine:
    """All blocks of one field; every other one is on disk. Not for several threads at once."""

    def __init__(self) -> None:
        self.entries: dict[BlockKey, Entry] = {}
        self.wants: dict[BlockKey, Want] = {}
        self.pinned: dict[int, BlockKey] = {}
        self.held: Counter[BlockKey] = Counter()  # how many pictures need it now
        self.urgent: tuple[BlockKey, ...] = ()  # what a picture is waiting for
        self._sent_away: set[BlockKey] = set()  # by a person, while they are wanted
        self._left: OrderedDict[BlockKey, float] = OrderedDict()  # when it went
        self._jump_time = float("-inf")

    def state(self, key: BlockKey) -> BlockState:
        """Where a block is."""
        entry = self.entries.get(key)
        return entry.state if entry else BlockState.DISK

    def among(self, *states: BlockState) -> list[BlockKey]:
        """Lists the blocks in some states other than DISK."""
        return [key for key, entry in self.entries.items() if entry.state in states]

    def apply(self, key: BlockKey, event: Event, now: float) -> BlockState:
        """Notes what happened to a block and returns where it is now.

        Raises:
            ValueError: That cannot happen to a block where this one is.
        """
        old = self.state(key)
        new = TRANSITIONS.get((old, event))
        if new is None:
            raise ValueError(f"block {key.block}.{key.variant} is {old.value} and cannot be {event.value}")
        entry = self.entries.setdefault(key, Entry())
        entry.state = new
        if event is Event.READ:
            entry.came_back = now - self._left.pop(key, float("-inf")) < RETURN
            entry.last_wanted = now
        elif event is Event.ARRIVED:
            entry.arrived, entry.tries, entry.reason = now, 0, ""
            self._note_peak(key, entry, now)
        elif old is BlockState.DEVICE or event is Event.CANCELLED:
            self._left[key] = now
            while len(self._left) > N_LEFT:
                self._left.popitem(last=False)
        elif event is Event.RETRIED:
            entry.tries, entry.reason = 0, ""
        if new is BlockState.DISK and not entry.tries:
            del self.entries[key]
        return new

    # What is asked for

    def want(self, wants: Sequence[Want], now: float) -> None:
        """Replaces what is wanted, most urgent first."""
        old, self.wants = self.wants, {}
        for want in wants:
            self.wants.setdefault(want.key, want)
        if old and self.wants and 2 * sum(key in self.wants for key in old) < len(old):
            self._jump_time = now
        self._sent_away.intersection_update(self.wants)
        for key in self.wants.keys() & self.entries.keys():
            entry = self.entries[key]
            entry.last_wanted = now
            self._note_peak(key, entry, now)

    def hold(self, keys: Collection[BlockKey]) -> None:
        """Keeps blocks from being taken away until they are released."""
        self.held.update(keys)
        self._sent_away.difference_update(keys)

    def release(self, keys: Collection[BlockKey], now: float) -> None:
        """Ends one `hold`."""
        self.held.subtract(keys)
        self.held = +self.held
        for key in keys:
            if key in self.entries:
                self.entries[key].last_wanted = now

    def send_away(self, key: BlockKey) -> None:
        """Keeps a block from being fetched for as long as it is wanted without a break."""
        if key in self.wants:
            self._sent_away.add(key)

    def call_back(self, key: BlockKey) -> None:
        """Undoes `send_away`."""
        self._sent_away.discard(key)

    def is_wanted(self, key: BlockKey) -> bool:
        """Whether it is of any use that the block comes."""
        return self._comes_first(key) or (key in self.wants and key not in self._sent_away)

    def is_useless(self, key: BlockKey, now: float) -> bool:
        """Whether nobody has wanted a block for long enough, or all look elsewhere now."""
        entry = self.entries.get(key)
        if entry is None or self.is_wanted(key):
            return False
        return self._left_behind(entry) or now - entry.last_wanted >= LINGER

    def demand(self, now: float) -> Iterator[BlockKey]:
        """Yields the blocks to be fetched, most urgent first."""
        for keys in (self.urgent, tuple(self.pinned.values()), self.wants):
            for key in keys:
                entry = self.entries.get(key, _ON_DISK)
                is_away = entry.state in (BlockState.DISK, BlockState.HOST)
                if is_away and entry.retry_time <= now and self.is_wanted(key):
                    yield key

    @property
    def has_retries(self) -> bool:
        """Whether a wanted block is waiting for another attempt."""
        return any(entry.tries and self.is_wanted(key) for key, entry in self.entries.items())

    def victim(self, newcomer: BlockKey, now: float) -> BlockKey | None:
        """Names the block on the device that makes room for another; None: that one has to wait."""
        spare: list[tuple[float, BlockKey]] = []
        counting: list[tuple[Standing, float, BlockKey]] = []
        for key, entry in self.entries.items():
            if entry.state is not BlockState.DEVICE or self._comes_first(key):
                continue
            standing = self._standing(key, entry, now)
            if standing is None:
                spare.append((entry.last_wanted, key))
            else:
                counting.append((standing, entry.arrived, key))
        if spare:
            return min(spare)[1]
        if not counting:
            return None
        least, arrived, key = min(counting)
        if self._comes_first(newcomer):
            return key
        stay = LINGER_AGAIN if self.entries[key].came_back else STAY
        want = self.wants.get(newcomer)
        rises = want is not None and _exceeds((not want.prefetch, want.priority), least)
        return key if rises and now - arrived >= stay else None

    def _comes_first(self, key: BlockKey) -> bool:
        return key in self.held or key in self.urgent or self.pinned.get(key.block) == key

    def _standing(self, key: BlockKey, entry: Entry, now: float) -> Standing | None:
        """What a block counts for; None: it may go."""
        want = self.wants.get(key)
        current = None if want is None else (not want.prefetch, want.priority)
        if current is None and not entry.came_back:
            return None
        linger = LINGER_AGAIN if entry.came_back else LINGER
        if self._left_behind(entry) or now - entry.peak_time >= linger:
            return current
        return entry.peak if current is None else max(current, entry.peak)

    def _left_behind(self, entry: Entry) -> bool:
        return entry.last_wanted <= self._jump_time and not entry.came_back

    def _note_peak(self, key: BlockKey, entry: Entry, now: float) -> None:
        want = self.wants.get(key)
        if want is None:
            return
        standing = (not want.prefetch, want.priority)
        linger = LINGER_AGAIN if entry.came_back else LINGER
        if standing >= entry.peak or now - entry.peak_time >= linger:
            entry.peak, entry.peak_time = standing, now


def _exceeds(newcomer: Standing, held: Standing) -> bool:
    if newcomer[0] != held[0]:
        return newcomer[0]
    return newcomer[1] > held[1] + (MARGIN - 1) * abs(held[1])
