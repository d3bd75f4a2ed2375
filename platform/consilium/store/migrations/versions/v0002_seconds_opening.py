"""What opening the masked sum took of each round."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column("rounds", sa.Column("seconds_opening", sa.Float(), nullable=False, server_default="0"))


def downgrade() -> None:
    """Take it back."""
    with op.batch_alter_table("rounds") as table:
        table.drop_column("seconds_opening")
