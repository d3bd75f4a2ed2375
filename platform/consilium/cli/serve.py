"""`consilium api` and `consilium portal`: the two long-lived processes of a coordinator."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

PORT = 8600
PORTAL_PORT = 8601
HOME = typer.Option("--home", help="The platform's home; else $CONSILIUM_HOME, else the user's data folder.")


def register(app: typer.Typer) -> None:
    """Add both commands to the tree."""
    app.command("api")(api)
    app.command("portal")(portal)


def api(
    host: Annotated[str, typer.Option(help="Loopback address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = PORT,
    tls_cert: Annotated[Path | None, typer.Option(help="Server certificate (PEM).")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its private key (PEM).")] = None,
    home: Annotated[Path | None, HOME] = None,
) -> None:
    """Serve the HTTP API, and follow the runs it has launched.

    Certificate and key default to tls/server.pem and tls/server.key in the home.
    """
    import uvicorn

    from consilium.api.app import create_app
    from consilium.api.settings import Settings
    from consilium.contracts.home import find_home

    _need_loopback(host)
    where = find_home(home)
    certificate, key = tls_cert or where.tls / "server.pem", tls_key or where.tls / "server.key"
    _need_files(certificate, key)
    uvicorn.run(
        create_app(Settings.for_home(where)),
        host=host,
        port=port,
        ssl_certfile=certificate,
        ssl_keyfile=key,
        log_level="info",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=2,
    )


def portal(
    port: Annotated[int, typer.Option(help="Port of the page on 127.0.0.1.")] = PORTAL_PORT,
    home: Annotated[Path | None, HOME] = None,
) -> None:
    """Serve the researcher's page; it speaks to the API at $CONSILIUM_API_URL."""
    import os
    import sys

    from consilium.contracts.home import find_home

    page = _portal_page()
    os.environ.setdefault("CONSILIUM_API_URL", f"https://127.0.0.1:{PORT}")
    os.environ["CONSILIUM_HOME"] = str(find_home(home).root)
    command = [sys.executable, "-m", "streamlit", "run", str(page), *_page_settings(port)]
    os.execv(sys.executable, command)  # noqa: S606


def _page_settings(port: int) -> list[str]:
    return [
        f"--server.port={port}",
        "--server.address=127.0.0.1",
        "--server.headless=true",
        "--server.fileWatcherType=none",
        "--browser.gatherUsageStats=false",
        "--client.showErrorDetails=none",
        "--client.toolbarMode=minimal",
    ]


def _portal_page() -> Path:
    """Where the portal's page lies, found without importing it; `InputError` if it is not installed."""
    from importlib.util import find_spec

    from consilium.errors import InputError

    found = find_spec("consilium_ui")
    if found is None or found.origin is None or find_spec("streamlit") is None:
        raise InputError("the portal is not installed: pip install 'consilium[ui]'")
    return Path(found.origin).with_name("app.py")


def _need_loopback(host: str) -> None:
    import ipaddress

    from consilium.errors import InputError

    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise InputError(
            f"--host {host}: the API has no identities yet and listens on loopback only; use 127.0.0.1 and "
            "reach it by an SSH tunnel"
        )


def _need_files(*paths: Path) -> None:
    from consilium.errors import InputError

    missing = [str(path) for path in paths if not path.is_file()]
    if missing:
        raise InputError(
            f"TLS file {' and '.join(missing)} does not exist: name the certificate and key with --tls-cert "
            "and --tls-key (`consilium demo` makes them in HOME/tls)"
        )
