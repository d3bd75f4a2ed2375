"""Where everything lies under one home folder. Paths only: nothing here touches the disk."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

VARIABLE = "CONSILIUM_HOME"


@dataclass(frozen=True)
class Home:
    """The coordinator's home, `$CONSILIUM_HOME`; in a demo the sites' homes lie inside it too."""

    root: Path

    @property
    def platform(self) -> Path:
        """The control plane's own folder."""
        return self.root / "platform"

    @property
    def database(self) -> Path:
        """The SQLite file; written by the API process only."""
        return self.platform / "consilium.db"

    @property
    def token(self) -> Path:
        """The bearer token of the API (0600)."""
        return self.platform / "token"

    @property
    def models(self) -> Path:
        """Initial and final models, each named by the SHA-256 of its file."""
        return self.platform / "models"

    def model(self, file: str) -> Path:
        """The model file whose SHA-256 is `file`."""
        return self.models / f"{file}.safetensors"

    @property
    def charters(self) -> Path:
        """Canonical charters, for people and demos."""
        return self.platform / "charters"

    @property
    def flower(self) -> Path:
        """SuperLink's database and Flower's own home."""
        return self.root / "flower"

    @property
    def flower_home(self) -> Path:
        """FLWR_HOME of the coordinator's `flwr` commands."""
        return self.flower / "home"

    @property
    def runs(self) -> Path:
        """One folder a run."""
        return self.root / "runs"

    def run(self, run_id: str) -> Path:
        """`runs/<run>`: charter, nodes, token, initial model, checkpoints and events of one run."""
        return self.runs / run_id

    def site(self, name: str) -> Path:
        """A site's home where it lies inside this one (the demo)."""
        return self.root / "sites" / name

    @property
    def tls(self) -> Path:
        """The consortium's CA and server certificates."""
        return self.root / "tls"

    @property
    def logs(self) -> Path:
        """One log a process."""
        return self.root / "logs"

    @property
    def report(self) -> Path:
        """The last report of the demo."""
        return self.root / "report.json"


def find_home(given: Path | None = None) -> Home:
    """The home named on the command line, else by `$CONSILIUM_HOME`, else the user's data folder."""
    if given is not None:
        return Home(given.expanduser().resolve())
    if os.environ.get(VARIABLE):
        return Home(Path(os.environ[VARIABLE]).expanduser().resolve())
    from platformdirs import user_data_path

    return Home(user_data_path("consilium"))
