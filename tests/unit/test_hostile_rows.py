"""Rows that somebody else has written, as users meet them: one message or plain text, and nothing runs."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, insert, update

from db import schedulers, upkeep, workers
from db.clock import Moment
from db.models import Attempt, Base, History, Job, Model, Sweep, Worker
from gridyard import cli
from gridyard.client import Yard
from jobs import artifact, tensorfile
from jobs.errors import CheckpointDamaged, InputError, StoreError
from jobs.store import Store
from tests.reports import Reader
from tests.trained import trained, yard_at

CODES = "\x1b]0;owned\x07\x1b[2J\x9b31m\r\x08\u202e"  # a title, an empty screen, red, what stands backwards
SCRIPT = '<script>alert("1")</script><img src=x onerror=alert(1)>' + CODES
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]")
READ = (["status"], ["status", "1"], ["leaderboard"], ["leaderboard", "1", "--by", "cell"], ["show", "1"])


@pytest.fixture
def yard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Yard:
    """One trained job."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GRIDYARD_DB", f"sqlite:///{tmp_path}/gridyard.db")
    monkeypatch.setenv("GRIDYARD_STORE", str(tmp_path / "store"))
    yard = yard_at(tmp_path)
    trained(yard, task="sine", grid={"lr": [0.01]}, epochs=2)
    return yard


def change(yard: Yard, *statements: Any) -> None:
    with yard.database.writing() as session:
        for statement in statements:
            session.execute(statement)


