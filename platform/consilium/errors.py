"""Every error Consilium raises on purpose.

ConsiliumError
├── InputError          something given from outside breaks a rule (a file, a value, a message)
│   ├── CaseError       one case cannot be used; carries a reason code that may leave the site
│   └── CharterError    a charter breaks a rule
├── Refused             a vault or a service says no, with a reason code that may travel
├── NotFound            what was named does not exist
├── Conflict            the name is taken, or the state does not allow it now
└── ProcessFailed       a process that we started ended badly or never became ready

A message names the thing, the value, the rule and the remedy. The text of `CaseError` stays at the
site: only its `reason` code travels.
"""

from __future__ import annotations


class ConsiliumError(Exception):
    """Base of all errors of this project; the command line prints its text and exits with 1."""


class InputError(ConsiliumError):
    """Something given from outside breaks a rule."""


class CharterError(InputError):
    """A charter breaks a rule of the contracts."""


class CaseError(InputError):
    """One case cannot be used.

    `reason` is a code from `vocabulary.CaseProblem` and may leave the site as part of a count; the
    text may hold paths and stays at the site.
    """

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class Refused(ConsiliumError):
    """A request was understood and refused; `reason` is a code that is free of private detail."""

    def __init__(self, reason: str, text: str = "") -> None:
        super().__init__(text or reason)
        self.reason = reason


class NotFound(ConsiliumError):
    """What was named does not exist."""


class Conflict(ConsiliumError):
    """The name is taken, or the present state does not allow the request."""


class ProcessFailed(ConsiliumError):
    """A process that we started ended badly or did not become ready in time."""
