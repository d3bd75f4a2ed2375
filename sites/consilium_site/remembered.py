"""The disclosure machine's state and a window's secrets, as text for the vault's store."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from types import MappingProxyType

from consilium.learning.disclosure import Bounds, Order, State
from consilium.privacy.window import Held, Secrets


def state_text(state: State) -> str:
    """The state as JSON; the site's number and bounds come from the charter and are left out."""
    return json.dumps(
        {
            "window": state.window,
            "participants": sorted(state.participants),
            "next_slot": state.next_slot,
            "orders": {slot: [order.transcript, order.model] for slot, order in state.orders.items()},
            "agreed": {slot: sorted(sites) for slot, sites in state.agreed.items()},
            "answered": {slot: sorted(sites) for slot, sites in state.answered.items()},
            "opened": {model: list(at) for model, at in state.opened.items()},
        }
    )


def state_of(text: str | None, site: int, bounds: Bounds) -> State:
    """What `state_text` wrote; a fresh state for None."""
    fresh = State(site, bounds)
    if text is None:
        return fresh
    told = json.loads(text)
    window = int(told["window"])
    sets = {
        name: MappingProxyType({int(slot): frozenset(sites) for slot, sites in told[name].items()})
        for name in ("agreed", "answered")
    }
    orders = {
        int(slot): Order(window, int(slot), transcript, model)
        for slot, (transcript, model) in told["orders"].items()
    }
    return replace(
        fresh,
        window=window,
        participants=frozenset(told["participants"]),
        next_slot=int(told["next_slot"]),
        orders=MappingProxyType(orders),
        agreed=sets["agreed"],
        answered=sets["answered"],
        opened=MappingProxyType({model: (at[0], at[1]) for model, at in told["opened"].items()}),
    )


def opened_elsewhere(texts: Iterable[str]) -> dict[str, tuple[int, int]]:
    """Models that were opened in other runs, in a window that is none of this run's."""
    return {model: (-1, -1) for text in texts for model in json.loads(text)["opened"]}


def secrets_text(secrets: Secrets) -> str:
    """A window's secrets as JSON, in hex."""
    return json.dumps(
        {
            "channel": secrets.channel.hex(),
            "masks": [key.hex() for key in secrets.masks],
            "seeds": [seed.hex() for seed in secrets.seeds],
            "own": [[piece.hex() for piece in pair] for pair in secrets.own],
            "tag_part": secrets.tag_part.hex(),
        }
    )


def held_text(held: Held) -> str:
    """What a site keeps of an open window, as JSON in hex."""
    return json.dumps(
        {
            "masks": [key.hex() for key in held.masks],
            "seeds": [seed.hex() for seed in held.seeds],
            "shares": [
                {dealer: [piece.hex() for piece in pair] for dealer, pair in slot.items()}
                for slot in held.shares
            ],
            "tag_key": held.tag_key.hex(),
            "old_key": held.old_key.hex(),
            "old_key_votes": held.old_key_votes,
        }
    )


def held_of(text: str) -> Held:
    """What `held_text` wrote."""
    told = json.loads(text)
    return Held(
        masks=tuple(map(bytes.fromhex, told["masks"])),
        seeds=tuple(map(bytes.fromhex, told["seeds"])),
        shares=tuple(
            {int(dealer): (bytes.fromhex(mask), bytes.fromhex(seed)) for dealer, (mask, seed) in slot.items()}
            for slot in told["shares"]
        ),
        tag_key=bytes.fromhex(told["tag_key"]),
        old_key=bytes.fromhex(told["old_key"]),
        old_key_votes=told["old_key_votes"],
    )


def secrets_of(text: str) -> Secrets:
    """What `secrets_text` wrote."""
    told = json.loads(text)
    return Secrets(
        channel=bytes.fromhex(told["channel"]),
        masks=tuple(map(bytes.fromhex, told["masks"])),
        seeds=tuple(map(bytes.fromhex, told["seeds"])),
        own=tuple((bytes.fromhex(mask), bytes.fromhex(seed)) for mask, seed in told["own"]),
        tag_part=bytes.fromhex(told["tag_part"]),
    )
