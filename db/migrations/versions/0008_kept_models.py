"""What succeeded jobs keep in the store, models that were freed, and the schedulers that are there"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
Moment = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "kept",
        sa.Column("job_id", Id, nullable=False, autoincrement=False),
        sa.Column("sweep_id", sa.BigInteger(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("rank_key", sa.Double(), nullable=True),
        sa.Column("finished_at", Moment, nullable=False),
        sa.Column("due", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_kept_job_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_kept")),
    )
    # Of older versions every model is kept; their checkpoints go as those of new jobs do.
    op.execute(
        "INSERT INTO kept (job_id, sweep_id, attempt, size, rank_key, finished_at, due)"
        " SELECT jobs.id, jobs.sweep_id, models.attempt, models.size, jobs.rank_key, jobs.finished_at, true"
        " FROM jobs JOIN models ON models.job_id = jobs.id WHERE jobs.rank_key IS NOT NULL"
    )
    ranked, due = sa.text("rank_key IS NOT NULL"), sa.text("due")
    op.create_index(
        "ix_kept_rank",
        "kept",
        ["sweep_id", "rank_key", "finished_at", "job_id"],
        postgresql_where=ranked,
        sqlite_where=ranked,
    )
    op.create_index("ix_kept_due", "kept", ["sweep_id", "job_id"], postgresql_where=due, sqlite_where=due)
    op.add_column("models", sa.Column("freed_at", Moment, nullable=True))
    op.create_table(
        "schedulers",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("started_at", Moment, nullable=False),
        sa.Column("heartbeat_at", Moment, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_schedulers")),
    )


def downgrade() -> None:
    op.drop_table("schedulers")
    op.execute("DELETE FROM models WHERE freed_at IS NOT NULL")
    op.drop_column("models", "freed_at")
    op.drop_table("kept")
