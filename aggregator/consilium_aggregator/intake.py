"""Checks one answer: signature, binding to this attempt, sizes, hashes. Nothing unchecked is added."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from consilium.contracts.charter import Charter
from consilium.contracts.masked import UploadClaim
from consilium.contracts.messages import ModelClaim, RelayNotice, Reply, SignedReply
from consilium.errors import InputError
from consilium.files import sha256_hex
from consilium.learning import aggregator as machine
from consilium.privacy.signatures import verify
from consilium.vocabulary import Reason
from consilium_aggregator.ports import Answer, Tag


@dataclass(frozen=True)
class Expected:
    """What a good upload of this attempt must match."""

    charter: Charter
    run: str
    round: int
    attempt: int
    model: str
    size: int
    transcript: str | None = None
    """Of a masked attempt; None where uploads are in the clear."""


@dataclass(frozen=True)
class Accepted:
    """A checked upload with the reply it came with."""

    reply: Reply
    upload: NDArray[Any]
    bytes: int


def word(answer: Answer, charter: Charter, run: str, tag: Tag) -> Reply | Reason:
    """The site's signed reply to the order tagged `tag`, refusals too; else why it counts as none.

    A reply that is not signed by the site's roster key, or is bound to another charter, run, round or
    attempt, is none.
    """
    if answer.envelope is None:
        return answer.reason or Reason.NO_ANSWER
    try:
        signed = SignedReply.parse(answer.envelope.header, "reply")
    except InputError:
        return _notice(answer.envelope.header)
    reply = signed.reply
    member = charter.member(answer.site)
    key = member.identity if member else ""
    if not verify(key, "reply", reply.canonical(), signed.signature) or reply.site != answer.site:
        return Reason.BAD_SIGNATURE
    if (reply.charter, reply.run, reply.round, reply.attempt) != (charter.id, run, *tag[:2]):
        return Reason.BAD_MESSAGE
    return reply


def check(answer: Answer, expected: Expected) -> tuple[machine.Event, Accepted | None]:
    """The state machine's event for one answer, and the upload if there is one to add.

    Beside what `word` asks, arrays must match their signed hashes, and model and transcript be those of
    this attempt: a site that was told something else counts as dropped.
    """
    reply = word(answer, expected.charter, expected.run, (expected.round, expected.attempt, ""))
    if isinstance(reply, Reason):
        return machine.Refused(answer.site, reply), None
    if reply.status == "refused":
        return machine.Refused(answer.site, reply.reason or Reason.SITE_ERROR, reply.holds), None
    member = expected.charter.member(answer.site)
    reason = _upload_problem(reply, answer, expected, member.identity if member else "")
    if reason is not None or answer.envelope is None:
        return machine.Refused(answer.site, reason or Reason.BAD_MESSAGE), None
    upload = answer.envelope.arrays["upload"]
    return machine.Uploaded(answer.site, reply.holds), Accepted(reply, upload, answer.envelope.size)


def _upload_problem(reply: Reply, answer: Answer, expected: Expected, key: str) -> Reason | None:
    upload = answer.envelope.arrays.get("upload") if answer.envelope else None
    if upload is None or upload.dtype.name != "uint32" or upload.shape != (expected.size,):
        return Reason.BAD_MESSAGE
    if reply.model != expected.model:
        return Reason.WRONG_MODEL
    if sha256_hex(upload.data) != reply.upload or reply.report is None:
        return Reason.BAD_MESSAGE
    if reply.transcript != expected.transcript:
        return Reason.BAD_MESSAGE
    if expected.transcript is not None:
        claimed = UploadClaim(site=answer.site, transcript=expected.transcript)
        if not verify(key, "upload", claimed.canonical(), reply.claim or ""):
            return Reason.BAD_SIGNATURE
    claim = ModelClaim(charter=reply.charter, run=reply.run, round=reply.round, model=expected.model)
    if not verify(key, "model", claim.canonical(), reply.model_signature or ""):
        return Reason.BAD_SIGNATURE
    return None


def _notice(header: str) -> Reason:
    """The reason of a relay whose vault was silent; anything else is a bad message."""
    try:
        return RelayNotice.parse(header, "notice").notice
    except InputError:
        return Reason.BAD_MESSAGE
