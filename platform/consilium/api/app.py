"""Composes the API: one function chooses the real parts, tests choose others."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import APIRouter, Depends, FastAPI
from starlette.concurrency import run_in_threadpool

from consilium import __version__
from consilium.api import privacy, problems, runs, sites, studies
from consilium.api.deps import Platform, need_token
from consilium.api.limits import BodyLimit
from consilium.api.settings import Settings, bearer_token
from consilium.contracts.api import Health, Problem
from consilium.flower.runs import FlowerRuns
from consilium.services.launcher import Flower, Follower, Launcher
from consilium.store.database import Database, upgrade

TAGS = [
    {"name": "sites", "description": "Hospitals, their keys and their signs of life."},
    {"name": "studies", "description": "Charters, initial models and the hospitals' signed decisions."},
    {"name": "runs", "description": "Launching, watching and stopping runs; reports and models."},
    {"name": "privacy", "description": "What a study's privacy takes, before it is agreed on."},
    {"name": "aggregator", "description": "Events of a run; needs the run's own token."},
    {"name": "platform", "description": "The platform itself."},
]
WRONG = {
    401: "no token, or a wrong one",
    403: "a signature or key that does not fit",
    404: "no such thing",
    409: "the present state does not allow it; says what to do",
    413: "the body is too large",
    422: "the request breaks a rule; names field and rule",
}

platform_router = APIRouter(tags=["platform"])


@platform_router.get("/health")
def health() -> Health:
    """The platform's sign of life; the only route without a token."""
    return Health(version=__version__)


def create_app(settings: Settings, flower: Flower | None = None) -> FastAPI:
    """The API of one home. The database is brought to the newest schema here, before anything is served.

    `flower` starts and follows Flower runs; None means the SuperLink whose connection is in the home.
    Launches of an earlier process are followed again as soon as the application starts.
    """
    upgrade(settings.database_url)
    database = Database(settings.database_url)
    home = settings.home
    launcher = Launcher(database, home, flower or FlowerRuns(home.flower_home, home.runs))
    follower = Follower(launcher, settings.poll_seconds)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        follower.start()
        yield
        await run_in_threadpool(follower.stop)
        database.close()

    app = FastAPI(
        title="Consilium",
        summary="Hospitals train one brain-tumour model together; no scan leaves home.",
        version=__version__,
        openapi_tags=TAGS,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        responses={code: {"model": Problem, "description": text} for code, text in WRONG.items()},
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.platform = Platform(home, database, launcher, bearer_token(home))
    problems.install(app)
    app.add_middleware(BodyLimit)
    app.include_router(platform_router)
    guarded = [Depends(need_token)]
    for router in (sites.router, studies.router, runs.router, privacy.router):
        app.include_router(router, dependencies=guarded)
    app.include_router(runs.events)
    app.add_api_route("/openapi.json", app.openapi, dependencies=guarded, include_in_schema=False)
    return app
