"""Paths of one site home (`$CONSILIUM_SITE_HOME`, or `sites/<name>` in a demo's home)."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from consilium.errors import InputError

SOCKET_LIMIT = 107


@dataclass(frozen=True)
class SiteHome:
    """Pure paths below `root`; nothing is created by reading them."""

    root: Path

    @property
    def settings(self) -> Path:
        """Name and hospital of the site, as JSON."""
        return self.root / "site.json"

    @property
    def database(self) -> Path:
        """The vault's store."""
        return self.root / "vault.db"

    @property
    def identity(self) -> Path:
        """The site's Ed25519 private key (PEM, 0600)."""
        return self.root / "keys" / "identity.key"

    @property
    def node_key(self) -> Path:
        """The SuperNode's ECDSA P-384 private key (OpenSSH, 0600); its public half is beside it, `.pub`."""
        return self.root / "supernode" / "node.key"

    @property
    def runtime_secret(self) -> Path:
        """The secret that closes the SuperNode's Runtime API (0600)."""
        return self.root / "supernode" / "runtime.secret"

    @property
    def flower(self) -> Path:
        """FLWR_HOME of the SuperNode."""
        return self.root / "supernode" / "flower"

    @property
    def tls(self) -> Path:
        """Certificates of the Runtime API (the site's own CA) and the consortium's CA."""
        return self.root / "tls"

    @property
    def cache(self) -> Path:
        """Prepared cases."""
        return self.root / "cache"

    @property
    def runs(self) -> Path:
        """Models and stored replies, a folder a run."""
        return self.root / "runs"

    @property
    def private(self) -> Path:
        """Noisy vectors that were charged and may be asked for again, one a charter."""
        return self.root / "private"

    @property
    def logs(self) -> Path:
        """One log a process."""
        return self.root / "logs"

    @property
    def vault_socket(self) -> Path:
        """Where the relay reaches the vault."""
        return socket_folder(self.root) / "vault.sock"

    @property
    def admin_socket(self) -> Path:
        """Where the site admin's commands reach the vault; only the vault's own user may."""
        return socket_folder(self.root) / "admin" / "admin.sock"


def socket_folder(root: Path) -> Path:
    """`root/run`, or a folder in $XDG_RUNTIME_DIR where that path is too long for a Unix socket.

    Raises:
        InputError: both are too long.
    """
    direct = root / "run"
    if len(str(direct / "admin" / "admin.sock")) <= SOCKET_LIMIT:
        return direct
    import hashlib

    short = hashlib.sha256(str(root.absolute()).encode()).hexdigest()[:16]
    runtime = Path(os.environ.get("XDG_RUNTIME_DIR", f"/tmp/consilium-{os.getuid()}"))  # noqa: S108
    folder = runtime / short
    if len(str(folder / "admin" / "admin.sock")) > SOCKET_LIMIT:
        raise InputError(f"site home {root}: too long for a Unix socket (107 bytes); choose a shorter --home")
    return folder


def make_private(folder: Path, mode: int) -> None:
    """Create `folder` owned by us with exactly `mode`.

    Raises:
        InputError: it exists and belongs to another user or is a link, so its content cannot be trusted.
    """
    folder.mkdir(parents=True, exist_ok=True)
    info = folder.lstat()
    if stat.S_ISLNK(info.st_mode) or info.st_uid != os.getuid():
        raise InputError(f"{folder}: must be a folder of the user that runs the vault")
    folder.chmod(mode)
