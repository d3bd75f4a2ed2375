"""A run to its end, whatever happens: lives of the server's process, with the real aggregator machine.

`Launch` does what `consilium_aggregator.run` and `.masked` do around the machine. `Simulation` starts one
after the other, and compares what came out with a run in which nothing went wrong.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

import numpy as np
from million_network import CALM, DEADLINE, Closed, Network, Question, Weather
from million_vault import (
    WORDS,
    Ask,
    Died,
    Keys,
    Reply,
    Ring,
    Summed,
    Tag,
    Train,
    Vector,
    codec_of,
    encoded,
    name_of,
    stepped,
    stream,
    sum_tag,
    transcript,
)

from consilium.learning import aggregator as machine
from consilium.vocabulary import Reason

TRIES, REJOIN_SLOTS = 5, 4


class Launch:
    """One life of the server's process."""

    def __init__(self, world: Network) -> None:
        self.world, self.disk, self.bounds = world, world.disk, world.bounds
        disk, closed = self.disk, len(self.disk.closed)
        last = disk.noted[1] if disk.noted[0] == closed + 1 else 0
        least = self.bounds.threshold
        self.state = machine.start(world.names, world.count, least, closed, last, finish_minimum=least)
        self.model = self._model()
        self.keys: Keys | None = None
        self.next_slot = 0
        self.without: frozenset[int] = frozenset()
        self.introduced: set[int] = set()

    def go(self) -> None:
        """Finish what was asked, then attempt after attempt."""
        self._finish_asked()
        while self.state.phase not in ("finished", "failed"):
            self._attempt()
            self._maybe_die()

    def _maybe_die(self) -> None:
        chance = self.world.weather.server_dies
        if chance and self.world.rng.random() < chance:
            raise Died

    def _model(self) -> Vector:
        if not self.disk.closed:
            return self.world.initial
        last = self.disk.closed[-1]
        return stepped(codec_of(self.bounds.sites), last.model, last.total)

    def _attempt(self) -> None:
        world = self.world
        world.counts["attempts"] += 1
        tag: Tag = (self.state.round, self.state.attempt + 1, "finish" if self.state.finishing else "train")
        self.disk.noted = tag[:2]
        online = frozenset(
            site for site in range(self.bounds.sites) if world.rng.random() >= world.weather.offline
        )
        self._prepare(online)
        members = self.keys.participants if self.keys else frozenset()
        keyless = {world.names[site]: Reason.NO_KEYS for site in online - members}
        named = frozenset(world.names[site] for site in online)
        self.state, effects = machine.step(self.state, machine.Opened(named, keyless))
        asks = [effect for effect in effects if isinstance(effect, machine.Ask)]
        if asks:
            slot, self.next_slot = self.next_slot, self.next_slot + 1
            total, told = self._send(asks, tag, slot)
            effects = self._gather(tag, told, total)
        for effect in effects:
            if isinstance(effect, machine.Close):
                self._close(effect, tag, slot, told, total)
            elif isinstance(effect, machine.GiveUp):
                world.counts["failed"] += 1

    def _prepare(self, online: frozenset[int]) -> None:
        """A new window where one is due; who gives no keys is out of it."""
        keys, world = self.keys, self.world
        if keys is not None and self.next_slot < world.slots:
            keyless = online - keys.participants
            enough = len(online & keys.participants) >= self.bounds.threshold
            if enough and not keyless - self.without and (self.next_slot < REJOIN_SLOTS or not keyless):
                return
        self.disk.window += 1
        world.counts["windows"] += 1
        lost = world.weather.lost
        members = frozenset(site for site in online if world.rng.random() >= 2 * lost)
        came = {site: world.vaults[site].newest for site in members}
        number = self.disk.window
        setups = f"{number}:{''.join(map(str, sorted(members)))}"
        self.keys = Keys(number, members, setups, came) if len(members) >= self.bounds.threshold else None
        self.next_slot, self.without, self.introduced = 0, online - members, set()
        self._maybe_die()

    def _send(self, asks: list[machine.Ask], tag: Tag, slot: int) -> tuple[Ring, str]:
        assert self.keys is not None
        last = self.disk.closed[-1] if self.disk.closed else None
        signers = last.survivors if last else frozenset()
        for ask in asks:
            site = int(ask.site)
            away = "model" in ask.payload and last is not None
            self.world.counts["checkpoints sent"] += away
            order = Train(
                tag[2],
                *tag[:2],
                self.keys,
                site not in self.introduced,
                slot,
                ask.payload,
                self.disk.summed if "sum" in ask.payload else None,
                last.model if away and last else None,
                signers,
            )
            self.world.send(site, order)
        told = transcript(self.keys.setups, self.keys.number, slot, tag, name_of(self.model))
        return np.zeros(WORDS, np.uint32), told

    def _gather(self, tag: Tag, told: str, total: Ring) -> tuple[machine.Effect, ...]:
        for reply in self.world.replies(self.world.now + DEADLINE):
            if reply.tag != tag:
                self.world.counts["late replies"] += 1
                continue
            name = self.world.names[reply.site]
            event: machine.Event = machine.Uploaded(name, reply.holds)
            if reply.reason is not None:
                event = machine.Refused(name, reply.reason, reply.holds)
            elif reply.transcript != told:
                event = machine.Refused(name, Reason.BAD_MESSAGE)
            self.state, effects = machine.step(self.state, event)
            if machine.Add(name) in effects:
                assert reply.upload is not None
                total += reply.upload
                self.introduced.add(reply.site)
            if self.state.phase != "gathering":
                return effects
        self.state, effects = machine.step(self.state, machine.DeadlinePassed())
        return effects

    def _close(self, close: machine.Close, tag: Tag, slot: int, told: str, total: Ring) -> None:
        assert self.keys is not None
        survivors = frozenset(int(name) for name in close.survivors)
        self._maybe_die()
        question = Question(tag, slot, self.keys, told, survivors, total, name_of(self.model))
        self.disk.question = question
        self._maybe_die()
        if self._unmask(question):
            self.disk.question = None

    def _finish_asked(self) -> None:
        question = self.disk.question
        if question is None or question.tag[0] != self.state.round:
            return
        assert question.model == name_of(self.model)
        self.world.counts["questions of an earlier launch"] += 1
        if self._unmask(question, again=True):
            self.disk.question = None

    def _unmask(self, question: Question, again: bool = False) -> bool:
        total = self._open(question)
        if total is None:
            self.state = machine.stop(self.state)
            self.world.counts["failed"] += 1
            return False
        self.world.note_opened(question, total)
        self._maybe_die()
        if again:
            self.state = machine.close_asked(self.state)
        closed = Closed(question.tag[0], question.survivors, total, self.model)
        if question.tag[2] == "finish":
            self.disk.finished = closed
            return True
        keys, tagged = question.keys, sum_tag(question.transcript, question.survivors, total)
        where = (keys.number, keys.setups, question.slot, question.tag[1])
        self.disk.summed = Summed(total, question.survivors, *where, tagged)
        self.disk.closed.append(closed)
        self._maybe_die()
        self.model = self._model()
        return True

    def _open(self, question: Question) -> Ring | None:
        """The sum behind a question; None if too few sites disclose."""
        agreed = self._agreed(question)
        if agreed is None:
            return None
        holders: dict[int, set[int]] = {site: set() for site in question.keys.participants}
        waiting = set(question.survivors)

        def take(reply: Reply) -> bool:
            assert reply.shares is not None
            waiting.discard(reply.site)
            for site, kind in reply.shares.items():
                assert kind == ("seed" if site in question.survivors else "mask")
                holders[site].add(reply.site)
            return all(len(found) >= self.bounds.threshold for found in holders.values())

        for number in range(TRIES):
            if self._exchange(self._ask(question, "unmask", number, agreed), waiting, take):
                return self._unmasked(question)
            if not waiting:
                return None
        return None

    def _agreed(self, question: Question) -> frozenset[int] | None:
        if self.bounds.sites - len(question.survivors) <= self.bounds.freely_missing:
            return frozenset()
        found: set[int] = set()
        self.world.counts["agreements"] += 1

        def take(reply: Reply) -> bool:
            if reply.signed == question.survivors:
                found.add(reply.site)
            return len(found) >= self.bounds.threshold

        for number in range(TRIES):
            ask = self._ask(question, "agree", number, frozenset())
            if self._exchange(ask, set(question.survivors) - found, take):
                return frozenset(found)
        return None

    def _ask(self, question: Question, kind: str, number: int, agreed: frozenset[int]) -> Ask:
        claims = dict.fromkeys(question.survivors, question.transcript)
        where = (question.keys.number, question.slot)
        return Ask(kind, number, *question.tag[:2], *where, claims, agreed)

    def _exchange(self, ask: Ask, sites: set[int], take: Callable[[Reply], bool]) -> bool:
        """Ask these sites; True once `take` has enough of their answers."""
        tag, waiting = (ask.round, ask.attempt, f"{ask.kind}-{ask.number}"), set(sites)
        for site in sorted(sites):
            self.world.send(site, ask)
        for reply in self.world.replies(self.world.now + DEADLINE):
            if reply.tag != tag or reply.site not in waiting:
                continue
            waiting.discard(reply.site)
            self._maybe_die()
            if reply.reason is None and take(reply):
                return True
            if not waiting:
                return False
        return False

    def _unmasked(self, question: Question) -> Ring:
        """Take the masks off, as `consilium.privacy.opening` does."""
        total, told = question.total.copy(), question.transcript
        for site in question.survivors:
            total -= stream(told, site, site)
        for gone in question.keys.participants - question.survivors:
            for site in question.survivors:
                pair = stream(told, min(gone, site), max(gone, site))
                total += np.negative(pair) if gone < site else pair
        return total


