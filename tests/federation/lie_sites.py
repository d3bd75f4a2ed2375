"""Honest sites of a small world in which a server's lies are played with real arithmetic.

Signatures are booleans: nobody signs for an honest site, helpers sign anything. So is the list of a window's
set-ups: other keys are another list. A site's rules come in four layers, each with those before it:

1. `ONLY_TAGS`: keys serve a slot, whatever is trained; the first question of a slot is answered unseen; a
   model that comes is taken; a sum that comes must have the tags of its slot.
2. `TRANSCRIPT`: keys of masks and tags are bound to all that the server chose.
3. `COMPARE`: `consilium.learning.disclosure` decides what is uploaded, signed and disclosed.
4. `SUMS`: `consilium.learning.site` decides what is taken in: charter, initial model and verified sums, never
   a model that fewer than T sites signed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from lie_arithmetic import (
    BODY,
    CAP,
    P,
    Place,
    QuickTagger,
    Ring,
    Vector,
    codec_of,
    digest,
    name_of,
    pair_of,
    secret,
    seed_of,
    stepped,
    stream,
    train,
)

from consilium.learning import disclosure
from consilium.learning import site as site_machine
from consilium.learning.disclosure import Bounds
from consilium.privacy.fixed_point import fits
from consilium.vocabulary import Decision

Setups = tuple[tuple[int, bool], ...]
"""A window's participants as one site is told: number, and whether the key is the server's own."""

ONLY_TAGS, TRANSCRIPT, COMPARE, SUMS = 1, 2, 3, 4
LAYERS = {
    ONLY_TAGS: "tags only",
    TRANSCRIPT: "+ transcript in keys",
    COMPARE: "+ compare before unmask",
    SUMS: "+ sums never models",
}
CHARTER = "charter"
OPENED_BY_RUN = False
"""True: a vault that remembers opened models of one run alone, for a test that shows what that would open."""


@dataclass(frozen=True, eq=False)
class Handed:
    """What a server says is the sum of the round before, and where it was opened."""

    total: Ring
    survivors: frozenset[int]
    window: int
    slot: int
    attempt: int
    setups: Setups


@dataclass(frozen=True, eq=False)
class Told:
    """An order as one site hears it. Every field is the server's to choose."""

    window: int
    slot: int
    round: int
    attempt: int
    setups: Setups
    charter: str = CHARTER
    run: str = "run"
    model: Vector | None = None
    handed: Handed | None = None

    @property
    def place(self) -> Place:
        return self.run, self.window, self.slot

    def content(self) -> str:
        """The hash of the whole order."""
        handed = self.handed and (
            self.handed.total.tobytes(),
            sorted(self.handed.survivors),
            self.handed.slot,
        )
        model = self.model is not None and name_of(self.model)
        return digest(self.charter, self.place, self.round, self.attempt, self.setups, model, handed)


@dataclass(frozen=True, eq=False)
class Upload:
    """One site's masked vector (WORDS,) and its signed claim. From `plain` on: for the judge alone."""

    site: int
    place: Place
    salt: str
    claim: str
    setups: Setups
    masked: Ring
    plain: Ring
    round: int
    model: str
    charter: str


@dataclass
class Memory:
    """What a site remembers of one run."""

    state: disclosure.State
    learned: site_machine.SiteState
    model: Vector
    uploads: dict[str, Upload] = field(default_factory=dict)
    setups: dict[int, Setups] = field(default_factory=dict)
    answered: set[tuple[int, int]] = field(default_factory=set)


