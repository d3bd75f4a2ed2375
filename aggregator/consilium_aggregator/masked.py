"""Masked sums at the aggregator: windows of keys, and from the question on disk to the opened sum."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from consilium.contracts.charter import Charter
from consilium.contracts.envelope import Envelope
from consilium.contracts.masked import SetAgreement, SiteSignature, Transcript
from consilium.contracts.messages import Order, Reply
from consilium.files import sha256_hex, write_atomic
from consilium.learning.disclosure import Bounds
from consilium.privacy.opening import Opening
from consilium.privacy.shamir import SHARE_BYTES
from consilium.privacy.signatures import verify
from consilium.vocabulary import Reason
from consilium_aggregator.exchange import Exchanges
from consilium_aggregator.ports import Tag
from consilium_aggregator.question import Asked
from consilium_aggregator.windows import Exchange, Replies, Window, open_window

log = logging.getLogger(__name__)
KEY_SECONDS = 60.0
"""Time limit of an exchange about keys or shares: no site computes anything long for it."""
TRIES = 5
REJOIN_SLOTS = 4
"""A site that gave no keys when asked is asked again after so many attempts; one that was away, at once."""


class MaskedSums:
    """Windows and questions of one run."""

    def __init__(self, charter: Charter, run: str, folder: Path, exchanges: Exchanges) -> None:
        self.charter, self.run, self.folder, self.exchanges = charter, run, folder, exchanges
        agg = charter.secure_aggregation
        self.bounds = Bounds(len(charter.roster), agg.threshold, agg.colluding)
        self.window: Window | None = None

    def prepare(self, online: frozenset[str], tag: Tag) -> dict[str, Reason]:
        """Open a window if one is needed; returns the online sites without keys, and why they have none."""
        if self._window_due(online):
            number = self._next_number()

            def order(**fields: Any) -> Order:
                return self._order(tag, **fields)

            exchange = self._exchange(tag)
            self.window = open_window(self.charter, self.run, number, online, self.window, order, exchange)
            log.info("window %d: keys from %d sites", number, len(self.window.setups))
        assert self.window is not None
        if len(self.window.setups) < self.bounds.threshold:
            return {site: self.window.without.get(site, Reason.NO_KEYS) for site in online}
        keyless = online - self.window.participants
        return {site: self.window.without.get(site, Reason.NO_KEYS) for site in keyless}

    def _window_due(self, online: frozenset[str]) -> bool:
        window = self.window
        if window is None or window.next_slot >= window.plan.slots:
            return True
        if len(online & window.participants) < self.charter.rounds.minimum_sites:
            return True
        keyless = online - window.participants
        return bool(keyless - set(window.without)) or (window.next_slot >= REJOIN_SLOTS and bool(keyless))

    def _exchange(self, tag: Tag) -> Exchange:
        def exchange(orders: Mapping[str, Order]) -> tuple[Replies, dict[str, Reason]]:
            found: Replies = {}

            def take(reply: Reply, envelope: Envelope) -> bool:
                found[reply.site] = (reply, envelope)
                return False

            kind = next((each.kind for each in orders.values()), "channel")
            packed = {site: Envelope(each.canonical().decode()) for site, each in orders.items()}
            least = self.charter.rounds.minimum_sites
            silent = self.exchanges.ask((*tag[:2], kind), packed, self._seconds(), take, least)
            return found, silent

        return exchange

    def take_slot(self) -> tuple[Window, int]:
        """The next slot of the open window; no slot is given twice."""
        assert self.window is not None
        slot = self.window.next_slot
        self.window.next_slot += 1
        return self.window, slot

    def transcript(self, window: Window, slot: int, tag: Tag, model: str) -> str:
        """What every vault computes for itself."""
        return Transcript(
            charter=self.charter.id,
            run=self.run,
            window=window.number,
            setups=window.digest,
            slot=slot,
            kind=tag[2],
            round=tag[0],
            attempt=tag[1],
            model=model,
        ).digest()

    def open(self, asked: Asked) -> NDArray[np.uint32] | None:
        """The sum behind a question that is on disk; None if too few sites disclose their shares.

        Sites that do not answer are asked again, `TRIES` times: the same question has the same answer.

        Raises:
            ValueError: a participant dealt shares that do not give what it published.
        """
        opening = asked.opening(self.charter.secure_aggregation.threshold)
        agreements = self._agreements(asked)
        if agreements is None:
            return None
        waiting = set(asked.question.survivors)
        for attempt in range(TRIES):
            order = self._question(asked, "unmask", agreements)
            envelope = Envelope(order.canonical().decode())
            tag = (asked.question.round, asked.question.attempt, f"unmask-{attempt}")

            def take(reply: Reply, envelope: Envelope) -> bool:
                waiting.discard(reply.site)
                self._take_shares(asked, opening, reply, envelope)
                return not opening.missing

            self.exchanges.ask(tag, dict.fromkeys(sorted(waiting), envelope), self._seconds(), take)
            if not opening.missing:
                total = asked.total.copy()
                opening.unmask(total, bytes.fromhex(asked.question.transcript))
                return total
            if not waiting:
                return None
        return None

    def _agreements(self, asked: Asked) -> tuple[SiteSignature, ...] | None:
        """T signatures on the set where so many are missing that vaults want them; None if too few come."""
        question = asked.question
        if len(question.sites) - len(question.survivors) <= self.bounds.freely_missing:
            return ()
        body = SetAgreement(transcript=question.transcript, survivors=question.survivors).canonical()
        found: dict[str, SiteSignature] = {}

        def take(reply: Reply, _: Envelope) -> bool:
            member = self.charter.member(reply.site)
            if member and verify(member.identity, "survivors", body, reply.agreement or ""):
                found[reply.site] = SiteSignature(site=reply.site, signature=reply.agreement or "")
            return len(found) >= self.bounds.threshold

        for attempt in range(TRIES):
            envelope = Envelope(self._question(asked, "agree", ()).canonical().decode())
            tag = (question.round, question.attempt, f"agree-{attempt}")
            left = [site for site in question.survivors if site not in found]
            self.exchanges.ask(tag, dict.fromkeys(left, envelope), self._seconds(), take)
            if len(found) >= self.bounds.threshold:
                return tuple(found[site] for site in sorted(found))
        return None

    def _take_shares(self, asked: Asked, opening: Opening, reply: Reply, envelope: Envelope) -> None:
        question = asked.question
        shares = envelope.arrays.get("shares")
        shape = (len(question.participants), SHARE_BYTES)
        if shares is None or shares.dtype != np.uint8 or shares.shape != shape:
            return
        if sha256_hex(shares.tobytes()) != reply.shares:
            return
        number = question.sites.index
        order = sorted(number(site) for site in question.participants)
        pieces = {site: row.tobytes() for site, row in zip(order, shares, strict=True) if row.any()}
        wrong = opening.offer(number(reply.site), pieces)
        if wrong:
            log.warning("%s gave wrong shares of %s", reply.site, [question.sites[site] for site in wrong])

    def _question(self, asked: Asked, kind: str, agreements: tuple[SiteSignature, ...]) -> Order:
        question = asked.question
        return self._order(
            (question.round, question.attempt, kind),
            kind=kind,
            window=question.window,
            slot=question.slot,
            survivors=question.survivors,
            claims=question.claims,
            agreements=agreements,
        )

    def _order(self, tag: Tag, **fields: Any) -> Order:
        return Order(
            charter=self.charter.id,
            run=self.run,
            round=tag[0],
            attempt=tag[1],
            seconds=self._seconds(),
            **fields,
        )

    def _seconds(self) -> float:
        return min(KEY_SECONDS, self.charter.rounds.deadline_seconds)

    def _next_number(self) -> int:
        """A window number that no launch has used, noted on disk before it is."""
        path = self.folder / "window.json"
        number = json.loads(path.read_text())["window"] + 1 if path.exists() else 0
        write_atomic(path, json.dumps({"window": number}).encode())
        return int(number)
