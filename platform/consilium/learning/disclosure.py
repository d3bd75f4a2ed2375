"""What a vault may disclose of its masks: the site's half of secure aggregation, decided without I/O.

    step(state, event) → (state, effects)

A server that lies may ask anything, in any order, twice, or differently of each site. Whatever it asks,
the sites' answers together open at most one sum of one model, of at least `least` sites, and never both
kinds of share of one site (Bonawitz et al. 2017; DESIGN §6). Cryptography is the caller's: transcripts and
models are compared as hashes, signatures are checked before an event is made of them.

A *slot* is one set of keys: it serves one attempt. `Order` binds a slot to a transcript, which covers all
that the server chose. `Question` names the survivors of that attempt; its answer is, for each participant,
either the self-seed share (it survived) or the mask-key share (it did not).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Literal

from consilium.vocabulary import Refusal

Share = Literal["seed", "mask"]


@dataclass(frozen=True)
class Bounds:
    """Numbers of a charter: `sites` N in its roster, `threshold` T, `colluding` c."""

    sites: int
    threshold: int
    colluding: int

    def __post_init__(self) -> None:
        if 2 * self.threshold <= self.sites + self.colluding:
            raise ValueError(
                f"threshold {self.threshold} of {self.sites} sites with {self.colluding} helpers: needs "
                "2T > N + c, else both kinds of share of one site could be collected"
            )

    @property
    def least(self) -> int:
        """Fewest survivors of a sum: with fewer, helpers could subtract their own and read one site."""
        return max(self.threshold, self.colluding + 2, 3)

    @property
    def freely_missing(self) -> int:
        """F: a set that misses at most so many is answered at once; one that misses more is agreed on first.

        The largest F with ⌊(N−c)F/(T−c)⌋ ≤ N−T: N=4: 1, 7: 1, 10: 2, 30: 5, 100: 17.
        """
        honest, needed = self.sites - self.colluding, self.threshold - self.colluding
        spare = self.sites - self.threshold
        return max(f for f in range(self.sites) if honest * f // needed <= spare)


@dataclass(frozen=True)
class Order:
    """A server asks for an upload in `slot`: everything it chose is in `transcript`.

    `model` names the model with its round: what may be opened once.
    """

    window: int
    slot: int
    transcript: str
    model: str


@dataclass(frozen=True)
class Question:
    """A server asks for shares: who survived in `slot`, and the transcript that each of them signed.

    `agreed` are the sites whose signatures on exactly this set came with it.
    """

    window: int
    slot: int
    transcripts: Mapping[int, str]
    agreed: frozenset[int] = frozenset()

    @property
    def survivors(self) -> frozenset[int]:
        """The sites in the set."""
        return frozenset(self.transcripts)


@dataclass(frozen=True)
class Proposal:
    """A server asks for a signature on a set that misses more than may be missed freely."""

    window: int
    slot: int
    transcripts: Mapping[int, str]


@dataclass(frozen=True)
class Window:
    """New keys: a set-up with these participants. Everything of earlier windows is closed."""

    number: int
    participants: frozenset[int]


Event = Window | Order | Question | Proposal


@dataclass(frozen=True)
class Mask:
    """Upload in this slot, masked against all participants of the window."""

    slot: int


@dataclass(frozen=True)
class Disclose:
    """Hand out these shares, one kind a participant."""

    slot: int
    shares: Mapping[int, Share]


@dataclass(frozen=True)
class Agree:
    """Sign this set for this slot."""

    slot: int
    survivors: frozenset[int]


@dataclass(frozen=True)
class Remind:
    """The model of this order was opened already in `slot`: answer with the question of then."""

    slot: int


@dataclass(frozen=True)
class Refuse:
    """Answer with the reason, and write it down."""

    reason: Refusal


Effect = Mask | Disclose | Agree | Remind | Refuse


@dataclass(frozen=True)
class State:
    """What one site remembers.

    `orders` are the slots it uploaded in, `asked` the set it answered or signed for a slot, and `opened`
    the slot in which it disclosed for a model. Models are remembered for ever, slots for their window.
    """

    site: int
    bounds: Bounds
    window: int = -1
    participants: frozenset[int] = frozenset()
    next_slot: int = 0
    orders: Mapping[int, Order] = field(default_factory=lambda: MappingProxyType({}))
    agreed: Mapping[int, frozenset[int]] = field(default_factory=lambda: MappingProxyType({}))
    answered: Mapping[int, frozenset[int]] = field(default_factory=lambda: MappingProxyType({}))
    opened: Mapping[str, tuple[int, int]] = field(default_factory=lambda: MappingProxyType({}))


def step(state: State, event: Event) -> tuple[State, tuple[Effect, ...]]:
    """Advance the site. Pure: equal arguments give equal results. The state is stored before effects leave.

    Guarantees: a slot serves one transcript; a slot's question has one answer; a model is opened in one
    slot at most; an upload in a later slot closes every earlier one, whose secrets can be erased.
    """
    if isinstance(event, Window):
        return _open(state, event)
    if event.window != state.window:
        return state, (Refuse(Refusal.OTHER_WINDOW),)
    if isinstance(event, Order):
        return _upload(state, event)
    reason = _objection(state, event)
    if reason is not None:
        return state, (Refuse(reason),)
    survivors = frozenset(event.transcripts)
    if isinstance(event, Proposal):
        agreed = MappingProxyType({**state.agreed, event.slot: survivors})
        return replace(state, agreed=agreed), (Agree(event.slot, survivors),)
    return _answer(state, event, survivors)


def _open(state: State, event: Window) -> tuple[State, tuple[Effect, ...]]:
    if event.number <= state.window:
        return state, (Refuse(Refusal.OTHER_WINDOW),)
    if state.site not in event.participants or len(event.participants) < state.bounds.threshold:
        return state, (Refuse(Refusal.TOO_FEW_PARTICIPANTS),)
    if not event.participants <= frozenset(range(state.bounds.sites)):
        return state, (Refuse(Refusal.NOT_A_PARTICIPANT),)
    fresh = State(state.site, state.bounds, event.number, event.participants, opened=state.opened)
    return fresh, ()


def _upload(state: State, order: Order) -> tuple[State, tuple[Effect, ...]]:
    if state.orders.get(order.slot) == order:
        return state, (Mask(order.slot),)
    if order.model in state.opened:
        window, slot = state.opened[order.model]
        if window == state.window:
            return state, (Remind(slot),)
        return state, (Refuse(Refusal.MODEL_OPENED),)
    if order.slot < state.next_slot:
        return state, (Refuse(Refusal.SLOT_USED),)
    orders = MappingProxyType({**state.orders, order.slot: order})
    return replace(state, orders=orders, next_slot=order.slot + 1), (Mask(order.slot),)


def _objection(state: State, event: Question | Proposal) -> Refusal | None:
    """Why this set may not be answered or signed for; None if it may."""
    order, survivors = state.orders.get(event.slot), frozenset(event.transcripts)
    if order is None:
        return Refusal.NOT_UPLOADED
    if state.site not in survivors:
        return Refusal.LEFT_OUT
    if not survivors <= state.participants:
        return Refusal.NOT_A_PARTICIPANT
    if len(survivors) < state.bounds.least:
        return Refusal.TOO_FEW_SURVIVORS
    if any(transcript != order.transcript for transcript in event.transcripts.values()):
        return Refusal.OTHER_TRANSCRIPT
    if state.answered.get(event.slot, survivors) != survivors:
        return Refusal.OTHER_SET
    if state.agreed.get(event.slot, survivors) != survivors:
        return Refusal.OTHER_SET
    if event.slot != state.next_slot - 1:
        return Refusal.LATER_UPLOAD
    return None


def _answer(state: State, question: Question, survivors: frozenset[int]) -> tuple[State, tuple[Effect, ...]]:
    bounds, order = state.bounds, state.orders[question.slot]
    freely = bounds.sites - len(survivors) <= bounds.freely_missing
    if not freely and len(question.agreed & survivors) < bounds.threshold:
        return state, (Refuse(Refusal.NOT_AGREED),)
    if state.opened.get(order.model, (state.window, question.slot)) != (state.window, question.slot):
        return state, (Refuse(Refusal.MODEL_OPENED),)
    shares: dict[int, Share] = {
        site: "seed" if site in survivors else "mask" for site in sorted(state.participants)
    }
    state = replace(
        state,
        answered=MappingProxyType({**state.answered, question.slot: survivors}),
        opened=MappingProxyType({**state.opened, order.model: (state.window, question.slot)}),
    )
    return state, (Disclose(question.slot, MappingProxyType(shares)),)
