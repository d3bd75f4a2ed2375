"""A site's keys. They are made here, stay here, and only their public halves travel."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from consilium.errors import Conflict, InputError
from consilium.files import sha256_hex, write_atomic, write_secret
from consilium.privacy.signatures import public_hex
from consilium_site.home import SiteHome


@dataclass(frozen=True)
class PublicBundle:
    """What a coordinator needs to register the site: names and public keys, nothing secret."""

    site: str
    hospital: str
    identity: str
    node_key: str

    def fingerprint(self) -> str:
        """A short form of both keys for people to compare by telephone: five groups of four hex digits."""
        digest = sha256_hex(f"{self.site}\n{self.identity}\n{self.node_key}".encode())[:20]
        return "-".join(digest[start : start + 4] for start in range(0, 20, 4))


def make_keys(home: SiteHome, site: str, hospital: str) -> PublicBundle:
    """Make identity key, SuperNode key and Runtime API secret, and write the site's settings.

    Raises:
        Conflict: the home already has keys; they are never overwritten.
    """
    if home.identity.exists() or home.node_key.exists():
        raise Conflict(f"{home.root}: already has keys; use another --home, or keep this site's identity")
    identity = Ed25519PrivateKey.generate()
    write_secret(home.identity, identity.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    node = ec.generate_private_key(ec.SECP384R1())
    write_secret(home.node_key, node.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    public = node.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    write_atomic(home.node_key.with_suffix(".pub"), public + b"\n")
    write_secret(home.runtime_secret, secrets.token_hex(32).encode())
    write_atomic(home.settings, json.dumps({"site": site, "hospital": hospital}).encode())
    return read_bundle(home)


def read_bundle(home: SiteHome) -> PublicBundle:
    """The site's public bundle. Raises `InputError` with the remedy if the home has no keys."""
    if not home.settings.exists():
        raise InputError(f"{home.root}: not a site home; run `consilium-site init --site NAME` first")
    settings = json.loads(home.settings.read_text())
    return PublicBundle(
        settings["site"],
        settings["hospital"],
        public_hex(read_identity(home)),
        home.node_key.with_suffix(".pub").read_text().strip(),
    )


def read_identity(home: SiteHome) -> Ed25519PrivateKey:
    """The identity key.

    Raises:
        InputError: missing, or readable by others (mode must be 0600).
    """
    path = home.identity
    if not path.exists():
        raise InputError(f"{path}: no identity key; run `consilium-site init --site NAME` first")
    if path.stat().st_mode & 0o077:
        raise InputError(
            f"{path}: readable by others; `chmod 600` it, and make new keys if others could read it"
        )
    key = load_pem_private_key(path.read_bytes(), None)
    if not isinstance(key, Ed25519PrivateKey):
        raise InputError(f"{path}: expected an Ed25519 private key")
    return key
