"""Packs, and histories of eight bytes a number"""

import struct
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

Document = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")
ROWS = 1_000  # in memory at a time

histories = sa.table(
    "histories",
    *(sa.column(name, sa.Integer) for name in ("job_id", "attempt", "first_epoch")),
    *(sa.column(name, Document) for name in ("columns", "names")),
    sa.column("content", sa.LargeBinary),
)
KEY = (histories.c.job_id, histories.c.attempt, histories.c.first_epoch)


def upgrade() -> None:
    # All jobs of an old sweep get one number, whatever their shapes: its trainers separate what does not fit together.
    op.add_column("jobs", sa.Column("pack", sa.Integer(), server_default="0", nullable=False))
    op.drop_index("ix_jobs_sweep_state", "jobs")
    op.create_index("ix_jobs_sweep_state_pack", "jobs", ["sweep_id", "state", "pack", "id"])
    op.add_column("histories", sa.Column("names", Document, nullable=True))
    op.add_column("histories", sa.Column("content", sa.LargeBinary(), nullable=True))
    _rewrite([histories.c.columns], _packed)
    with op.batch_alter_table("histories") as batch_op:
        batch_op.alter_column("names", existing_type=Document, nullable=False)
        batch_op.alter_column("content", existing_type=sa.LargeBinary(), nullable=False)
        batch_op.drop_column("columns")


def downgrade() -> None:
    op.add_column("histories", sa.Column("columns", Document, nullable=True))
    _rewrite([histories.c.names, histories.c.content], _unpacked)
    with op.batch_alter_table("histories") as batch_op:
        batch_op.alter_column("columns", existing_type=Document, nullable=False)
        batch_op.drop_column("content")
        batch_op.drop_column("names")
    op.drop_index("ix_jobs_sweep_state_pack", "jobs")
    op.create_index("ix_jobs_sweep_state", "jobs", ["sweep_id", "state", "id"])
    op.drop_column("jobs", "pack")


def _rewrite(read: list[Any], values: Callable[..., dict[str, Any]]) -> None:
    """Give each row the values that follow from these columns of it."""
    connection = op.get_bind()
    some = sa.select(*KEY, *read).order_by(*KEY).limit(ROWS)
    last: tuple[int, ...] = (-1, -1, -1)
    while rows := connection.execute(some.where(sa.tuple_(*KEY) > sa.tuple_(*last))).all():
        for row in rows:
            *key, last = *row[:3], tuple(row[:3])
            this = [column == value for column, value in zip(KEY, key, strict=True)]
            connection.execute(sa.update(histories).where(*this).values(values(*row[3:])))


def _packed(columns: dict[str, list[float | None]]) -> dict[str, Any]:
    names = ["epoch", "seconds", *(name for name in columns if name not in ("epoch", "seconds"))]  # JSONB reorders
    numbers = [float("nan") if value is None else value for name in names for value in columns[name]]
    return {"names": names, "content": struct.pack(f"<{len(numbers)}d", *numbers)}


def _unpacked(names: list[str], content: bytes) -> dict[str, Any]:
    numbers = [value if abs(value) < float("inf") else None for (value,) in struct.iter_unpack("<d", content)]
    length = len(numbers) // len(names)
    columns: dict[str, Any] = {name: numbers[at * length : (at + 1) * length] for at, name in enumerate(names)}
    return {"columns": columns | {"epoch": [int(epoch) for epoch in columns["epoch"]]}}
