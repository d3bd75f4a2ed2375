"""Every reason for which a vault discloses nothing, asked of a real one: refused and written down."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from consilium.contracts.envelope import Envelope, unpack
from consilium.contracts.messages import Order, Reply, SignedReply
from consilium.vocabulary import Reason, Refusal
from support import MemoryConsortium

SEVEN = tuple(f"site-{letter}" for letter in "abcdefg")


class Captured:
    """A run of seven hospitals stopped after the first round's uploads; site-a is asked what a liar likes."""

    def __init__(self, root: Path) -> None:
        self.consortium = MemoryConsortium(root, sites=SEVEN, rounds=3, slots=4)
        self.site = self.consortium.sites["site-a"]
        honest = self.consortium.transport.send
        self.held: dict[str, Order] = {}

        def send(tag: Any, orders: Any, seconds: float) -> None:
            if tag[2].startswith("unmask"):
                self.held["unmask"] = Order.parse(orders["site-a"].header, "order")
                raise KeyboardInterrupt
            if tag[2] == "train":
                self.train = orders["site-a"]
            honest(tag, orders, seconds)

        self.consortium.transport.send = send  # type: ignore[method-assign]
        with pytest.raises(KeyboardInterrupt):
            self.consortium.run().attempt(0.0)
        self.question = self.held["unmask"]

    def tell(self, order: Order, arrays: Any = None) -> Reply:
        blob = Envelope(order.canonical().decode(), arrays or {}).pack()
        return SignedReply.parse(unpack(self.site.answer(blob), "answer").header, "reply").reply

    def ask(self, **changes: Any) -> Reply:
        return self.tell(self.question.model_copy(update=changes))

    def upload(self, **changes: Any) -> Reply:
        order = Order.parse(self.train.header, "order").model_copy(update=changes)
        return self.tell(order, self.train.arrays)

    def without(self, *sites: str) -> dict[str, Any]:
        """The question about fewer survivors, with their true claims."""
        kept = [site for site in self.question.survivors if site not in sites]
        claims = tuple(each for each in self.question.claims if each.site in kept)
        return {"survivors": tuple(kept), "claims": claims}


def opened_already(server: Captured) -> Reply:
    assert server.ask().status == "done"
    return server.upload(attempt=2, slot=1, setups=())


def asked_twice(server: Captured) -> Reply:
    assert server.ask().status == "done"
    return server.ask(**server.without("site-g"))


def moved_on(server: Captured) -> Reply:
    assert server.upload(attempt=2, slot=1, setups=()).status == "done"
    return server.ask()


def shortened(server: Captured) -> Reply:
    order = Order.parse(server.train.header, "order")
    few, keys = order.setups[:4], server.train.arrays
    arrays = {**keys, "masks": keys["masks"][:4], "boxes": keys["boxes"][:4]}
    fresh = {"window": 1, "attempt": 2, "slot": 0, "setups": few}
    return server.tell(order.model_copy(update=fresh), arrays)


LIES: dict[Refusal, Callable[[Captured], Reply]] = {
    Refusal.OTHER_WINDOW: lambda server: server.ask(window=1),
    Refusal.NOT_UPLOADED: lambda server: server.ask(slot=1),
    Refusal.LEFT_OUT: lambda server: server.ask(**server.without("site-a")),
    Refusal.TOO_FEW_SURVIVORS: lambda server: server.ask(**server.without(*SEVEN[4:])),
    Refusal.NOT_AGREED: lambda server: server.ask(**server.without("site-f", "site-g")),
    Refusal.NOT_A_PARTICIPANT: lambda server: server.ask(survivors=(*SEVEN, "site-x")),
    Refusal.OTHER_TRANSCRIPT: lambda server: server.ask(claims=server.question.claims[1:]),
    Refusal.OTHER_SET: asked_twice,
    Refusal.SLOT_USED: lambda server: server.upload(attempt=2, setups=()),
    Refusal.MODEL_OPENED: opened_already,
    Refusal.LATER_UPLOAD: moved_on,
}


@pytest.mark.parametrize("refusal", LIES)
def test_refused_written_down_and_nothing_given(tmp_path: Path, refusal: Refusal) -> None:
    server = Captured(tmp_path)
    reply = LIES[refusal](server)
    assert (reply.status, reply.reason, reply.refusal) == ("refused", Reason.NOT_DISCLOSED, refusal)
    assert (reply.shares, reply.upload, reply.claim) == (None, None, None)
    assert server.site.ledger.refusals("run-1")[-1][1] == refusal


def test_a_shortened_list_of_participants_is_refused(tmp_path: Path) -> None:
    """Its set-ups are signed for another window, so it fails before the number of sites is counted."""
    reply = shortened(Captured(tmp_path))
    assert (reply.status, reply.reason) == ("refused", Reason.BAD_SETUP)


def test_the_lies_cover_every_reason() -> None:
    """`too_few_participants` needs set-ups of fewer than T sites that T channel keys were signed for."""
    assert set(LIES) | {Refusal.TOO_FEW_PARTICIPANTS} == set(Refusal)


def test_the_honest_question_is_answered_again_and_again(tmp_path: Path) -> None:
    server = Captured(tmp_path)
    assert {server.ask().shares for _ in range(3)} == {server.ask().shares}
    assert server.site.ledger.refusals("run-1") == []
