"""The site's commands as a person types them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(sys.executable).parent / "consilium-site"


def call(*arguments: object, home: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run `consilium-site` with these arguments."""
    environment = {**os.environ, "COLUMNS": "200"}
    if home is not None:
        environment["CONSILIUM_SITE_HOME"] = str(home)
    words = [str(SCRIPT), *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, env=environment, check=False)