class Site:
    """An honest site with the rules of one layer. `signed` tells whether a site signed something."""

    def __init__(
        self,
        number: int,
        bounds: Bounds,
        layer: int,
        initial: Vector,
        world: str,
        signed: Callable[[int, str], bool],
    ) -> None:
        self.number, self.bounds, self.layer, self.initial = number, bounds, layer, initial
        self.world, self.signed = world, signed
        self.codec = codec_of(bounds.sites)
        self.runs: dict[str, Memory] = {}

    def memory(self, run: str) -> Memory:
        if run not in self.runs:
            opened: dict[str, tuple[int, int]] = {}
            if not OPENED_BY_RUN:
                for each in self.runs.values():
                    opened.update(dict.fromkeys(each.state.opened, (-1, -1)))
            state = disclosure.State(self.number, self.bounds, opened=opened)
            self.runs[run] = Memory(state, site_machine.SiteState(), self.initial)
        return self.runs[run]

    def hear(self, told: Told) -> Upload | None:
        """Carry out one order; None if the site uploads nothing."""
        memory = self.memory(told.run)
        job = f"{told.run}/{told.round}/{told.attempt}"
        if self.layer >= SUMS:
            if told.charter != CHARTER:
                return None
            work = self._decide(memory, told, job)
            if isinstance(work, Upload):
                return work
            if work is None or not self._enter(memory, told) or not self._work(memory, told, work):
                return None
        elif not self._enter(memory, told) or not self._believe(memory, told):
            return None
        upload = self._upload(memory, told)
        if upload is not None and self.layer >= SUMS:
            memory.uploads[job] = upload
            memory.learned, _ = site_machine.step(memory.learned, site_machine.Done(job, told.content()))
        return upload

    def sign(self, run: str, window: int, slot: int, survivors: frozenset[int]) -> bool:
        """Whether it signs this set of survivors, where more are missing than may be missed freely."""
        memory = self.memory(run)
        if self.layer < COMPARE:
            return True
        event = disclosure.Proposal(window, slot, self._compared(memory, window, slot, survivors))
        memory.state, (effect,) = disclosure.step(memory.state, event)
        return isinstance(effect, disclosure.Agree)

    def answer(
        self, run: str, window: int, slot: int, survivors: frozenset[int], agreed: frozenset[int]
    ) -> Mapping[int, disclosure.Share]:
        """The shares that it discloses; none if it refuses."""
        memory = self.memory(run)
        if self.layer >= COMPARE:
            told = self._compared(memory, window, slot, survivors)
            event = disclosure.Question(window, slot, told, agreed)
            memory.state, (effect,) = disclosure.step(memory.state, event)
            return effect.shares if isinstance(effect, disclosure.Disclose) else {}
        if (window, slot) in memory.answered:
            return {}
        memory.answered.add((window, slot))
        everyone = {*range(self.bounds.sites), *survivors}
        return {site: "seed" if site in survivors else "mask" for site in everyone}

    def _compared(self, memory: Memory, window: int, slot: int, survivors: frozenset[int]) -> dict[int, str]:
        """Each survivor's transcript: this site's own if it signed that, as in `consilium_site.masks`."""
        order = memory.state.orders.get(slot) if memory.state.window == window else None
        mine = order.transcript if order else ""
        return {site: mine if self.signed(site, mine) else "another" for site in survivors}

    def _enter(self, memory: Memory, told: Told) -> bool:
        """Take in a new window's set-ups; where sites compare, those of an open window stay."""
        if self.layer < COMPARE:
            memory.setups[told.window] = told.setups
            return True
        if told.window == memory.state.window:
            return True
        number, members = told.window, frozenset(site for site, _ in told.setups)
        memory.state, effects = disclosure.step(memory.state, disclosure.Window(number, members))
        if not effects:
            memory.setups[number] = told.setups
        return not effects

    def _believe(self, memory: Memory, told: Told) -> bool:
        """Layers 1 to 3: any model is taken; a sum only by its tags, and once a round."""
        if told.model is not None:
            memory.model = told.model
        elif told.handed is not None and told.round != memory.learned.holds:
            applied = self._apply(memory, told, told.handed)
            if not applied:
                return False
        memory.learned, _ = site_machine.step(memory.learned, site_machine.Stepped(told.round))
        return True

    def _decide(self, memory: Memory, told: Told, job: str) -> site_machine.Work | Upload | None:
        present = {
            "sum": told.handed is not None,
            "model": told.model is not None,
            "initial": told.round == 1,
        }
        carries = frozenset(name for name, there in present.items() if there)
        event = site_machine.Ordered(job, told.content(), "train", told.round, carries, Decision.APPROVED)
        memory.learned, (effect,) = site_machine.step(memory.learned, event)
        if isinstance(effect, site_machine.Replay):
            return memory.uploads[job]
        return effect if isinstance(effect, site_machine.Work) else None

    def _work(self, memory: Memory, told: Told, work: site_machine.Work) -> bool:
        """Layer 4: what an order may bring, checked against charter, signatures and tags."""
        before = memory.model
        if work.adopt == "initial":
            memory.model = self.initial if told.model is None else told.model
            if name_of(memory.model) != name_of(self.initial):
                memory.model = before
                return False
        elif work.adopt == "checkpoint" and told.model is not None:
            claim = digest("model", told.run, told.round - 1, name_of(told.model))
            if sum(self.signed(site, claim) for site in range(self.bounds.sites)) < self.bounds.threshold:
                return False
            memory.model = told.model
        if work.apply_sum and (told.handed is None or not self._apply(memory, told, told.handed)):
            memory.model = before
            return False
        memory.learned, _ = site_machine.step(memory.learned, site_machine.Stepped(told.round))
        return True

    def salt(self, told: Told, handed: Handed, model: Vector) -> str:
        """What the tags of a sum are bound to, if it was opened for this model where the server says."""
        place = (told.run, handed.window, handed.slot)
        return self._salt(place, told.round - 1, handed.attempt, handed.setups, told, name_of(model))

    def _apply(self, memory: Memory, told: Told, handed: Handed) -> bool:
        place, salt = (told.run, handed.window, handed.slot), self.salt(told, handed, memory.model)
        total, count = handed.total[:BODY], len(handed.survivors)
        if not self._tagger(place, salt).verify(total, handed.total[BODY:], handed.survivors):
            return False
        weight = int(total[P].view(np.int32))
        if not 0 <= weight <= CAP * count or not fits(total[:P], self.codec.longest(P, count)):
            return False
        memory.model = stepped(self.codec, memory.model, total)
        return True

    def _upload(self, memory: Memory, told: Told) -> Upload | None:
        model, setups = name_of(memory.model), memory.setups[told.window]
        claim = self._transcript(told.place, told.round, told.attempt, setups, told.charter, model)
        if self.layer >= COMPARE:
            order = disclosure.Order(told.window, told.slot, claim, model)
            memory.state, (effect,) = disclosure.step(memory.state, order)
            if not isinstance(effect, disclosure.Mask):
                return None
        salt = self._salt(told.place, told.round, told.attempt, setups, told, model)
        plain = train(self.number, told.round, told.charter, model)
        plain[BODY:] = self._tagger(told.place, salt).tag(plain[:BODY], self.number)
        masked = plain + stream(seed_of(self.world, told.place, self.number), salt)
        for other, forged in setups:
            if other != self.number:
                pair = stream(pair_of(self.world, told.place, self.number, other, forged), salt)
                masked = masked + pair if other < self.number else masked - pair
        place, number, charter = told.place, self.number, told.charter
        return Upload(number, place, salt, claim, setups, masked, plain, told.round, model, charter)

    def _salt(
        self, place: Place, round_number: int, attempt: int, setups: Setups, told: Told, model: str
    ) -> str:
        if self.layer < TRANSCRIPT:
            return digest(place)
        return self._transcript(place, round_number, attempt, setups, told.charter, model)

    @staticmethod
    def _transcript(
        place: Place, round_number: int, attempt: int, setups: Setups, charter: str, model: str
    ) -> str:
        """The fields of `consilium.contracts.masked.Transcript`."""
        return digest(charter, *place, setups, "train", round_number, attempt, model)

    def _tagger(self, place: Place, salt: str) -> QuickTagger:
        key = bytes.fromhex(secret(self.world, "tags", *place[:2]))
        return QuickTagger(key, bytes.fromhex(salt))
