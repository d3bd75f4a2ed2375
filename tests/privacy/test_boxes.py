"""Boxes, field by field: the definition, one change at a time, and what an error may say."""

from __future__ import annotations

import hashlib
import hmac

import pytest
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from hypothesis import given
from hypothesis import strategies as st

from consilium.privacy.boxes import OVERHEAD, open_box, seal

NAMES = st.text(st.characters(codec="utf-8"), max_size=12)
FIELDS = (st.binary(min_size=32, max_size=32), st.binary(max_size=40), NAMES, NAMES)


def prefixed(*parts: bytes) -> bytes:
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def reference(shared: bytes, context: bytes, sender: str, receiver: str, content: bytes) -> bytes:
    """HKDF written out with HMAC (RFC 5869), apart from the library's."""
    bound = prefixed(context, sender.encode(), receiver.encode())
    extracted = hmac.digest(bound, shared, hashlib.sha256)
    key = hmac.digest(extracted, b"consilium/box\0\x01", hashlib.sha256)
    return ChaCha20Poly1305(key).encrypt(bytes(12), content, bound)


@given(*FIELDS, st.binary(max_size=100))
def test_a_box_is_what_the_definition_says(
    shared: bytes, context: bytes, sender: str, receiver: str, content: bytes
) -> None:
    box = seal(shared, context, sender, receiver, content)
    assert box == reference(shared, context, sender, receiver, content)
    assert box != reference(shared, context + b"\0", sender, receiver, content)
    assert open_box(shared, context, sender, receiver, box) == content


@given(st.tuples(*FIELDS), st.tuples(*FIELDS))
def test_any_one_field_changed_is_refused(
    fields: tuple[bytes, bytes, str, str], others: tuple[bytes, bytes, str, str]
) -> None:
    box = seal(*fields, b"content")
    assert open_box(*fields, box) == b"content"
    for place, other in enumerate(others):
        if other != fields[place]:
            changed = (*fields[:place], other, *fields[place + 1 :])
            with pytest.raises(ValueError, match="was altered, or belongs elsewhere"):
                open_box(*changed, box)


@given(st.text("ab", min_size=1, max_size=6), st.integers(0, 6))
def test_a_boundary_between_names_cannot_move(names: str, cut: int) -> None:
    """The same letters, split elsewhere, are other names."""
    box = seal(bytes(32), b"", names, "", b"content")
    if cut < len(names):
        with pytest.raises(ValueError, match="altered"):
            open_box(bytes(32), b"", names[:cut], names[cut:], box)


@pytest.mark.parametrize("size", range(OVERHEAD + 6))
def test_a_cut_box_is_refused(size: int) -> None:
    box = seal(bytes(32), b"", "a", "b", b"content")
    with pytest.raises(ValueError, match="from a to b"):
        open_box(bytes(32), b"", "a", "b", box[:size])


def test_an_error_names_both_ends_and_never_the_content() -> None:
    box = seal(bytes(32), b"", "north", "south", b"the secret")
    with pytest.raises(ValueError, match="from north to south") as caught:
        open_box(bytes(32), b"other", "north", "south", box)
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None
