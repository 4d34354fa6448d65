"""Sweeps that are extended: their epochs, what is still to do, and jobs that keep a result while they train on"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

Document = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")
FINAL = "state IN ('succeeded', 'failed', 'cancelled')"
RANKED = "rank_key IS NOT NULL"
RANKS = {
    "ix_jobs_rank_sweep": ["sweep_id", "rank_key", "finished_at", "id"],
    "ix_jobs_rank_task": ["task", "metric", "rank_key", "finished_at", "id"],
    "ix_jobs_rank_all": ["rank_key", "finished_at", "id"],
}


def upgrade() -> None:
    op.add_column("sweeps", sa.Column("epochs", sa.Integer(), server_default="1", nullable=False))
    op.add_column("sweeps", sa.Column("extending", Document, nullable=True))
    op.add_column("jobs", sa.Column("until", sa.Integer(), nullable=True))
    is_postgresql = op.get_bind().dialect.name == "postgresql"
    of_spec = "CAST(spec ->> 'epochs' AS INTEGER)" if is_postgresql else "json_extract(spec, '$.epochs')"
    op.execute(f"UPDATE sweeps SET epochs = COALESCE({of_spec}, 1)")
    _keep_results(f"(finished_at IS NOT NULL) = ({FINAL} OR {RANKED})", f"state <> 'succeeded' OR {RANKED}", RANKED)


def _keep_results(final: str, ranked: str, where: str) -> None:
    """Let these be the rules of results, and the jobs that are ranked."""
    for name in RANKS:
        op.drop_index(name, table_name="jobs")
    triggers: list[str] = []
    if op.get_bind().dialect.name == "sqlite":  # it copies the table, which loses its triggers
        found = sa.text("SELECT sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'jobs'")
        triggers = list(op.get_bind().scalars(found))
    with op.batch_alter_table("jobs", table_kwargs={"sqlite_autoincrement": True}) as jobs:
        for name, condition in (("final", final), ("ranked", ranked)):
            jobs.drop_constraint(op.f(f"ck_jobs_{name}"), type_="check")
            jobs.create_check_constraint(op.f(f"ck_jobs_{name}"), condition)
    for trigger in triggers:
        op.execute(trigger)
    for name, columns in RANKS.items():
        op.create_index(name, "jobs", columns, postgresql_where=sa.text(where), sqlite_where=sa.text(where))


def downgrade() -> None:
    # What trains more epochs has its result of before, and is done.
    op.execute(
        "UPDATE jobs SET state = 'succeeded', worker = NULL, slot = NULL, lease_expires_at = NULL, due_at = NULL"
        f" WHERE {RANKED} AND state <> 'succeeded'"
    )
    _keep_results(f"(finished_at IS NOT NULL) = ({FINAL})", f"({RANKED}) = (state = 'succeeded')", "state = 'succeeded'")
    op.drop_column("jobs", "until")
    op.drop_column("sweeps", "extending")
    op.drop_column("sweeps", "epochs")
