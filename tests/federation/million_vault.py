"""A vault without cryptography or disk: the real state machines, small real vectors, masks that add up.

`Vault` does what `consilium_site.job` and `.masks` do around the machines, in the same order. Its attributes
are what is on its disk; `Died` may strike between any two commits, and a restart reads the disclosure state
back from its text. Everything that leaves is noted in `Seen`, which fails at what must never happen.
"""

from __future__ import annotations

import functools
import hashlib
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from consilium.learning import averaging, disclosure
from consilium.learning import site as machine
from consilium.learning.disclosure import Bounds
from consilium.privacy.fixed_point import FixedPoint, Tail, fits
from consilium.vocabulary import Decision, Reason, Refusal
from consilium_site.remembered import state_of, state_text

Ring = NDArray[np.uint32]
Vector = NDArray[np.float32]
Tag = tuple[int, int, str]
P, CAP, CLIP, BITS = 3, 64, 1.0, 16
WORDS = P + 6


class Died(Exception):
    """The process stops here: what is committed stays, the rest is gone."""


class Summed(NamedTuple):
    """An opened sum (WORDS,) and where it was opened; `tag` stands for its one-time tags."""

    total: Ring
    survivors: frozenset[int]
    window: int
    setups: str
    slot: int
    attempt: int
    tag: str


class Keys(NamedTuple):
    """A window: who takes part, the name of its set-ups, and the window that each came from."""

    number: int
    participants: frozenset[int]
    setups: str
    came_from: Mapping[int, int]


class Train(NamedTuple):
    """An order to train or to finish."""

    kind: str
    round: int
    attempt: int
    keys: Keys
    introduces: bool
    slot: int
    payload: str
    summed: Summed | None
    model: Vector | None
    signers: frozenset[int]

    @property
    def digest(self) -> str:
        """Stands for the hash of the whole order."""
        return f"{self.keys.number}/{self.slot}/{self.introduces}/{self.payload}"


class Ask(NamedTuple):
    """A question about a slot, or a proposal to sign a set."""

    kind: str
    number: int
    round: int
    attempt: int
    window: int
    slot: int
    claims: Mapping[int, str]
    agreed: frozenset[int]


class Reply(NamedTuple):
    """What a vault answers; without a reason it is done."""

    site: int
    tag: Tag
    reason: Reason | None = None
    holds: int = 0
    upload: Ring | None = None
    transcript: str = ""
    model: str = ""
    signed: frozenset[int] | None = None
    shares: Mapping[int, disclosure.Share] | None = None


@dataclass
class Seen:
    """All that ever left the vaults of one run."""

    uploads: dict[tuple[int, int, int], bytes] = field(default_factory=dict)
    plain: dict[tuple[str, int], Ring] = field(default_factory=dict)
    shares: dict[tuple[int, int, int], disclosure.Share] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)

    def note_upload(self, site: int, window: int, slot: int, masked: Ring) -> None:
        """One vector a key, ever."""
        key, left = (window, slot, site), masked.tobytes()
        assert self.uploads.setdefault(key, left) == left, f"keys of {key} masked two vectors"

    def note_shares(self, window: int, slot: int, shares: Mapping[int, disclosure.Share]) -> None:
        """One kind of share a site and slot: no honest server ever collects the other."""
        for site, kind in shares.items():
            first = self.shares.setdefault((window, slot, site), kind)
            assert first == kind, f"both kinds of share of site {site} in window {window} slot {slot}"


def name_of(model: Vector) -> str:
    return hashlib.blake2b(model.tobytes(), digest_size=12).hexdigest()


def transcript(setups: str, window: int, slot: int, tag: Tag, model: str) -> str:
    """Stands for the hash of everything that the server chose."""
    return f"{setups}/{window}/{slot}/{tag[2]}/{tag[0]}/{tag[1]}/{model}"


def sum_tag(told: str, survivors: frozenset[int], total: Ring) -> str:
    """What only these survivors' uploads under this transcript can have for their tags."""
    return f"{told} {sorted(survivors)} {total.tobytes().hex()}"


@functools.lru_cache(maxsize=1 << 12)
def stream(told: str, low: int, high: int) -> Ring:
    """The keystream (WORDS,) of two sites, or of one alone, under one transcript."""
    block = hashlib.blake2b(f"{low}/{high}/{told}".encode(), digest_size=4 * WORDS).digest()
    return np.frombuffer(block, "<u4")


