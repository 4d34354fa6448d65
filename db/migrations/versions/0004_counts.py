"""Counts of jobs per state, kept by triggers on changes; sweeps that are being deleted"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
STATES = ("submitting", "open", "paused", "cancelled", "finished")

# One writer at a time: a row per sweep and state is enough.
SQLITE_ADD = """
    INSERT INTO counts (sweep_id, state, part, number) VALUES ({row}.sweep_id, {row}.state, 0, {number})
    ON CONFLICT (sweep_id, state, part) DO UPDATE SET number = number + excluded.number;
"""
ADDED, TAKEN = SQLITE_ADD.format(row="NEW", number=1), SQLITE_ADD.format(row="OLD", number=-1)
SQLITE = {
    "jobs_counted_update": f"AFTER UPDATE OF state ON jobs WHEN OLD.state <> NEW.state BEGIN {TAKEN} {ADDED} END",
    "jobs_counted_delete": f"AFTER DELETE ON jobs BEGIN {TAKEN} END",
}

# Once a statement, however many rows it changes; each session in rows of its own, which nobody else waits for.
POSTGRESQL_FUNCTION = """
CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO counts AS counted (sweep_id, state, part, number)
    SELECT sweep_id, state, pg_backend_pid(), sum(number)
    FROM ({moves}) AS moves GROUP BY sweep_id, state HAVING sum(number) <> 0
    ON CONFLICT (sweep_id, state, part) DO UPDATE SET number = counted.number + excluded.number;
    RETURN NULL;
END $$
"""
ADDED_ROWS = "SELECT sweep_id, state, 1 AS number FROM added"
TAKEN_ROWS = "SELECT sweep_id, state, -1 AS number FROM taken"
POSTGRESQL = {
    "jobs_counted_update": (
        "UPDATE",
        "NEW TABLE AS added OLD TABLE AS taken",
        f"{ADDED_ROWS} UNION ALL {TAKEN_ROWS}",
    ),
    "jobs_counted_delete": ("DELETE", "OLD TABLE AS taken", TAKEN_ROWS),
}


def upgrade() -> None:
    op.create_table(
        "counts",
        sa.Column("sweep_id", Id, nullable=False, autoincrement=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("part", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("sweep_id", "state", "part", name=op.f("pk_counts")),
        postgresql_with={"fillfactor": 50},
    )
    parts = sa.text("part <> 0")
    op.create_index("ix_counts_parts", "counts", ["part"], postgresql_where=parts, sqlite_where=parts)
    # The triggers first: on PostgreSQL they keep writers out until we commit, so that no job is missed.
    if op.get_bind().dialect.name == "postgresql":
        for name, (event, tables, moves) in POSTGRESQL.items():
            op.execute(POSTGRESQL_FUNCTION.format(name=name, moves=moves))
            op.execute(
                f"CREATE TRIGGER {name} AFTER {event} ON jobs REFERENCING {tables}"
                f" FOR EACH STATEMENT EXECUTE FUNCTION {name}()"
            )
    else:
        for name, rest in SQLITE.items():
            op.execute(f"CREATE TRIGGER {name} {rest}")
    op.execute(
        "INSERT INTO counts (sweep_id, state, part, number)"
        " SELECT sweep_id, state, 0, count(*) FROM jobs GROUP BY sweep_id, state"
    )
    _allow((*STATES, "deleting"))
    deleting = sa.text("state = 'deleting'")
    op.create_index("ix_sweeps_deleting", "sweeps", ["id"], postgresql_where=deleting, sqlite_where=deleting)


def _allow(states: tuple[str, ...]) -> None:
    # SQLite copies the table: the copy, too, must never give an id out again.
    with op.batch_alter_table("sweeps", table_kwargs={"sqlite_autoincrement": True}) as sweeps:
        sweeps.drop_constraint(op.f("ck_sweeps_state"), type_="check")
        sweeps.create_check_constraint(op.f("ck_sweeps_state"), f"state IN ({', '.join(map(repr, states))})")


def downgrade() -> None:
    op.drop_index("ix_sweeps_deleting", table_name="sweeps")
    _allow(STATES)
    for name in SQLITE:
        if op.get_bind().dialect.name == "postgresql":
            op.execute(f"DROP TRIGGER {name} ON jobs")
            op.execute(f"DROP FUNCTION {name}()")
        else:
            op.execute(f"DROP TRIGGER {name}")
    op.drop_index("ix_counts_parts", table_name="counts")
    op.drop_table("counts")
