"""Alembic's entry point: runs the migrations on the database that `upgrade` names."""

from __future__ import annotations

from alembic import context

from consilium.store.database import make_engine
from consilium.store.tables import METADATA

engine = make_engine(context.config.attributes["url"])
with engine.connect() as connection:
    context.configure(
        connection=connection, target_metadata=METADATA, render_as_batch=True, compare_type=True
    )
    with context.begin_transaction():
        context.run_migrations()
engine.dispose()