def gridyard(words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """The exit code and all that it printed."""
    monkeypatch.setattr("sys.argv", ["gridyard", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    printed = capsys.readouterr()
    assert isinstance(ended.value.code, int)
    return ended.value.code, printed.out + printed.err


def test_no_code_of_a_row_reaches_a_terminal_or_runs_in_a_page(
    yard: Yard, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    names = ["epoch", "seconds", f"train_{SCRIPT}", f"val_{SCRIPT}"]
    content = b"".join(value.to_bytes(8, "little") for value in (0x3FF0000000000000,) * 4)
    change(
        yard,
        update(Sweep).values(name=SCRIPT, queue=SCRIPT, metric=f"val_{SCRIPT}"),
        update(Job).values(
            params={"lr": 0.01, SCRIPT: SCRIPT},
            metrics={f"test_{SCRIPT}": 1.0, SCRIPT: 2},
            error=SCRIPT,
            metric=f"val_{SCRIPT}",
        ),
        update(Attempt).values(
            worker=SCRIPT, error=SCRIPT, environment={"device": SCRIPT, SCRIPT: [SCRIPT], "notes": [SCRIPT]}
        ),
        update(History).values(names=names, content=content),
        update(Model).values(samples=[{"prompt": SCRIPT, "text": SCRIPT, SCRIPT: SCRIPT}, 7, [SCRIPT]]),
        insert(Worker).values(
            id=SCRIPT, queue="cpu", slots=1, busy=0, started_at=_time(yard), heartbeat_at=_time(yard), info={"host": []}
        ),
    )
    for words in (*READ, *([*one, "--json"] for one in READ), ["leaderboard", "--csv"], ["compare", "1", "1"]):
        code, printed = gridyard([*words], monkeypatch, capsys)
        assert (code, CONTROL.search(printed)) == (0, None) or words[0] == "compare", (words, printed)
        assert "Traceback" not in printed
    for words in (["show", "1", "--report", "page.html"], ["show", "1", "--plot", "page.png"]):
        code, printed = gridyard(words, monkeypatch, capsys)
        assert (code, CONTROL.search(printed)) == (0, None), printed
    page = Reader((tmp_path / "page.html").read_text())
    assert not {"script", "img", "iframe", "object"} & set(page.tags)


def _time(yard: Yard) -> Any:
    from db.clock import now

    return now()


DEEP: Any = "end"
for _ in range(900):
    DEEP = {"a": DEEP}
HEAVY = [DEEP, {"pack": {}, "parameters": "x", "notes": 7, "rows": []}]  # each command with torch takes a while
DOCUMENTS: list[Any] = [[], "text", 7, {"pack": 3}, [DEEP], *HEAVY]


@pytest.mark.parametrize("document", DOCUMENTS, ids=range(len(DOCUMENTS)))
def test_documents_of_another_kind_end_no_command_with_a_traceback(
    document: Any, yard: Yard, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    change(
        yard,
        update(Job).values(params=document, metrics=document),
        update(Attempt).values(environment=document),
        update(History).values(names=document),
        update(Model).values(samples=document),
    )
    heavy = [["show", "1", "--report", "p.html"], ["export", "1", "out"], ["repeat", "1"]]
    given = [*READ, ["show", "1", "--json"], *(heavy if document in HEAVY else [])]
    for words in given:
        code, printed = gridyard(words, monkeypatch, capsys)
        assert code in (0, 1, 2), printed
        assert "Traceback" not in printed
    change(yard, update(Sweep).values(spec=document))
    for words in (*given, ["predict", "1", "x=1"], ["resume", "1", "--no-wait"], ["retry", "1"]):
        code, printed = gridyard([*words], monkeypatch, capsys)
        assert code in (0, 1, 2), printed
        assert "Traceback" not in printed


def test_a_damaged_history_is_told_once_and_hides_nothing_else(
    yard: Yard, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    change(yard, update(History).values(content=b"x"))
    for words, told in (
        (["show", "1"], "artifacts"),
        (["show", "1", "--report", "p.html"], "A part of its history is damaged"),
        (["repeat", "1"], "the recorded history is damaged"),
    ):
        caplog.clear()
        code, printed = gridyard(words, monkeypatch, capsys)
        assert (code, told in printed) == (0, True), printed
        assert "None" not in printed
        assert caplog.text.count("a part of its history cannot be read") == 1
    change(yard, update(Job).values(best_epoch=None))
    code, printed = gridyard(["show", "1", "--report", "p.html"], monkeypatch, capsys)
    assert (code, "job 1 has succeeded and has no epoch that can be read" in printed) == (2, True), printed


@pytest.mark.parametrize("value", ["x", "", 7, "2026-13-45 00:00:00.000"])
def test_times_that_cannot_be_read_end_no_command_with_a_traceback(
    value: Any, yard: Yard, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with yard.database.writing() as session:
        workers.register(session, "w", "cpu", 1, {"clock": 1.0})
        schedulers.heartbeat(session, "s")
        upkeep.close_finished(session)
        for table, column in times():
            statement = f"UPDATE {table} SET {column} = ? WHERE {column} IS NOT NULL"
            session.connection().exec_driver_sql(statement, (value,))
    delete = ["delete", "1", "--yes", "--archive", "kept.jsonl.gz"]
    told = [*READ, *([*one, "--json"] for one in READ), ["watch", "1"], ["clean"], ["show", "1", "--report", "p.html"]]
    for words in (*told, delete):
        code, printed = gridyard([*words], monkeypatch, capsys)
        assert code == 0, printed
        assert "Traceback" not in printed
        assert words != ["show", "1"] or re.search(r"succeeded\s+–\s+–", printed), printed


def times() -> list[tuple[str, str]]:
    """(table, column) of all that hold one."""
    columns = (column for table in Base.metadata.sorted_tables for column in table.columns)
    return [(column.table.name, column.name) for column in columns if isinstance(column.type, Moment)]


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "../../etc/passwd",
        "1/../../../etc/passwd",
        "C:/x",
        "1\\..\\x",
        "1/\0/x",
        "",
        "a" * 5000,
        "\udcff",
    ],
)
def test_a_path_of_a_row_leads_out_of_no_store(path: str, yard: Yard) -> None:
    if "\udcff" not in path:  # no database takes it
        change(yard, update(Model).values(content=None, path=path.replace("\0", "\x01")))
        with pytest.raises(StoreError, match="store path"):
            yard.job(1).content()
    with pytest.raises(StoreError, match="store path"):
        Store(yard.settings.store_url).read(path)


def remade(yard: Yard, **facts: Any) -> bytes:
    """The job's model, with other facts in an otherwise whole file."""
    tensors, known = tensorfile.unpack(yard.job(1).content(), "the model")
    return tensorfile.pack(tensors, {name: value for name, value in {**known, **facts}.items() if value is not None})


@pytest.mark.parametrize(
    "facts",
    [
        {"task": "os:system"},
        {"task": ["sine"]},
        {"task": "jobs.tasks.sine"},
        {"params": "rm -rf"},
        {"params": {"hidden": [100_000_000]}},
        {"params": {"model": "mlp", "hidden": [60_000, 60_000]}},
        {"input_shape": None},
        {"input_shape": [1 << 40]},
        {"input_shape": 7},
        {"features": 7, "kind": []},
        {"about": None},
    ],
)
def test_a_model_of_other_facts_is_refused_and_takes_no_memory(facts: dict[str, Any], yard: Yard) -> None:
    content = remade(yard, **facts)
    change(yard, update(Model).values(content=content, sha256=hashlib.sha256(content).hexdigest()))
    with pytest.raises((CheckpointDamaged, InputError)):
        yard.job(1).load()


@pytest.mark.parametrize("content", [b"", b"\x80\x04cos\nsystem\n", b"\xff" * 100, b"8" * 8 + b"{}", b"PK\x03\x04"])
def test_a_model_of_other_bytes_is_refused(content: bytes, yard: Yard) -> None:
    change(yard, update(Model).values(content=content, sha256=hashlib.sha256(content).hexdigest()))
    with pytest.raises(CheckpointDamaged):
        artifact.load(yard.job(1).content())


def test_an_archive_of_hostile_rows_is_whole(
    yard: Yard, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    import gzip

    (tmp_path / "precious").write_text("kept")
    (tmp_path / "store" / "1").mkdir(parents=True, exist_ok=True)
    (tmp_path / "store" / "1" / "link").symlink_to(tmp_path / "precious")
    change(yard, update(Model).values(content=None, path="../precious", samples=SCRIPT), delete(History))
    with yard.database.writing() as session:
        upkeep.close_finished(session)
    code, printed = gridyard(["delete", "1", "--yes", "--archive", "kept.jsonl.gz"], monkeypatch, capsys)
    assert code == 0, printed
    lines = gzip.decompress((tmp_path / "kept.jsonl.gz").read_bytes()).splitlines()
    assert [json.loads(line)["kind"] for line in lines] == ["sweep", "job"]
    assert (tmp_path / "precious").read_text() == "kept"
