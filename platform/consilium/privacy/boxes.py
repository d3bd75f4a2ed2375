"""Sealed boxes between two sites, carried by a server that can neither read, alter nor swap them.

X25519 → HKDF-SHA256 → ChaCha20-Poly1305 (RFC 7748, 5869, 8439). Context, sender and receiver are both in
the key and in the associated data.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from consilium.privacy.masking import derive

NONCE = bytes(12)
OVERHEAD = 16
"""Bytes that a box is longer than what is in it."""


def seal(shared: bytes, context: bytes, sender: str, receiver: str, content: bytes) -> bytes:
    """`content` as only the holder of `shared` can read it, bound to context, sender and receiver.

    The nonce is constant, so one (shared, context, sender, receiver) may seal ONE content, ever: the caller
    puts a fresh key or a number that is never used again into `context`.
    """
    bound = _bound(context, sender, receiver)
    return ChaCha20Poly1305(derive(shared, bound, "consilium/box")).encrypt(NONCE, content, bound)


def open_box(shared: bytes, context: bytes, sender: str, receiver: str, box: bytes) -> bytes:
    """What `seal` sealed with the same arguments.

    Raises:
        ValueError: anything differs, be it one bit; names sender and receiver, never the content.
    """
    bound = _bound(context, sender, receiver)
    try:
        return ChaCha20Poly1305(derive(shared, bound, "consilium/box")).decrypt(NONCE, box, bound)
    except InvalidTag:
        raise ValueError(f"box from {sender} to {receiver}: was altered, or belongs elsewhere") from None


def _bound(context: bytes, sender: str, receiver: str) -> bytes:
    parts = (context, sender.encode(), receiver.encode())
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)
