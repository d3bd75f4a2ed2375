"""Ed25519 signatures (RFC 8032) over bytes, with a label that binds a signature to its purpose."""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey


def public_hex(key: Ed25519PrivateKey) -> str:
    """The raw public key as 64 hex characters."""
    return key.public_key().public_bytes_raw().hex()


def sign(key: Ed25519PrivateKey, label: str, message: bytes) -> str:
    """Sign `label ‖ 0x00 ‖ message`; 128 hex characters. A label may not hold a zero byte."""
    return key.sign(_bound(label, message)).hex()


def verify(public: str, label: str, message: bytes, signature: str) -> bool:
    """True only if `signature` is the holder of `public` signing this message under this label.

    Malformed hex or a malformed key is False, never an exception: input comes from the network.
    """
    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(public))
        key.verify(bytes.fromhex(signature), _bound(label, message))
    except (InvalidSignature, ValueError):
        return False
    return True


def _bound(label: str, message: bytes) -> bytes:
    if "\0" in label:
        raise ValueError(f"label {label!r}: must not hold a zero byte")
    return f"consilium/{label}".encode() + b"\0" + message
