"""`consilium study`: create, launch, watch and stop studies over the API."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from consilium.services.client import ApiClient

app = typer.Typer(no_args_is_help=True)

WATCH_SECONDS = 1.0
SHORTEST = 6


@dataclass(frozen=True)
class Connection:
    """How to reach the API: the options before the command."""

    api: str | None
    token_file: Path | None
    ca: Path | None
    home: Path | None


@app.callback()
def study(
    context: typer.Context,
    api: Annotated[str | None, typer.Option(envvar="CONSILIUM_API_URL", help="Address of the API.")] = None,
    token_file: Annotated[Path | None, typer.Option(help="Token; else platform/token in the home.")] = None,
    ca: Annotated[Path | None, typer.Option(help="CA of the API's TLS; else tls/ca.pem in the home.")] = None,
    home: Annotated[Path | None, typer.Option(help="The platform's home; else $CONSILIUM_HOME.")] = None,
) -> None:
    """Create, launch, watch and stop studies. Ids may be cut to 6 characters or more."""
    context.obj = Connection(api, token_file, ca, home)


@app.command()
def create(
    context: typer.Context,
    charter: Annotated[Path, typer.Argument(help="The charter as JSON.")],
    model: Annotated[
        Path, typer.Option(help="Initial parameters (safetensors), as the charter hashes them.")
    ],
) -> None:
    """Create a study from a charter and upload its initial model; prints the study's id."""
    from consilium.contracts.charter import read_charter

    client = _client(context)
    document = read_charter(_read(charter), str(charter))
    content = _read(model)
    client.create_study(document)
    client.upload_initial(document.id, content)
    typer.echo(document.id)


@app.command()
def launch(context: typer.Context, study: Annotated[str, typer.Argument(help="Study id.")]) -> None:
    """Start a new run of a study; prints the run's id."""
    client = _client(context)
    typer.echo(client.launch(_find(client, study, "study")).run)


@app.command()
def resume(context: typer.Context, run: Annotated[str, typer.Argument(help="Run id.")]) -> None:
    """Start the next launch of a failed or stopped run, from its last checkpoint."""
    client = _client(context)
    view = client.resume(_find(client, run, "run"))
    typer.echo(f"{view.run}: launch {view.launches}, going on after round {view.rounds_done}")


@app.command()
def stop(context: typer.Context, run: Annotated[str, typer.Argument(help="Run id.")]) -> None:
    """Stop a run. What its rounds have reached stays; `resume` goes on from there."""
    client = _client(context)
    view = client.stop(_find(client, run, "run"))
    typer.echo(f"{view.run}: {view.status} after round {view.rounds_done} of {view.rounds_planned}")


@app.command()
def model(
    context: typer.Context,
    run: Annotated[str, typer.Argument(help="Run id.")],
    out: Annotated[Path, typer.Argument(help="File to write (safetensors).")],
) -> None:
    """Download the final model of a finished run."""
    client = _client(context)
    size = client.download_model(_find(client, run, "run"), out)
    typer.echo(f"{out}: {size:,} bytes")


@app.command()
def report(
    context: typer.Context,
    run: Annotated[str, typer.Argument(help="Run id.")],
    out: Annotated[Path | None, typer.Option(help="File to write; else it is printed.")] = None,
) -> None:
    """The report of a run as JSON; row 0 is the untrained model."""
    client = _client(context)
    text = client.report(_find(client, run, "run")).model_dump_json(indent=2)
    if out is None:
        typer.echo(text)
    else:
        out.write_text(text + "\n", encoding="utf-8")