@functools.lru_cache(maxsize=16)
def codec_of(sites: int) -> FixedPoint:
    return FixedPoint(sites, CLIP, BITS, CAP)


def encoded(codec: FixedPoint, site: int, round_number: int, kind: str, model: str) -> Ring:
    """A site's clear upload (WORDS,): its clipped, weighted update and tail; when finishing, the tail."""
    block = hashlib.blake2b(f"{site}/{round_number}/{model}".encode(), digest_size=16).digest()
    weight, scored, loss = 1 + block[12] % CAP, block[13] % 9, block[14] / 16
    tail = Tail(0 if kind == "finish" else weight, loss, scored, 0.25 * scored, 0.5 * scored, 0.0)
    if kind == "finish":
        return np.concatenate([np.zeros(P, np.uint32), codec.encode_tail(tail)])
    update = np.frombuffer(block, "<i2", P).astype(np.float32) * np.float32(0.5 / (1 << 15))
    return codec.encode(update, tail, averaging.site_share(weight, CAP))


def stepped(codec: FixedPoint, model: Vector, total: Ring) -> Vector:
    """The model after an opened sum."""
    weight = codec.decode_tail(total[P:]).weight
    return averaging.step(model, codec.decode_update(total[:P]), averaging.fedavg_factor(weight, CAP, 1.0))


