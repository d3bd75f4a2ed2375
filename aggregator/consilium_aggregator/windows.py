"""The aggregator's side of a window: collect channel keys, then set-ups, and hand them on to the vaults.

Nothing here is secret: keys are public, shares sealed. A window lives as long as the launch; a new launch
opens the next one, whose number is on disk before it is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from consilium.contracts.charter import Charter
from consilium.contracts.envelope import Envelope
from consilium.contracts.masked import (
    SignedChannel,
    SignedSetup,
    channels_digest,
    setups_digest,
    signed_by,
    window_context,
)
from consilium.contracts.messages import Order, Reply
from consilium.files import sha256_hex
from consilium.privacy.window import Dealt, Plan, usable
from consilium.vocabulary import Reason

Replies = dict[str, tuple[Reply, Envelope]]
Exchange = Callable[[Mapping[str, Order]], tuple[Replies, dict[str, Reason]]]
"""Sends each site its order; the signed, bound, `done` replies that came, and why the others did not."""
MakeOrder = Callable[..., Order]


@dataclass
class Window:
    """One window's participants, and who has been introduced to it."""

    number: int
    plan: Plan
    setups: dict[str, SignedSetup]
    dealt: dict[str, Dealt]
    without: dict[str, Reason]
    """Sites that were asked for keys and gave none, with the reason."""
    channels: dict[str, SignedChannel] = field(default_factory=dict)
    """The participants' channel keys for the next window, sent along with their set-ups."""
    next_slot: int = 0
    introduced: set[str] = field(default_factory=set)

    @property
    def participants(self) -> frozenset[str]:
        """The sites with keys in this window."""
        return frozenset(self.setups)

    @property
    def digest(self) -> str:
        """What transcripts call the participants' set-ups."""
        return setups_digest(self.setups.values())

    def index(self, site: str) -> int:
        """A site's number in the roster."""
        return self.plan.sites.index(site)

    def introduction(self, site: str) -> tuple[tuple[SignedSetup, ...], dict[str, NDArray[np.uint8]]]:
        """What one vault needs to open the window: all set-ups, mask keys, and its own boxes."""
        names = sorted(self.setups)
        masks = np.stack([self.dealt[name].masks.reshape(-1) for name in names])
        boxes = np.stack([self.dealt[name].boxes[self.index(site)] for name in names])
        return tuple(self.setups[name] for name in names), {"masks": masks, "boxes": boxes}


def open_window(
    charter: Charter,
    run: str,
    number: int,
    sites: Iterable[str],
    before: Window | None,
    order: MakeOrder,
    exchange: Exchange,
) -> Window:
    """One exchange of set-ups; one of channel keys first for sites that gave none in the window `before`.

    The window has those that completed both.
    """
    agg = charter.secure_aggregation
    names = tuple(member.site for member in charter.roster)
    plan = Plan(names, agg.threshold, agg.slots, window_context(charter.id, run, number))
    sites = sorted(sites)
    known = before.channels if before is not None and before.number + 1 == number else {}
    channels = {site: known[site] for site in sites if site in known}
    asked = {site: order(kind="channel", window=number) for site in sites if site not in channels}
    answers, without = exchange(asked) if asked else ({}, {})
    channels |= _channels(charter, run, number, answers)
    window = Window(number, plan, {}, {}, {**dict.fromkeys(sites, Reason.BAD_SETUP), **without})
    if len(channels) < agg.threshold:
        window.without |= dict.fromkeys(channels, Reason.NO_KEYS)
        return window
    made = order(kind="setup", window=number, channels=tuple(channels[site] for site in sorted(channels)))
    answers, without = exchange(dict.fromkeys(channels, made))
    window.without |= without
    digest = channels_digest(channels.values())
    for site, (reply, envelope) in answers.items():
        found = _dealt(charter, run, number, plan, site, reply, envelope, digest)
        if found is not None and reply.setup is not None:
            window.setups[site], window.dealt[site] = reply.setup, found
            del window.without[site]
    window.channels = _channels(charter, run, number + 1, answers)
    return window


def _channels(
    charter: Charter, run: str, number: int, answers: Mapping[str, tuple[Reply, Envelope]]
) -> dict[str, SignedChannel]:
    found = {}
    for site, (reply, _) in answers.items():
        signed = reply.channel
        if signed is None:
            continue
        body = signed.channel
        bound = (body.charter, body.run, body.window, body.site) == (charter.id, run, number, site)
        if bound and signed_by(charter, site, "channel", body, signed.signature):
            found[site] = signed
    return found


def _dealt(
    charter: Charter,
    run: str,
    number: int,
    plan: Plan,
    site: str,
    reply: Reply,
    envelope: Envelope,
    channels: str,
) -> Dealt | None:
    """A site's arrays if they have the hashes and sizes that its signed set-up and the charter give."""
    signed = reply.setup
    if signed is None:
        return None
    body, n = signed.setup, len(plan.sites)
    bound = (body.charter, body.run, body.window, body.site, body.channels)
    if bound != (charter.id, run, number, site, channels):
        return None
    if not signed_by(charter, site, "setup", body, signed.signature):
        return None
    shapes: dict[str, tuple[int, ...]] = {
        "masks": (plan.slots, 32),
        "seed_hashes": (plan.slots, 32),
        "share_hashes": (plan.slots, n, 2, 32),
        "boxes": (n, plan.row),
    }
    arrays: dict[str, Any] = {}
    for name, shape in shapes.items():
        array = envelope.arrays.get(name)
        if array is None or array.dtype != np.uint8 or array.size != int(np.prod(shape)):
            return None
        if sha256_hex(np.ascontiguousarray(array).data) != getattr(body, name):
            return None
        arrays[name] = array.reshape(shape)
    return Dealt(**arrays) if usable(arrays["masks"]) else None
