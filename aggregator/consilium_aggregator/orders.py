"""Makes the orders of one attempt. Sites with the same payload share their arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from consilium.contracts.charter import Charter
from consilium.contracts.envelope import Arrays, Envelope
from consilium.contracts.messages import Order
from consilium.learning import aggregator as machine
from consilium_aggregator import reporting
from consilium_aggregator.checkpoints import Checkpoint
from consilium_aggregator.windows import Window

Slot = tuple[Window, int]


def make_orders(
    charter: Charter,
    run: str,
    state: machine.AggregatorState,
    asks: Sequence[machine.Ask],
    previous: Checkpoint | None,
    initial: Callable[[], bytes],
    slot: Slot | None,
) -> dict[str, Envelope]:
    """One order a site: the model or sum it needs and, for a masked attempt, the slot of its window."""
    made: dict[machine.Payload, tuple[Order, Arrays]] = {}
    orders = {}
    for ask in asks:
        if ask.payload not in made:
            made[ask.payload] = _order(charter, run, state, ask, previous, initial)
        order, arrays = made[ask.payload]
        if slot is not None:
            order, arrays = _with_slot(slot, ask.site, order, arrays)
        orders[ask.site] = Envelope(order.canonical().decode(), arrays)
    return orders


def _order(
    charter: Charter,
    run: str,
    state: machine.AggregatorState,
    ask: machine.Ask,
    previous: Checkpoint | None,
    initial: Callable[[], bytes],
) -> tuple[Order, Arrays]:
    order = Order(
        kind="finish" if state.finishing else "train",
        charter=charter.id,
        run=run,
        round=state.round,
        attempt=state.attempt,
        seconds=reporting.site_seconds(charter.rounds.deadline_seconds),
    )
    if ask.payload == "initial":
        return order, {"initial": np.frombuffer(initial(), np.uint8)}
    if previous is None:
        return order, {}
    closed = previous.closed
    order = order.model_copy(update={"survivors": closed.survivors, "opened": closed.opened})
    if ask.payload == "sum":
        return order, {"sum": previous.total}
    certified = {"model": closed.model, "certificate": closed.certificate}
    arrays: Arrays = {"sum": previous.total, "model": previous.model}
    if charter.model.frozen:
        arrays = {**arrays, "initial": np.frombuffer(initial(), np.uint8)}
    return order.model_copy(update=certified), arrays


def _with_slot(slot: Slot, site: str, order: Order, arrays: Arrays) -> tuple[Order, Arrays]:
    """With window and slot, and with the window's set-ups where the site has not taken them in yet."""
    window, number = slot
    told: dict[str, object] = {"window": window.number, "slot": number}
    if site in window.introduced:
        return order.model_copy(update=told), arrays
    setups, keys = window.introduction(site)
    return order.model_copy(update={**told, "setups": setups}), {**arrays, **keys}