class Vault:
    """One site. `model` None: it has none yet."""

    def __init__(self, number: int, bounds: Bounds, seen: Seen, rng: random.Random) -> None:
        self.number, self.bounds, self.seen, self.rng = number, bounds, seen, rng
        self.codec = codec_of(bounds.sites)
        self.initial = np.zeros(P, np.float32)
        self.state = disclosure.State(number, bounds)
        self.learned = machine.SiteState()
        self.model: Vector | None = None
        self.replies: dict[str, Reply] = {}
        self.windows: dict[int, Keys] = {}
        self.newest = -1
        self.deaths = 0.0

    def answer(self, order: Train | Ask) -> Reply | None:
        """The reply to one order; None if the vault died of it, before or after it committed the answer."""
        try:
            reply = self._train(order) if isinstance(order, Train) else self._disclose(order)
            self._maybe_die()
        except Died:
            self.restart()
            return None
        if reply.upload is not None:
            keys = order.keys if isinstance(order, Train) else None
            assert keys is not None
            self.seen.note_upload(self.number, keys.number, order.slot, reply.upload)
        if reply.shares is not None:
            self.seen.note_shares(order.window, order.slot, reply.shares)  # type: ignore[union-attr]
        return reply

    def restart(self) -> None:
        """Read the state back from its text."""
        again = state_of(state_text(self.state), self.number, self.bounds)
        assert again == self.state
        self.state = again
        if self.rng.random() < 0.1:
            self.model, self.learned = None, replace(self.learned, holds=0)
            self.seen.counts["model files lost"] += 1
        self.seen.counts["vaults restarted"] += 1

    def _maybe_die(self) -> None:
        if self.deaths and self.rng.random() < self.deaths:
            raise Died

    def _refusal(self, tag: Tag, reason: Reason, refusal: Refusal | None = None) -> Reply:
        self.seen.counts[f"refused: {refusal or reason}"] += 1
        return Reply(self.number, tag, reason, self.learned.holds)

    def _train(self, order: Train) -> Reply:
        tag, job = (order.round, order.attempt, order.kind), f"{order.round}/{order.attempt}/{order.kind}"
        self._maybe_die()
        carries = frozenset(order.payload.split("+"))
        kind: str = order.kind
        event = machine.Ordered(job, order.digest, kind, order.round, carries, Decision.APPROVED)  # type: ignore[arg-type]
        _, (effect,) = machine.step(self.learned, event)
        if isinstance(effect, machine.Refuse):
            return self._refusal(tag, effect.reason)
        if isinstance(effect, machine.Replay):
            self.seen.counts["answers sent again"] += 1
            return self.replies[job]
        problem = self._introduce(order) or self._step(order, effect)
        if problem is not None:
            refusal = problem if isinstance(problem, Refusal) else None
            return self._refusal(tag, Reason.NOT_DISCLOSED if refusal else Reason(problem), refusal)
        assert self.model is not None
        self._maybe_die()
        model = name_of(self.model)
        told = transcript(self.windows[order.keys.number].setups, order.keys.number, order.slot, tag, model)
        asked = disclosure.Order(order.keys.number, order.slot, told, f"{order.round}/{model}")
        self.state, (decided,) = disclosure.step(self.state, asked)
        if not isinstance(decided, disclosure.Mask):
            refusal = decided.reason if isinstance(decided, disclosure.Refuse) else Refusal.MODEL_OPENED
            return self._refusal(tag, Reason.NOT_DISCLOSED, refusal)
        self._maybe_die()
        upload = self._masked(encoded(self.codec, self.number, order.round, order.kind, model), told)
        reply = Reply(self.number, tag, None, order.round, upload, told, model)
        self.replies[job] = reply
        self.learned, _ = machine.step(self.learned, machine.Done(job, order.digest))
        return reply

    def _masked(self, plain: Ring, told: str) -> Ring:
        self.seen.plain[told, self.number] = plain
        me, masked = self.number, plain + stream(told, self.number, self.number)
        for other in self.state.participants:
            if other < me:
                masked += stream(told, other, me)
            elif other > me:
                masked -= stream(told, me, other)
        return masked

    def _introduce(self, order: Train) -> Reason | Refusal | None:
        if self.state.window == order.keys.number:
            return None
        if not order.introduces:
            return Reason.NO_KEYS
        event = disclosure.Window(order.keys.number, order.keys.participants)
        self.state, effects = disclosure.step(self.state, event)
        if effects:
            (effect,) = effects
            assert isinstance(effect, disclosure.Refuse)
            return effect.reason
        self.windows[order.keys.number] = order.keys
        self._maybe_die()
        return None

    def _step(self, order: Train, work: machine.Work) -> Reason | None:
        model = self.model
        if work.adopt == "initial":
            model = self.initial
        elif work.adopt == "checkpoint":
            if len(order.signers) < self.bounds.threshold:
                return Reason.BAD_CERTIFICATE
            model = order.model
            self.seen.counts["checkpoints taken"] += 1
        assert model is not None
        if work.apply_sum:
            assert order.summed is not None
            problem = self._objection(order.summed, order.round, model)
            if problem is not None:
                return problem
            model = stepped(self.codec, model, order.summed.total)
            self.newest = max(self.newest, order.summed.window)
        self.model = model
        self.learned, _ = machine.step(self.learned, machine.Stepped(order.round))
        for number in [each for each in self.windows if each < order.keys.number]:
            del self.windows[number]
        return None

    def _objection(self, summed: Summed, round_number: int, model: Vector) -> Reason | None:
        if not self._has_key(summed.window):
            return Reason.NO_TAG_KEY
        tag = (round_number - 1, summed.attempt, "train")
        told = transcript(summed.setups, summed.window, summed.slot, tag, name_of(model))
        if summed.tag != sum_tag(told, summed.survivors, summed.total):
            return Reason.BAD_SUM
        return (
            None if fits(summed.total[:P], self.codec.longest(P, len(summed.survivors))) else Reason.BAD_SUM
        )

    def _has_key(self, window: int) -> bool:
        """The tag key of a window it is or was in, or of the newest sum's as more than c others know it."""
        if window in self.windows or window == self.newest:
            return True
        came = self.windows[self.state.window].came_from
        told = Counter(number for site, number in came.items() if site != self.number)
        number, votes = told.most_common(1)[0]
        return number == window and votes > self.bounds.colluding

    def _disclose(self, ask: Ask) -> Reply:
        tag = (ask.round, ask.attempt, f"{ask.kind}-{ask.number}")
        self._maybe_die()
        order = self.state.orders.get(ask.slot) if self.state.window == ask.window else None
        mine = order.transcript if order is not None else ""
        told = {site: mine if claim == mine else "another" for site, claim in ask.claims.items()}
        event: disclosure.Event = disclosure.Proposal(ask.window, ask.slot, told)
        if ask.kind == "unmask":
            event = disclosure.Question(ask.window, ask.slot, told, ask.agreed)
        self.state, (effect,) = disclosure.step(self.state, event)
        if isinstance(effect, disclosure.Refuse):
            return self._refusal(tag, Reason.NOT_DISCLOSED, effect.reason)
        if isinstance(effect, disclosure.Agree):
            return Reply(self.number, tag, signed=effect.survivors)
        assert isinstance(effect, disclosure.Disclose)
        self.newest = max(self.newest, ask.window)
        return Reply(self.number, tag, shares=effect.shares)
