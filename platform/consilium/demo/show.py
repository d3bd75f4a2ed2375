"""One line for a round, one for what goes on now: shared by the demo and the simulation."""

from __future__ import annotations

from consilium.contracts.api import LiveRound
from consilium.contracts.reports import PrivacyReport, RoundRow
from consilium.vocabulary import RunStatus, text_of

NAMED = 4
"""At most so many sites are named in a line."""


def round_line(row: RoundRow, planned: int, hospitals: int) -> str:
    """One scored round in one line."""
    assert row.dice is not None
    dice = row.dice
    line = (
        f"  round {row.round:>2}/{planned}  Dice "
        f"TC {dice.TC:.3f}  WT {dice.WT:.3f}  ET {dice.ET:.3f}  mean {dice.mean:.3f}"
    )
    if row.worst_site_mean is not None:
        line += f"  worst {row.worst_site_mean:.3f} ({row.worst_site})"
    if row.round == 0:
        return line + "  untrained"
    line += f"  {row.participants}/{hospitals} hospitals  {row.seconds:.1f} s"
    if row.epsilon is not None:
        line += f"  ε {row.epsilon:.2f}"
    line += "".join(f"  [yellow]{each.site}: {text_of(each.reason)}[/]" for each in row.missing[:NAMED])
    return line + (f"  and {len(row.missing) - NAMED} more" if len(row.missing) > NAMED else "")


def privacy_line(privacy: PrivacyReport) -> str:
    """What the run proves, and what the audit found, in one line."""
    line = (
        f"  privacy ε {privacy.epsilon:.2f} of {privacy.target:g} at δ {privacy.delta:g}, unit "
        f"{privacy.unit}, {privacy.mechanism} noise"
    )
    if privacy.audited is not None:
        line += f"; canaries show ε ≥ {privacy.audited:.2f} (of {privacy.certifiable:.2f} that they could)"
    return line


def live_line(live: LiveRound | None, planned: int, status: RunStatus) -> str:
    """What is going on now."""
    if live is None:
        return f"{text_of(status)}, between rounds"
    opened = live.opened
    answered = {each.site for each in live.answered}
    waiting = [site for site in opened.asked if site not in answered]
    what = f"round {opened.round}" if opened.round <= planned else "scoring the final model"
    whom = ", ".join(waiting[:NAMED]) or "nobody"
    more = f" and {len(waiting) - NAMED} more" if len(waiting) > NAMED else ""
    return f"{what}: {len(answered)} of {len(opened.asked)} answered, waiting for {whom}{more}"
