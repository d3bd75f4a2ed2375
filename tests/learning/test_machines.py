"""Properties of the two state machines under any order of events."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from consilium.learning import aggregator as agg
from consilium.learning import site
from consilium.vocabulary import Decision, Reason

ROSTER = ("a", "b", "c", "d")
EVENTS = st.one_of(
    st.frozensets(st.sampled_from(ROSTER)).map(agg.Opened),
    st.builds(agg.Uploaded, st.sampled_from((*ROSTER, "stranger")), st.integers(0, 6)),
    st.builds(
        agg.Refused, st.sampled_from((*ROSTER, "stranger")), st.sampled_from(Reason), st.integers(0, 6)
    ),
    st.just(agg.DeadlinePassed()),
)


@given(st.lists(EVENTS, max_size=60), st.integers(1, 4), st.integers(1, 4))
def test_the_aggregator_never_repeats_an_attempt_nor_adds_twice(
    events: list[agg.Event], count: int, minimum: int
) -> None:
    state = agg.start(ROSTER, count, minimum)
    attempts: set[tuple[int, int]] = set()
    added: set[tuple[int, int, str]] = set()
    closed: list[int] = []
    for event in events:
        if isinstance(event, agg.Opened) and state.phase in ("gathering", "finished", "failed"):
            continue
        before = state
        state, effects = agg.step(state, event)
        if isinstance(event, agg.Opened):
            number = (before.round, before.attempt + 1)
            assert number not in attempts
            attempts.add(number)
        for effect in effects:
            if isinstance(effect, agg.Add):
                key = (before.round, before.attempt, effect.site)
                assert key not in added
                assert effect.site in before.waiting
                added.add(key)
            if isinstance(effect, agg.Close):
                closed.append(before.round)
                assert len(effect.survivors) >= (1 if before.finishing else minimum)
                assert set(effect.survivors) | set(effect.missing) == set(ROSTER)
                assert not set(effect.survivors) & set(effect.missing)
    assert closed == sorted(set(closed))
    assert closed == list(range(1, len(closed) + 1))


@given(st.data())
def test_the_aggregator_always_ends(data: st.DataObject) -> None:
    """Whatever the sites do, a deadline for every attempt ends the run after a bounded number of attempts."""
    state = agg.start(ROSTER, 3, 2)
    for _ in range(4 * agg.ATTEMPTS):
        if state.phase in ("finished", "failed"):
            break
        state, _ = agg.step(state, agg.Opened(data.draw(st.frozensets(st.sampled_from(ROSTER)))))
        for name in data.draw(st.permutations(ROSTER)):
            if data.draw(st.booleans()):
                state, _ = agg.step(state, agg.Uploaded(name, state.round))
        state, _ = agg.step(state, agg.DeadlinePassed())
    assert state.phase in ("finished", "failed")


def test_a_site_behind_gets_a_checkpoint_and_others_the_sum_alone() -> None:
    assert agg.payload_for(1, 0) == "initial"
    assert agg.payload_for(3, 3) == "sum"
    assert agg.payload_for(3, 2) == "sum"
    assert agg.payload_for(3, 1) == "sum+model"


ORDERS = st.builds(
    site.Ordered,
    st.sampled_from(["j1", "j2", "j3"]),
    st.sampled_from(["d1", "d2"]),
    st.sampled_from(["train", "finish"]),
    st.integers(1, 6),
    st.frozensets(st.sampled_from(["initial", "sum", "model"])),
    st.sampled_from(Decision),
)


@given(st.lists(ORDERS, max_size=40))
def test_a_site_works_only_when_approved_forward_and_once_a_job(orders: list[site.Ordered]) -> None:
    state = site.SiteState()
    done: dict[str, str] = {}
    for order in orders:
        before = state.holds
        state, (effect,) = site.step(state, order)
        if order.decision is not Decision.APPROVED:
            assert isinstance(effect, site.Refuse)
        if isinstance(effect, site.Replay):
            assert done[order.job] == order.digest
        if isinstance(effect, site.Work):
            assert order.job not in done
            assert order.round >= before
            assert effect.adopt != "nothing" or before in (order.round, order.round - 1)
            assert effect.apply_sum == (order.round > 1 and before < order.round)
            state, _ = site.step(state, site.Stepped(order.round))
            state, _ = site.step(state, site.Done(order.job, order.digest))
            done[order.job] = order.digest
        assert state.holds >= before
