"""Privacy that a run has spent after each round."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column("rounds", sa.Column("epsilon", sa.Float(), nullable=True))


def downgrade() -> None:
    """Take it back."""
    with op.batch_alter_table("rounds") as table:
        table.drop_column("epsilon")
