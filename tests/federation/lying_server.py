"""A server that lies at random, with up to c sites that help it, and what it can open with what it gets.

The algebra of masks is symbolic: a set of uploads opens if every mask in it cancels or is known. A site's
self-seed or mask key of a slot is known from T shares of it; helpers hand out all they hold, both kinds.
"""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import dataclass, field

from consilium.contracts.charter import colluding_bound, threshold
from consilium.learning.disclosure import (
    Agree,
    Bounds,
    Disclose,
    Event,
    Mask,
    Order,
    Proposal,
    Question,
    Refuse,
    Remind,
    State,
    Window,
    step,
)

Slot = tuple[int, int]
"""(window, slot)."""


@dataclass(frozen=True)
class Upload:
    """One site's masked vector: what it is bound to."""

    transcript: str
    model: str
    participants: frozenset[int]


@dataclass
class World:
    """Honest sites, and everything that a server and its helpers have got from them."""

    bounds: Bounds
    helpers: frozenset[int]
    states: dict[int, State] = field(default_factory=dict)
    uploads: dict[Slot, dict[int, Upload]] = field(default_factory=lambda: defaultdict(dict))
    shares: dict[Slot, dict[tuple[int, str], set[int]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(set))
    )
    signed: dict[Slot, dict[frozenset[int], set[int]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(set))
    )
    refused: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    @classmethod
    def of(cls, sites: int, helpers: frozenset[int]) -> World:
        """A roster of `sites`, of which `helpers` work for the server."""
        bounds = Bounds(sites, threshold(sites), colluding_bound(sites))
        assert len(helpers) <= bounds.colluding
        honest = set(range(sites)) - helpers
        return cls(bounds, helpers, {site: State(site, bounds) for site in honest})

    def tell(self, site: int, event: Event) -> tuple[object, ...]:
        """Send one honest site one event and keep what it gives away."""
        before = self.states[site]
        self.states[site], effects = step(before, event)
        for effect in effects:
            if isinstance(effect, Mask) and isinstance(event, Order):
                upload = Upload(event.transcript, event.model, before.participants)
                known = self.uploads[event.window, event.slot].setdefault(site, upload)
                assert known == upload, "a slot's keys masked two different vectors"
            elif isinstance(effect, Disclose):
                for other, kind in effect.shares.items():
                    self.shares[before.window, effect.slot][other, kind].add(site)
            elif isinstance(effect, Agree):
                self.signed[before.window, effect.slot][effect.survivors].add(site)
            elif isinstance(effect, Refuse):
                self.refused[effect.reason] += 1
        return effects

    def transcript(self, site: int, slot: int, model: str, choice: str) -> str:
        """What the site itself computes from what it was told; `choice` is all else that the server chose."""
        state = self.states[site]
        return f"{state.window}/{sorted(state.participants)}/{slot}/{model}/{choice}"

    def known(self, slot: Slot, kind: str) -> frozenset[int]:
        """Honest sites whose seed or mask key of this slot the server can put together."""
        enough = self.bounds.threshold - len(self.helpers)
        return frozenset(
            site
            for (site, what), holders in self.shares[slot].items()
            if what == kind and len(holders) >= enough and site not in self.helpers
        )

    def opened(self) -> dict[str, set[frozenset[int]]]:
        """Model → sets of honest sites whose sum the server can read. Fails on both kinds of share."""
        found: dict[str, set[frozenset[int]]] = defaultdict(set)
        for slot, uploads in self.uploads.items():
            seeds, masks = self.known(slot, "seed"), self.known(slot, "mask")
            assert not seeds & masks, f"both kinds of share of {sorted(seeds & masks)} in slot {slot}"
            readable = frozenset(uploads) & seeds
            by_transcript: dict[str, set[int]] = defaultdict(set)
            for site in readable:
                by_transcript[uploads[site].transcript].add(site)
            for group in by_transcript.values():
                one = uploads[next(iter(group))]
                if one.participants - self.helpers - group <= masks:
                    found[one.model].add(frozenset(group))
        return found

    def check(self) -> None:
        """What must hold whatever the server did."""
        for model, sets in self.opened().items():
            assert len(sets) == 1, f"{len(sets)} different sums of model {model}: {sets}"
            (only,) = sets
            least = self.bounds.least - len(self.helpers)
            assert len(only) >= least, f"a sum of {len(only)} honest sites, fewer than {least}"


def lie(world: World, rng: random.Random, moves: int) -> None:
    """Send random events, mostly plausible ones, to random honest sites."""
    sites, models = sorted(world.states), 1
    for _ in range(moves):
        move = rng.random()
        window = max(state.window for state in world.states.values())
        if move < 0.08:
            for site in some(rng, sites):
                world.tell(site, Window(window + 1, participants(world, rng)))
        elif move < 0.45:
            slot, model = rng.randint(0, 4), f"m{rng.randint(max(0, models - 2), models)}"
            choice = str(rng.randint(0, 1))
            for site in some(rng, sites):
                now = world.states[site].window
                text = world.transcript(site, slot, model, choice)
                effects = world.tell(site, Order(now, slot, text, model))
                models += any(isinstance(each, Remind) for each in effects)
        elif world.uploads:
            probe(world, rng)


def probe(world: World, rng: random.Random) -> None:
    """Ask about one slot: maybe one set of all, maybe a different one of each site, maybe agreed first."""
    slot = rng.choice(sorted(world.uploads))
    uploads = world.uploads[slot]
    common = survivors(world, rng, slot)
    for site in some(rng, sorted(uploads)):
        chosen = common if rng.random() < 0.6 else survivors(world, rng, slot)
        told = {
            other: uploads[site].transcript
            if rng.random() < 0.9 or other not in uploads
            else uploads[other].transcript
            for other in chosen
        }
        if rng.random() < 0.5:
            world.tell(site, Proposal(*slot, told))
        signers = world.signed[slot][frozenset(chosen)] | world.helpers
        world.tell(site, Question(*slot, told, frozenset(signers)))


def survivors(world: World, rng: random.Random, slot: Slot) -> frozenset[int]:
    present = [*world.uploads[slot], *world.helpers]
    return frozenset(site for site in present if rng.random() < 0.85)


def participants(world: World, rng: random.Random) -> frozenset[int]:
    return frozenset(site for site in range(world.bounds.sites) if rng.random() < 0.9)


def some(rng: random.Random, sites: list[int]) -> list[int]:
    return [site for site in sites if rng.random() < 0.85]
