"""The vault's side of a masked sum: masked uploads, agreements, disclosed shares.

Every decision is `consilium.learning.disclosure`'s and is committed before anything leaves.
"""

from __future__ import annotations

import logging

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray

from consilium.contracts.charter import Charter
from consilium.contracts.masked import (
    SetAgreement,
    UploadClaim,
    setups_digest,
    signed_by,
)
from consilium.contracts.messages import Order
from consilium.learning import disclosure
from consilium.privacy import window as keys
from consilium.privacy.signatures import sign, verify
from consilium.privacy.tags import LIMBS, Tagger
from consilium.vocabulary import Refusal
from consilium_site.home import SiteHome
from consilium_site.ledger import Ledger
from consilium_site.remembered import held_text, state_text
from consilium_site.windows import Windows, number_of, plan_of, transcript_of

log = logging.getLogger(__name__)


class Masks:
    """One site's masks. Calls come one at a time, under the lock of `Jobs`."""

    def __init__(self, home: SiteHome, site: str, key: Ed25519PrivateKey, ledger: Ledger) -> None:
        self.site, self.key, self.ledger = site, key, ledger
        self.windows = Windows(home, site, key, ledger)

    def mask(self, charter: Charter, order: Order, model: str, vector: NDArray[np.uint32]) -> tuple[str, str]:
        """Tag and mask `vector` in place for the order's slot; returns the transcript and the signed claim.

        The slot is spent on disk, and the secrets of earlier ones are erased, before the first word is
        masked. `vector` (U,) ends in room for the tags.

        Raises:
            NotDisclosed: the window is not open, the slot is used, or the model was opened already.
        """
        number, slot = number_of(order.window), number_of(order.slot)
        state, plan = self.windows.state(charter, order.run), plan_of(charter, order.run, number)
        if state.window != number or not 0 <= slot < plan.slots:
            self.windows.refuse(order, Refusal.OTHER_WINDOW)
        members, publics = self.windows.opened(order.run, number, plan)
        transcript = transcript_of(charter, order, setups_digest(members), model)
        asked = disclosure.Order(number, slot, transcript, f"{order.round}/{model}")
        state, effects = disclosure.step(state, asked)
        self.windows.stop_at_refusal(order, effects)
        if not any(isinstance(effect, disclosure.Mask) for effect in effects):
            self.windows.refuse(order, Refusal.MODEL_OPENED)
        held = self.windows.held(order.run, number).spend(slot)
        self.ledger.keep_held(order.run, number, held_text(held), state_text(state))
        me, digest = plan.sites.index(self.site), bytes.fromhex(transcript)
        vector[-LIMBS:] = Tagger(held.tag_key, digest).tag(vector[:-LIMBS], me)
        slot_keys = {site: row[slot].tobytes() for site, row in publics.items()}
        keys.mask(held, me, slot, slot_keys, digest, vector)
        claim = UploadClaim(site=self.site, transcript=transcript)
        return transcript, sign(self.key, "upload", claim.canonical())

    def check_unopened(self, charter: Charter, order: Order, model: str) -> None:
        """Raise `NotDisclosed` if `mask` would because a sum of this model was opened already."""
        if f"{order.round}/{model}" in self.windows.state(charter, order.run).opened:
            self.windows.refuse(order, Refusal.MODEL_OPENED)

    def agree(self, charter: Charter, order: Order) -> str:
        """This site's signature on the order's set of survivors. Raises `NotDisclosed`."""
        state, transcript, told = self._asked(charter, order)
        event = disclosure.Proposal(number_of(order.window), number_of(order.slot), told)
        state, effects = disclosure.step(state, event)
        self.windows.stop_at_refusal(order, effects)
        self.ledger.keep_disclosure(order.run, state_text(state))
        body = SetAgreement(transcript=transcript, survivors=order.survivors)
        return sign(self.key, "survivors", body.canonical())

    def disclose(self, charter: Charter, order: Order) -> NDArray[np.uint8]:
        """This site's shares, (M, 33): one a participant in the roster's order, zeros where it has none.

        Raises:
            NotDisclosed: the question is one that the disclosure machine does not answer.
        """
        state, transcript, told = self._asked(charter, order)
        body = SetAgreement(transcript=transcript, survivors=order.survivors).canonical()
        number, plan = number_of(order.window), plan_of(charter, order.run, number_of(order.window))
        agreed = frozenset(
            plan.sites.index(each.site)
            for each in order.agreements
            if (member := charter.member(each.site)) is not None
            and verify(member.identity, "survivors", body, each.signature)
        )
        slot = number_of(order.slot)
        state, effects = disclosure.step(state, disclosure.Question(number, slot, told, agreed))
        self.windows.stop_at_refusal(order, effects)
        self.ledger.keep_disclosure(order.run, state_text(state))
        shares = next(each.shares for each in effects if isinstance(each, disclosure.Disclose))
        held = self.windows.held(order.run, number)
        self.ledger.keep_tag_key(order.run, number, held.tag_key.hex())
        mine = held.shares[slot]
        found = np.zeros((len(shares), 33), np.uint8)
        for row, (site, kind) in zip(found, sorted(shares.items()), strict=True):
            pair = mine.get(site)
            if pair is not None:
                row[:] = np.frombuffer(pair[keys.KINDS.index(kind)], np.uint8)
        return found

    def _asked(self, charter: Charter, order: Order) -> tuple[disclosure.State, str, dict[int, str]]:
        """The state, this site's own transcript of the slot, and each survivor's claimed one."""
        state = self.windows.state(charter, order.run)
        number, slot = number_of(order.window), number_of(order.slot)
        mine = state.orders.get(slot)
        transcript = mine.transcript if mine is not None and state.window == number else "0" * 64
        plan = plan_of(charter, order.run, number)
        claims = {each.site: each.signature for each in order.claims}
        told = {}
        for name in order.survivors:
            if name not in plan.sites:
                self.windows.refuse(order, Refusal.NOT_A_PARTICIPANT)
            claim = UploadClaim(site=name, transcript=transcript)
            right = signed_by(charter, name, "upload", claim, claims.get(name, ""))
            told[plan.sites.index(name)] = transcript if right else "another"
        return state, transcript, told
