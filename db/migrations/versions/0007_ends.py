"""How far each attempt came, and an index of failed jobs by their reason"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

FAILED = sa.text("state = 'failed'")


def upgrade() -> None:
    op.add_column("attempts", sa.Column("epoch", sa.Integer(), nullable=True))
    op.create_index("ix_jobs_failed", "jobs", ["sweep_id", "reason"], postgresql_where=FAILED, sqlite_where=FAILED)


def downgrade() -> None:
    op.drop_index("ix_jobs_failed", "jobs")
    op.drop_column("attempts", "epoch")
