"""Whether a charter's privacy keeps its word, before hospitals are asked to sign it."""

from __future__ import annotations

from consilium.contracts.charter import Charter
from consilium.contracts.reports import RunReport
from consilium.errors import InputError
from consilium.privacy import accounting

CANARIES = 1000


def check_promise(charter: Charter) -> None:
    """Raise `InputError` with the remedy if the noise does not keep ε: every vault would refuse it."""
    plan = charter.plan
    if plan is not None and not accounting.keeps(plan):
        raise InputError(
            f"privacy.noise {plan.noise:g} spends ε {accounting.promised(plan):.3g} over the run, more than "
            f"the promised {plan.epsilon:g}: `consilium privacy plan --charter FILE` tells what keeps it"
        )


def audited(report: RunReport, charter: Charter) -> RunReport:
    """The report with what canaries show of its charter's mechanism; as it is without privacy of patients."""
    from consilium.privacy.audit import audit
    from consilium.privacy.noise import private_stream

    plan = charter.plan
    if plan is None or plan.unit != "patient" or report.privacy is None:
        return report
    found = audit(plan, CANARIES, private_stream())
    told = {"audited": found.lower_bound, "certifiable": found.certifiable}
    return report.model_copy(update={"privacy": report.privacy.model_copy(update=told)})
