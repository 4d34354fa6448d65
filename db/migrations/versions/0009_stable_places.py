"""Jobs of equal scores are ranked by their number: who finished first differs from run to run"""

from collections.abc import Mapping, Sequence

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

BEFORE = {
    "ix_jobs_rank_sweep": ("jobs", ["sweep_id", "rank_key", "finished_at", "id"]),
    "ix_jobs_rank_task": ("jobs", ["task", "metric", "rank_key", "finished_at", "id"]),
    "ix_jobs_rank_all": ("jobs", ["rank_key", "finished_at", "id"]),
    "ix_kept_rank": ("kept", ["sweep_id", "rank_key", "finished_at", "job_id"]),
}
AFTER = {name: (table, [one for one in columns if one != "finished_at"]) for name, (table, columns) in BEFORE.items()}


def upgrade() -> None:
    _replace(AFTER)


def downgrade() -> None:
    _replace(BEFORE)


def _replace(indexes: Mapping[str, tuple[str, Sequence[str]]]) -> None:
    ranked = sa.text("rank_key IS NOT NULL")
    for name, (table, columns) in indexes.items():
        op.drop_index(name, table)
        op.create_index(name, table, columns, postgresql_where=ranked, sqlite_where=ranked)