class Simulation(Network):
    """One run of `count` rounds to its end; `rounds` counts those closed or failed."""

    def run(self, patience: int = 40) -> None:
        """Launch after launch until the run has finished; after `patience` of them the weather is calm."""
        while self.disk.finished is None:
            self.launches += 1
            assert self.launches < patience + 20, "a run in calm weather must finish"
            if self.launches > patience:
                self.weather = CALM
            for vault in self.vaults:
                vault.deaths = self.weather.vault_dies
            try:
                Launch(self).go()
            except Died:
                pass

    @property
    def rounds(self) -> int:
        """Rounds closed, the finish too, and rounds that a launch gave up."""
        return len(self.disk.closed) + 1 + self.counts["failed"]

    def undisturbed(self) -> None:
        """Compare with a run in which nothing goes wrong and nothing is masked: same survivors, same bits."""
        codec, model = codec_of(self.bounds.sites), self.initial
        models = [model]
        finished = self.disk.finished
        assert finished is not None
        assert [each.round for each in self.disk.closed] == list(range(1, self.count + 1))
        for each in [*self.disk.closed, finished]:
            kind = "finish" if each is finished else "train"
            assert each.model.tobytes() == model.tobytes()
            name, total = name_of(model), np.zeros(WORDS, np.uint32)
            for site in sorted(each.survivors):
                total += encoded(codec, site, each.round, kind, name)
            assert total.tobytes() == each.total.tobytes()
            if each is not finished:
                model = stepped(codec, model, total)
                models.append(model)
        for vault in self.vaults:
            if vault.model is not None:
                assert vault.model.tobytes() == models[vault.learned.holds - 1].tobytes()


def seasons(rng: random.Random) -> Weather:
    """Weather at random: from a calm run to one where nearly every attempt loses something."""
    rough = rng.choice([0.0, 0.01, 0.03, 0.06, 0.1])
    return Weather(
        lost=rough * rng.random(),
        late=rough * rng.random(),
        doubled=rough,
        offline=rough * rng.random(),
        vault_dies=rough * rng.random() / 4,
        server_dies=rough * rng.random() / 2,
    )


def batch(seed: int, rounds: int) -> Counter[str]:
    """Runs of one seed until so many rounds have closed or failed; what happened in them."""
    rng, counts = random.Random(seed), Counter[str]()
    while counts["rounds"] < rounds:
        sites = rng.choice((3, 4, 4, 5, 6, 7, 10))
        world = Simulation(rng, seasons(rng), sites, rng.randint(2, 8), rng.randint(1, 8))
        try:
            world.run()
            world.undisturbed()
        except AssertionError as error:
            number = counts["runs"]
            raise AssertionError(f"seed {seed}, run {number}, {world.weather}: {error}") from error
        counts += world.counts + world.seen.counts
        counts.update(runs=1, rounds=world.rounds, launches=world.launches)
    return counts
