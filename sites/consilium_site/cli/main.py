"""`consilium-site`: the hospital's commands. Imports stay lazy: --help in under 0.5 s."""

from __future__ import annotations

import sys


def main() -> None:
    """Entry point: runs a command; a `ConsiliumError` becomes one line on stderr and exit code 1."""
    from consilium.errors import ConsiliumError
    from consilium_site.cli.app import app

    try:
        app()
    except ConsiliumError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
