"""Routes about privacy: what a study that somebody plans would take."""

from __future__ import annotations

from fastapi import APIRouter

from consilium.contracts.privacy import PrivacyOutlook, PrivacyQuestion, answer

router = APIRouter(tags=["privacy"])


@router.post("/privacy/plan")
def plan_privacy(question: PrivacyQuestion) -> PrivacyOutlook:
    """What noise an ε takes and what it leaves of the signal, with an honest verdict; nothing is stored.

    It takes seconds: the loss of the whole run is composed for every noise that is tried.
    """
    return answer(question)
