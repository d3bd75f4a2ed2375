"""What a vault asks of a sum before it takes a step with it: the tags of its survivors.

Sites share a tag key that the server does not know, so the server can add tagged uploads and do nothing
else: a sum that was changed, replayed, taken from another attempt or of other survivors does not verify.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from numpy.typing import NDArray

from consilium.contracts.charter import Charter
from consilium.contracts.masked import Transcript
from consilium.contracts.messages import Order
from consilium.errors import Refused
from consilium.privacy.tags import LIMBS, Tagger
from consilium.vocabulary import Reason
from consilium_site.windows import Windows, plan_of

log = logging.getLogger(__name__)


def check_sum(windows: Windows, charter: Charter, order: Order, model: str, total: NDArray[Any]) -> None:
    """Verify the sum (U,) that the order brings for the model of the round before, by its hash.

    Raises:
        Refused: NO_TAG_KEY if this site has no tag key of the window where the sum was opened; BAD_SUM if
            the tags do not belong to this sum of these survivors of that attempt, model and round.
    """
    opened = order.opened
    if opened is None or total.shape != (charter.upload_size(),) or total.dtype != np.uint32:
        raise Refused(Reason.BAD_MESSAGE)
    plan = plan_of(charter, order.run, opened.window)
    key = windows.tag_key(charter, order.run, opened.window)
    if key is None:
        raise Refused(Reason.NO_TAG_KEY)
    transcript = Transcript(
        charter=charter.id,
        run=order.run,
        window=opened.window,
        setups=opened.setups,
        slot=opened.slot,
        kind="train",
        round=order.round - 1,
        attempt=opened.attempt,
        model=model,
    )
    survivors = [plan.sites.index(site) for site in set(order.survivors) if site in plan.sites]
    tagger = Tagger(key, bytes.fromhex(transcript.digest()))
    whole = len(survivors) == len(order.survivors)
    if not whole or not tagger.verify(total[:-LIMBS], total[-LIMBS:], survivors):
        log.error("%s: the sum's tags are not those of its survivors", order.job)
        raise Refused(Reason.BAD_SUM)
    windows.ledger.keep_tag_key(order.run, opened.window, key.hex())
