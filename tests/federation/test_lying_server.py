"""Whatever a server and c helpers ask, they open one sum of a model at most, of enough sites."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lying_server import World, lie

from consilium.learning import disclosure
from consilium.learning.disclosure import Agree, Disclose, Order, Proposal, Question, Window
from consilium.vocabulary import Refusal


def honest_round(world: World, slot: int, model: str, dropped: frozenset[int]) -> None:
    """What a server does that follows the protocol: one order for all, one set for all."""
    sites = sorted(world.states)
    if all(world.states[site].window < 0 for site in sites):
        for site in sites:
            world.tell(site, Window(0, frozenset(sites)))
    up = [site for site in sites if site not in dropped]
    for site in up:
        world.tell(site, Order(0, slot, world.transcript(site, slot, model, ""), model))
    told = {site: world.uploads[0, slot][site].transcript for site in up}
    signers: set[int] = set()
    if len(dropped) > world.bounds.freely_missing:
        signers = {s for s in up if any(isinstance(e, Agree) for e in world.tell(s, Proposal(0, slot, told)))}
    for site in up:
        world.tell(site, Question(0, slot, told, frozenset(signers)))


@settings(max_examples=60, deadline=None)
@given(st.integers(3, 12), st.data())
def test_an_honest_server_opens_exactly_the_survivors(n: int, data: st.DataObject) -> None:
    world = World.of(n, frozenset())
    most = n - world.bounds.threshold
    dropped = data.draw(st.frozensets(st.integers(0, n - 1), max_size=most))
    honest_round(world, 0, "m0", dropped)
    assert world.opened() == {"m0": {frozenset(range(n)) - dropped}}
    assert world.refused == {}
    world.check()


@pytest.mark.parametrize("n", [3, 4, 7, 10])
def test_one_drop_too_many_opens_nothing(n: int) -> None:
    world = World.of(n, frozenset())
    dropped = frozenset(range(n - world.bounds.threshold + 1))
    honest_round(world, 0, "m0", dropped)
    assert world.opened() == {}
    assert set(world.refused) == {Refusal.TOO_FEW_SURVIVORS}
    honest_round(world, 1, "m0", frozenset())
    assert world.opened() == {"m0": {frozenset(range(n))}}


@settings(max_examples=300, deadline=None)
@given(st.integers(3, 10), st.integers(0, 2**32), st.booleans())
def test_a_lying_server_opens_one_sum_of_enough_sites(n: int, seed: int, helped: bool) -> None:
    rng = random.Random(seed)
    bounds = World.of(n, frozenset()).bounds
    helpers = frozenset(rng.sample(range(n), bounds.colluding)) if helped else frozenset()
    world = World.of(n, helpers)
    lie(world, rng, 40)
    world.check()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_a_lying_server_for_long(seed: int) -> None:
    """About 20,000 lies a seed."""
    rng = random.Random(seed)
    for _ in range(250):
        n = rng.randint(3, 12)
        bounds = World.of(n, frozenset()).bounds
        world = World.of(n, frozenset(rng.sample(range(n), rng.randint(0, bounds.colluding))))
        lie(world, rng, 80)
        world.check()


def without(rule: Refusal, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take one rule out of the machine."""
    objection, answer = disclosure._objection, disclosure._answer
    if rule is Refusal.OTHER_SET:
        monkeypatch.setattr(
            disclosure, "_objection", lambda s, e: None if (r := objection(s, e)) is rule else r
        )
    elif rule is Refusal.MODEL_OPENED:

        def forgetful(state, question, chosen):  # type: ignore[no-untyped-def]
            after, effects = answer(state, question, chosen)
            return replace(after, opened={}), effects

        monkeypatch.setattr(disclosure, "_answer", forgetful)
    else:
        everyone = frozenset(range(100))
        monkeypatch.setattr(
            disclosure, "_answer", lambda s, q, who: answer(s, replace(q, agreed=everyone), who)
        )


@pytest.mark.parametrize("rule", [Refusal.OTHER_SET, Refusal.MODEL_OPENED])
def test_without_a_rule_the_same_server_succeeds(rule: Refusal, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above can fail: take out one rule, and some lie opens what it must not.

    Refusals for a later upload, too few survivors and another transcript are second lines of defence: the
    threshold and the transcript in the keys hold without them.
    """
    without(rule, monkeypatch)
    broken = 0
    for seed in range(400):
        rng = random.Random(seed)
        n = rng.randint(3, 7)
        bounds = World.of(n, frozenset()).bounds
        world = World.of(n, frozenset(rng.sample(range(n), bounds.colluding)))
        lie(world, rng, 60)
        try:
            world.check()
        except AssertionError:
            broken += 1
    assert broken > 0


DROPPED = {0: {2, 3}, 1: {2, 4}, 2: {3, 4}, 3: {2, 4}, 4: {3}}
"""Seven sites, 5 and 6 help: whom the server tells each honest site to count as dropped."""


@pytest.mark.parametrize("rule", [None, Refusal.NOT_AGREED])
def test_many_small_lies_about_who_dropped_add_up_only_without_agreement(
    rule: Refusal | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each honest site hears of two missing at most, all of different ones: together three are dropped."""
    if rule is not None:
        without(rule, monkeypatch)
    world = World.of(7, frozenset({5, 6}))
    for site in range(5):
        world.tell(site, Window(0, frozenset(range(7))))
        world.tell(site, Order(0, 0, world.transcript(site, 0, "m0", ""), "m0"))
    for site, dropped in DROPPED.items():
        told = dict.fromkeys(set(range(7)) - dropped, world.uploads[0, 0][0].transcript)
        world.tell(site, Question(0, 0, told, frozenset({5, 6})))
    if rule is None:
        assert world.refused[Refusal.NOT_AGREED] == 4
        world.check()
    else:
        assert world.opened() == {"m0": {frozenset({0, 1})}}
        with pytest.raises(AssertionError, match="fewer than 3"):
            world.check()


def test_disclosures_are_what_the_world_counts() -> None:
    """The symbolic world reads real effects: one honest round gives every site's seed to every holder."""
    world = World.of(4, frozenset())
    honest_round(world, 0, "m0", frozenset({3}))
    assert world.known((0, 0), "seed") == {0, 1, 2}
    assert world.known((0, 0), "mask") == {3}
    assert isinstance(Disclose(0, {}), Disclose)
