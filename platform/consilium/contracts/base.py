"""The strict base of every document that crosses a boundary, and its canonical form."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Self

import rfc8785
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from consilium.errors import InputError

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
"""Lower-case hex SHA-256."""

PublicKey = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
"""A raw Ed25519 public key as 64 hex characters."""

Signature = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{128}$")]
"""A raw Ed25519 signature as 128 hex characters."""

SiteName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")]
"""A site's machine name: 1–40 of a–z, 0–9 and '-', not starting with '-'."""

RunId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,59}$")]
"""A run's name: 1–60 of a–z, 0–9 and '-'."""

Title = Annotated[str, StringConstraints(min_length=1, max_length=120, strip_whitespace=True)]

Unit = Annotated[float, Field(ge=0.0, le=1.0)]
"""A number between 0 and 1, such as a Dice score."""


class Document(BaseModel):
    """A frozen, strict document: unknown keys, NaN and silent type changes are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    def canonical(self) -> bytes:
        """Canonical JSON by RFC 8785: equal documents give equal bytes on every machine."""
        return rfc8785.dumps(self.model_dump(mode="json"))

    def digest(self) -> str:
        """SHA-256 over `canonical()`, lower-case hex."""
        return hashlib.sha256(self.canonical()).hexdigest()

    @classmethod
    def parse(cls, text: str | bytes, what: str) -> Self:
        """Read a document from JSON; an `InputError` names `what`, the field, the rule and the value."""
        try:
            return cls.model_validate_json(text, strict=False)
        except ValidationError as error:
            raise InputError(f"{what}: {explain(error)}") from None


def explain(error: ValidationError) -> str:
    """A validation error in one line a person can act on: field, rule, value."""
    parts = []
    for item in error.errors(include_url=False)[:4]:
        where = ".".join(str(part) for part in item["loc"])
        got = f" (got {_short(item.get('input'))})" if where else ""
        parts.append(f"{where or 'document'}: {item['msg']}{got}")
    return "; ".join(parts)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
