"""Options that several commands share. Imports typer only, so that --help stays fast."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from consilium_site.home import SiteHome

HomeOption = Annotated[
    Path | None,
    typer.Option("--home", envvar="CONSILIUM_SITE_HOME", help="The site's folder: keys, store, cache, logs."),
]


def site_home(home: Path | None) -> SiteHome:
    """The `SiteHome` of an option; the user's data folder if none is given."""
    from consilium_site.home import SiteHome

    if home is None:
        from platformdirs import user_data_path

        home = user_data_path("consilium-site")
    return SiteHome(home.absolute())