@app.command()
def status(
    context: typer.Context,
    what: Annotated[str | None, typer.Argument(help="Study or run; all studies without it.")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Follow the run until it ends.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show studies, one study, or one run; with --watch exit code 0 only if the run finished."""
    from consilium.errors import InputError

    client = _client(context)
    if what is None:
        if watch:
            raise InputError("--watch follows one run: name a run or a study")
        _show_all(client, json)
        return
    kind, found = _resolve(client, what)
    if kind == "study" and watch:
        runs = client.study(found).study.runs
        if not runs:
            raise InputError(f"study {found[:12]} has no run yet: start one with `consilium study launch`")
        kind, found = "run", runs[0].run
    if kind == "study":
        _show_study(client, found, json)
    elif watch:
        _watch(client, found)
    else:
        _show_run(client, found, json)


def _show_all(client: ApiClient, json: bool) -> None:
    from rich.console import Console

    from consilium.cli.tables import studies_table

    studies = client.studies()
    if json:
        typer.echo("[" + ",".join(view.model_dump_json() for view in studies) + "]")
    elif studies:
        Console().print(studies_table(studies))
    else:
        typer.echo("no studies yet: create one with `consilium study create CHARTER.json --model FILE`")


def _show_study(client: ApiClient, study: str, json: bool) -> None:
    from rich.console import Console

    from consilium.cli.tables import study_page

    detail = client.study(study)
    if json:
        typer.echo(detail.model_dump_json())
    else:
        Console().print(study_page(detail))


def _show_run(client: ApiClient, run: str, json: bool) -> None:
    from rich.console import Console

    from consilium.cli.tables import run_page

    detail = client.run(run)
    if json:
        typer.echo(detail.model_dump_json())
    else:
        Console().print(run_page(detail))


def _watch(client: ApiClient, run: str) -> None:
    """Redraw the run's page until it ends; exits with 1 unless it finished."""
    import time

    from rich.console import Console
    from rich.live import Live

    from consilium.cli.tables import run_page
    from consilium.vocabulary import RunStatus

    detail = client.run(run)
    with Live(run_page(detail), console=Console(), auto_refresh=False) as live:
        while detail.run.status in (RunStatus.WAITING, RunStatus.RUNNING):
            time.sleep(WATCH_SECONDS)
            detail = client.run(run)
            live.update(run_page(detail), refresh=True)
    if detail.run.status is not RunStatus.FINISHED:
        raise typer.Exit(1)


def _client(context: typer.Context) -> ApiClient:
    from consilium.contracts.home import find_home
    from consilium.errors import InputError
    from consilium.services.client import DEFAULT_URL, ApiClient

    connection: Connection = context.obj
    home = find_home(connection.home)
    token_file = connection.token_file or home.token
    if not token_file.is_file():
        raise InputError(
            f"token {token_file} does not exist: name it with --token-file, or its home with --home"
        )
    ca = connection.ca or (home.tls / "ca.pem" if (home.tls / "ca.pem").is_file() else None)
    client = ApiClient(connection.api or DEFAULT_URL, token_file.read_text().strip(), ca)
    context.call_on_close(client.close)
    return client


def _resolve(client: ApiClient, short: str) -> tuple[str, str]:
    """("study" or "run", full id) of the one id that starts with `short`."""
    from consilium.errors import InputError, NotFound

    if len(short) < SHORTEST:
        raise InputError(f"id {short!r} is too short: give at least {SHORTEST} characters")
    studies = client.studies()
    found = [("study", view.id) for view in studies if view.id.startswith(short)]
    found += [("run", run.run) for view in studies for run in view.runs if run.run.startswith(short)]
    if not found:
        raise NotFound(f"no study or run starts with {short!r}: see `consilium study status`")
    if len(found) > 1:
        raise InputError(f"{short!r} fits {', '.join(name for _, name in found[:4])}: give more characters")
    return found[0]


def _find(client: ApiClient, short: str, wanted: str) -> str:
    from consilium.errors import InputError

    kind, found = _resolve(client, short)
    if kind != wanted:
        raise InputError(f"{short!r} is a {kind}, this command takes a {wanted}")
    return found


def _read(path: Path) -> bytes:
    from consilium.errors import InputError

    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from None
