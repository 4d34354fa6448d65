"""A new SQLite file is opened by many at once."""

import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import text

from db import session as sessions
from db.session import Database
from jobs.errors import DatabaseAway


def test_who_opens_a_new_file_while_another_writes_its_first_table_waits_for_it(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "new.db", isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("CREATE TABLE first (number INTEGER)")
        threading.Timer(0.2, other.execute, ["COMMIT"]).start()
        with closing(Database(f"sqlite:///{tmp_path}/new.db")) as database, database.reading() as session:
            assert session.scalar(text("SELECT count(*) FROM first")) == 0


def test_it_does_not_wait_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "BUSY_SECONDS", 0.1)
    with closing(sqlite3.connect(tmp_path / "new.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        database = Database(f"sqlite:///{tmp_path}/new.db")
        with closing(database), pytest.raises(DatabaseAway, match="database is locked"), database.reading():
            pass
