"""The vault's one-time keys: a window's channel key, what this site dealt, what the others dealt it.

Keys and signatures of other sites are checked against the charter's roster, never against what a server
says. Secrets are in the vault's store; what others published or sealed is in files beside the run's models.
"""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray

from consilium.contracts.charter import Charter
from consilium.contracts.envelope import Envelope, unpack
from consilium.contracts.masked import (
    SignedChannel,
    SignedSetup,
    SiteChannel,
    SiteSetup,
    Transcript,
    channels_digest,
    signed_by,
    window_context,
)
from consilium.contracts.messages import Order
from consilium.errors import InputError, Refused
from consilium.files import sha256_hex, write_atomic
from consilium.learning import disclosure
from consilium.privacy import window as keys
from consilium.privacy.signatures import sign
from consilium.vocabulary import Reason, Refusal
from consilium_site.home import SiteHome
from consilium_site.ledger import Ledger
from consilium_site.remembered import (
    held_of,
    held_text,
    opened_elsewhere,
    secrets_of,
    secrets_text,
    state_of,
    state_text,
)

log = logging.getLogger(__name__)
EMPTY = keys.Secrets(b"", (), (), (), b"")


class NotDisclosed(Refused):
    """The disclosure machine said no; `refusal` is its reason."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(Reason.NOT_DISCLOSED, refusal)
        self.refusal = refusal


class Windows:
    """One site's windows and its disclosure state. Calls come one at a time, under the lock of `Jobs`."""

    def __init__(self, home: SiteHome, site: str, key: Ed25519PrivateKey, ledger: Ledger) -> None:
        self.home, self.site, self.key, self.ledger = home, site, key, ledger

    def channel(self, charter: Charter, order: Order, ahead: int = 0) -> SignedChannel:
        """This site's channel key of the order's window, or of one so far `ahead`; asked again, the same one.

        Raises:
            NotDisclosed: the window is not later than the one in use.
        """
        number = number_of(order.window) + ahead
        if number <= self.state(charter, order.run).window:
            self.refuse(order, Refusal.OTHER_WINDOW)
        text = self.ledger.window(order.run, number)
        secrets = secrets_of(text) if text else replace(EMPTY, channel=os.urandom(32))
        self.ledger.keep_window(order.run, number, secrets_text(secrets))
        body = SiteChannel(
            charter=charter.id,
            run=order.run,
            window=number,
            site=self.site,
            channel=keys.public_of(secrets.channel).hex(),
        )
        return SignedChannel(channel=body, signature=sign(self.key, "channel", body.canonical()))

    def deal(self, charter: Charter, order: Order) -> tuple[SignedSetup, dict[str, NDArray[Any]]]:
        """Keys and shares for the window, sealed for the sites whose channel keys the order brings.

        Dealt once: the same channel keys again give the same answer, others are refused.

        Raises:
            Refused: BAD_SETUP for a channel key that its site did not sign for this window, fewer than T of
                them, or not this site's own; JOB_CONFLICT for other channel keys than the first time.
        """
        number, plan = number_of(order.window), plan_of(charter, order.run, number_of(order.window))
        channels = self._checked_channels(charter, order, plan)
        digest = channels_digest(order.channels)
        file = self.home.runs / order.run / f"dealt-{number:05d}.safetensors"
        if file.exists():
            stored = unpack(file.read_bytes(), file.name)
            signed = SignedSetup.parse(stored.header, file.name)
            if signed.setup.channels != digest:
                raise Refused(Reason.JOB_CONFLICT)
            return signed, stored.arrays
        me = plan.sites.index(self.site)
        channel, newest = self.secrets(order.run, number).channel, self.ledger.tag_key(order.run)
        old_key = newest[0].to_bytes(4, "big") + bytes.fromhex(newest[1]) if newest else keys.NO_OLD_KEY
        secrets, dealt = keys.deal(plan, me, channel, channels, os.urandom, old_key)
        arrays = {
            "masks": dealt.masks.reshape(-1),
            "seed_hashes": dealt.seed_hashes.reshape(-1),
            "share_hashes": dealt.share_hashes.reshape(-1),
            "boxes": dealt.boxes.reshape(-1),
        }
        body = SiteSetup(
            charter=charter.id,
            run=order.run,
            window=number,
            site=self.site,
            channels=digest,
            tag_part=sha256_hex(secrets.tag_part),
            **{name: sha256_hex(array.tobytes()) for name, array in arrays.items()},
        )
        signed = SignedSetup(setup=body, signature=sign(self.key, "setup", body.canonical()))
        write_atomic(file, Envelope(signed.canonical().decode(), arrays).parts(), mode=0o600)
        self._keep_channels(order, number)
        self.ledger.keep_window(order.run, number, secrets_text(secrets))
        return signed, arrays

    def introduce(self, charter: Charter, order: Order, envelope: Envelope) -> None:
        """Take in what the window's participants dealt, where the order brings it; then the window is open.

        Files and secrets of the window before stay until `forget_before`: the last sum's tags need them.

        Raises:
            Refused: BAD_SETUP for set-ups that are not signed by their sites for this window and this
                site's channel keys, or whose keys or parts of the tag key do not have the signed hashes.
            NotDisclosed: the window is not later than the one in use, or has too few participants.
        """
        number, plan = number_of(order.window), plan_of(charter, order.run, number_of(order.window))
        state = self.state(charter, order.run)
        if state.window == number:
            return
        if not order.setups:
            raise Refused(Reason.NO_KEYS)
        members = sorted(order.setups, key=lambda each: each.setup.site)
        expected = channels_digest(self.channels(order.run, number))
        masks, boxes = envelope.arrays.get("masks"), envelope.arrays.get("boxes")
        if masks is None or masks.shape != (len(members), 32 * plan.slots) or masks.dtype != np.uint8:
            raise Refused(Reason.BAD_SETUP)
        if boxes is None or boxes.shape != (len(members), plan.row) or boxes.dtype != np.uint8:
            raise Refused(Reason.BAD_SETUP)
        for row, signed in zip(masks, members, strict=True):
            setup = signed.setup
            right = (setup.charter, setup.run, setup.window, setup.channels, setup.masks)
            if right != (charter.id, order.run, number, expected, sha256_hex(row.tobytes())):
                raise Refused(Reason.BAD_SETUP)
            if not signed_by(charter, setup.site, "setup", setup, signed.signature):
                raise Refused(Reason.BAD_SETUP)
        names = [signed.setup.site for signed in members]
        if len(set(names)) != len(names):
            raise Refused(Reason.BAD_SETUP)
        participants = frozenset(plan.sites.index(name) for name in names)
        state, effects = disclosure.step(state, disclosure.Window(number, participants))
        self.stop_at_refusal(order, effects)
        header = Order.model_validate({**order.model_dump(), "claims": (), "certificate": ()})
        content = Envelope(header.canonical().decode(), {"masks": masks})
        write_atomic(self._window_file(order.run, number), content.parts(), mode=0o600)
        secrets = self.secrets(order.run, number)
        index = plan.sites.index
        publics = {
            index(each.channel.site): bytes.fromhex(each.channel.channel)
            for each in self.channels(order.run, number)
        }
        rows = {index(name): row.tobytes() for name, row in zip(names, boxes, strict=True)}
        hashes = {index(each.setup.site): bytes.fromhex(each.setup.tag_part) for each in members}
        try:
            held = keys.open_window(plan, index(self.site), secrets, publics, rows, hashes)
        except ValueError as error:
            log.error("run %s window %d: %s", order.run, number, error)
            raise Refused(Reason.BAD_SETUP) from None
        self.ledger.keep_held(order.run, number, held_text(held), state_text(state))

    def tag_key(self, charter: Charter, run: str, number: int) -> bytes | None:
        """The common tag key (32 bytes) of a window that this site is or was in; None if there is none here.

        Of the window in which the last sum was opened before this site came, it is what more than c of the
        others handed on alike: one of them at least is honest.
        """
        newest = self.ledger.tag_key(run)
        if newest is not None and newest[0] == number:
            return bytes.fromhex(newest[1])
        text = self.ledger.held(run, number)
        if text is not None:
            return held_of(text).tag_key
        now = self.state(charter, run).window
        if not 0 <= number < now:
            return None
        held = self.held(run, now)
        believed = held.old_key_votes > charter.secure_aggregation.colluding
        return held.old_key[4:] if believed and held.old_key[:4] == number.to_bytes(4, "big") else None

    def state(self, charter: Charter, run: str) -> disclosure.State:
        """What this site remembers of the run, and which models it has opened in any run of the charter.

        A second run from the same model with one site fewer would give that site's update by a difference.
        """
        agg = charter.secure_aggregation
        bounds = disclosure.Bounds(len(charter.roster), agg.threshold, agg.colluding)
        names = [member.site for member in charter.roster]
        state = state_of(self.ledger.disclosure(run), names.index(self.site), bounds)
        elsewhere = opened_elsewhere(self.ledger.disclosures_elsewhere(charter.id, run))
        return replace(state, opened=MappingProxyType({**elsewhere, **state.opened}))

    def opened(
        self, run: str, number: int, plan: keys.Plan
    ) -> tuple[tuple[SignedSetup, ...], dict[int, NDArray[np.uint8]]]:
        """The window's set-ups, and by participant its mask keys (S, 32)."""
        file = self._window_file(run, number)
        try:
            stored = unpack(file.read_bytes(), file.name)
        except OSError:
            raise Refused(Reason.BAD_SETUP) from None
        members = sorted(Order.parse(stored.header, file.name).setups, key=lambda each: each.setup.site)
        sites = [plan.sites.index(each.setup.site) for each in members]
        masks = stored.arrays["masks"].reshape(len(sites), plan.slots, 32)
        return tuple(members), dict(zip(sites, masks, strict=True))

    def secrets(self, run: str, number: int) -> keys.Secrets:
        text = self.ledger.window(run, number)
        if text is None:
            raise Refused(Reason.BAD_SETUP)
        return secrets_of(text)

    def held(self, run: str, number: int) -> keys.Held:
        """What this site keeps of the window that is open."""
        text = self.ledger.held(run, number)
        if text is None:
            raise Refused(Reason.NO_KEYS)
        return held_of(text)

    def channels(self, run: str, number: int) -> tuple[SignedChannel, ...]:
        """The channel keys that this site dealt for."""
        file = self.home.runs / run / f"channels-{number:05d}.json"
        if not file.exists():
            raise Refused(Reason.BAD_SETUP)
        return Order.parse(file.read_bytes(), file.name).channels

    def stop_at_refusal(self, order: Order, effects: tuple[disclosure.Effect, ...]) -> None:
        for effect in effects:
            if isinstance(effect, disclosure.Refuse):
                self.refuse(order, effect.reason)

    def refuse(self, order: Order, reason: Refusal) -> None:
        self.ledger.note_refusal(order.run, order.job, reason)
        raise NotDisclosed(reason)

    def _checked_channels(self, charter: Charter, order: Order, plan: keys.Plan) -> dict[int, bytes]:
        found: dict[int, bytes] = {}
        for signed in order.channels:
            body = signed.channel
            bound = (body.charter, body.run, body.window) == (charter.id, order.run, order.window)
            if not bound or not signed_by(charter, body.site, "channel", body, signed.signature):
                raise Refused(Reason.BAD_SETUP)
            found[plan.sites.index(body.site)] = bytes.fromhex(body.channel)
        me, mine = plan.sites.index(self.site), self.secrets(order.run, number_of(order.window)).channel
        if len(found) != len(order.channels) or len(found) < plan.threshold:
            raise Refused(Reason.BAD_SETUP)
        if found.get(me) != keys.public_of(mine):
            raise Refused(Reason.BAD_SETUP)
        return found

    def _keep_channels(self, order: Order, number: int) -> None:
        file = self.home.runs / order.run / f"channels-{number:05d}.json"
        write_atomic(file, Order.model_validate(order.model_dump()).canonical(), mode=0o600)

    def forget_before(self, run: str, number: int) -> None:
        """Erase the secrets of earlier windows, and drop their files."""
        self.ledger.erase_windows(run, number)
        for kind in ("dealt", "channels", "window"):
            for path in (self.home.runs / run).glob(f"{kind}-*"):
                if int(path.stem.partition("-")[2]) < number:
                    path.unlink(missing_ok=True)

    def _window_file(self, run: str, number: int) -> Any:
        return self.home.runs / run / f"window-{number:05d}.safetensors"


def plan_of(charter: Charter, run: str, window: int) -> keys.Plan:
    """What all sites know of a window."""
    agg = charter.secure_aggregation
    names = tuple(member.site for member in charter.roster)
    return keys.Plan(names, agg.threshold, agg.slots, window_context(charter.id, run, window))


def transcript_of(charter: Charter, order: Order, setups: str, model: str) -> str:
    """The digest of everything that the server chose about this attempt."""
    return Transcript(
        charter=charter.id,
        run=order.run,
        window=number_of(order.window),
        setups=setups,
        slot=number_of(order.slot),
        kind=order.kind,
        round=order.round,
        attempt=order.attempt,
        model=model,
    ).digest()


def number_of(value: int | None) -> int:
    if value is None:
        raise InputError("order of a masked sum: names no window or slot")
    return value
