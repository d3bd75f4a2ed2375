"""What a relay's install may rely on."""

from __future__ import annotations

import subprocess
import sys


def test_the_client_needs_neither_database_nor_web_framework() -> None:
    heavy = ("sqlmodel", "sqlalchemy", "alembic", "fastapi", "uvicorn", "torch", "flwr")
    code = f"import sys, consilium.services.client; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
