"""Limits, retried reasons and halts of sweeps; slots and lost workers of jobs"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

Document = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")
REASONS = ("diverged", "error", "crashed", "lost", "timeout")
RETRIED = '["crashed", "lost", "error"]'  # what every sweep retried so far


def upgrade() -> None:
    op.add_column("sweeps", sa.Column("max_running", sa.Integer(), nullable=True))
    op.add_column("sweeps", sa.Column("retry_on", Document, server_default=RETRIED, nullable=False))
    op.add_column("sweeps", sa.Column("halting", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.add_column("jobs", sa.Column("lost", sa.Integer(), server_default="0", nullable=False))
    op.add_column("jobs", sa.Column("slot", sa.Integer(), nullable=True))
    _allow(REASONS[:1] + ("out_of_memory",) + REASONS[1:])


def _allow(reasons: tuple[str, ...]) -> None:
    """Let these be the reasons of a failure. SQLite copies the table for that, which loses its triggers."""
    triggers: list[str] = []
    if op.get_bind().dialect.name == "sqlite":
        found = sa.text("SELECT sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'jobs'")
        triggers = list(op.get_bind().scalars(found))
    with op.batch_alter_table("jobs", table_kwargs={"sqlite_autoincrement": True}) as jobs:
        jobs.drop_constraint(op.f("ck_jobs_reason"), type_="check")
        condition = f"reason IS NULL OR reason IN ({', '.join(map(repr, reasons))})"
        jobs.create_check_constraint(op.f("ck_jobs_reason"), condition)
    for trigger in triggers:
        op.execute(trigger)


def downgrade() -> None:
    op.execute("UPDATE jobs SET reason = 'crashed' WHERE reason = 'out_of_memory'")
    _allow(REASONS)
    for table, column in (
        ("jobs", "slot"),
        ("jobs", "lost"),
        ("sweeps", "halting"),
        ("sweeps", "retry_on"),
        ("sweeps", "max_running"),
    ):
        op.drop_column(table, column)
