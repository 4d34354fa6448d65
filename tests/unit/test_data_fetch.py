"""Data sets are fetched whole or not at all, by one process at a time, and used as they are where they lie."""

import hashlib
import os
import resource
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from jobs import data
from jobs.data import sets
from jobs.data.sets import DataSet, File, Web
from jobs.errors import DataMissing, InputError, UnknownDataSet

ROOT = Path(__file__).parents[2]
FIRST, SECOND = b"first " * 1000, b"second " * 100_000  # the second is longer than one piece of a download


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@dataclass
class Home:
    """A web server with two files."""

    url: str = ""
    asked: list[str] = field(default_factory=list)  # "GET /first.txt"
    cut: set[str] = field(default_factory=set)  # paths that end in the middle
    held: threading.Event | None = None  # the second file stops in the middle until this is set
    in_the_middle: threading.Event = field(default_factory=threading.Event)

    def serve(self, request: BaseHTTPRequestHandler) -> None:
        path = request.path.rpartition("/")[2]
        self.asked.append(f"{request.command} {path}")
        content = {"first.txt": FIRST, "second.txt": SECOND}.get(path)
        if content is None:
            request.send_error(404)
            return
        request.send_response(200)
        for name, value in (
            ("Content-Length", len(content)),
            ("ETag", f'"{sha256(content)}"'),
            ("X-Repo-Commit", "7" * 40),
        ):
            request.send_header(name, str(value))
        request.end_headers()
        if request.command == "HEAD":
            return
        middle = len(content) // 2
        request.wfile.write(content[:middle])
        if path == "second.txt":
            self.in_the_middle.set()
            if self.held and not self.held.wait(60):
                raise TimeoutError
        if path in self.cut:
            request.close_connection = True
            return
        request.wfile.write(content[middle:])


@pytest.fixture
def home() -> Iterator[Home]:
    home = Home()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            try:
                home.serve(self)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True  # a killed client

        do_HEAD = do_GET

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    home.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield home
    server.shutdown()
    server.server_close()
    thread.join()


def small(url: str, second: str | None = None) -> DataSet:
    """A set of the home's two files. `second`: another checksum of the second one."""
    wanted = {"first.txt": sha256(FIRST), "second.txt": second or sha256(SECOND)}
    return DataSet(
        name="small",
        summary="two files",
        home="a test",
        licence="none needed",
        folder="small",
        files=tuple(File(path=f"raw/{name}") for name in wanted),
        sources=tuple(
            Web(path=f"raw/{name}", addresses=(f"{url}/{name}",), checksum=f"sha256:{checksum}", size=1)
            for name, checksum in wanted.items()
        ),
    )


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Callable[[DataSet], None]:
    """use(data set): it is in the table."""
    return lambda found: monkeypatch.setitem(sets.SETS, found.name, found)


FETCH = """
import sys
from pathlib import Path
from jobs.data import fetch, sets
sys.path.insert(0, "tests/unit")
from test_data_fetch import small
sets.SETS["small"] = small(sys.argv[1])
print(fetch.get("small", Path(sys.argv[2])))
"""


def start(url: str, folder: Path, **options: Any) -> "subprocess.Popen[str]":
    """A process that fetches the set into the folder."""
    command = [sys.executable, "-c", FETCH, url, str(folder)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=pipe, text=True, **options)


def is_whole(folder: Path) -> bool:
    files = {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return files == {"first.txt": FIRST, "second.txt": SECOND}


def left_in(folder: Path) -> list[str]:
    """What lies in a data folder besides its lock."""
    return sorted(path.name for path in folder.iterdir() if path.name != ".small.lock")


def test_a_set_is_fetched_whole(home: Home, use: Callable[[DataSet], None], tmp_path: Path) -> None:
    use(small(home.url))
    assert data.get("small", tmp_path) == tmp_path / "small"
    assert is_whole(tmp_path / "small")
    assert left_in(tmp_path) == ["small"]


def test_a_set_that_lies_there_is_used_as_it_is(
    home: Home, use: Callable[[DataSet], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(small(home.url))
    monkeypatch.setenv("GRIDYARD_DATA", str(tmp_path))
    folder = tmp_path / "small" / "raw"
    folder.mkdir(parents=True)
    for name in ("first.txt", "second.txt", "of the user's.txt"):
        (folder / name).write_text("others' bytes")
    folder.chmod(0o500)
    assert data.find("small") == data.get("small") == tmp_path / "small"
    assert {path.read_text() for path in folder.iterdir()} == {"others' bytes"}
    assert home.asked == []
    assert left_in(tmp_path) == ["small"]


def test_a_set_of_which_a_part_lies_there_is_neither_replaced_nor_filled_up(
    home: Home, use: Callable[[DataSet], None], tmp_path: Path
) -> None:
    use(small(home.url))
    (tmp_path / "small" / "raw").mkdir(parents=True)
    (tmp_path / "small" / "raw" / "first.txt").write_text("mine")
    with pytest.raises(DataMissing, match=r"is not whole: .*small has files, but no raw/second\.txt; move that folder"):
        data.get("small", tmp_path)
    assert [path.name for path in (tmp_path / "small").rglob("*.txt")] == ["first.txt"]
    assert home.asked == []


def test_a_file_with_a_wrong_checksum_is_not_kept(home: Home, use: Callable[[DataSet], None], tmp_path: Path) -> None:
    use(small(home.url, second=sha256(b"what was meant")))
    with pytest.raises(DataMissing) as caught:
        data.get("small", tmp_path)
    assert sha256(SECOND) in str(caught.value)
    assert sha256(b"what was meant") in str(caught.value)
    assert f"{home.url}/second.txt" in str(caught.value)
    assert left_in(tmp_path) == []


def test_a_download_that_breaks_off_leaves_nothing(home: Home, use: Callable[[DataSet], None], tmp_path: Path) -> None:
    use(small(home.url))
    home.cut = {"second.txt"}
    with pytest.raises(DataMissing, match=r"second\.txt: the connection broke off"):
        data.get("small", tmp_path)
    assert left_in(tmp_path) == []
    home.cut = set()
    assert is_whole(data.get("small", tmp_path))


def test_the_next_address_is_tried_when_one_fails(home: Home, use: Callable[[DataSet], None], tmp_path: Path) -> None:
    found = small(home.url)
    source = found.sources[0]
    assert isinstance(source, Web)
    mirrored = Web(path=source.path, addresses=(f"{home.url}/gone", *source.addresses), checksum=source.checksum)
    use(DataSet(**{**vars(found), "sources": (mirrored, found.sources[1])}))
    assert is_whole(data.get("small", tmp_path))
    assert home.asked == ["GET gone", "GET first.txt", "GET second.txt"]


def test_without_the_files_and_the_home_one_message_says_what_to_put_where(
    home: Home, use: Callable[[DataSet], None], tmp_path: Path
) -> None:
    found = small(home.url)
    gone = Web(path="raw/first.txt", addresses=(f"{home.url}/gone",))
    use(DataSet(**{**vars(found), "sources": (gone,)}))
    with pytest.raises(DataMissing) as caught:
        data.get("small", tmp_path)
    assert str(caught.value) == (
        f"the data set small is not in {tmp_path / 'small'}, and could not be fetched; "
        f"without network, put raw/first.txt, raw/second.txt into {tmp_path / 'small'}, "
        "or set GRIDYARD_DATA to a folder in which they lie under small/. Tried:\n"
        f"  - {home.url}/gone: the server answered 404 Not Found"
    )
    assert left_in(tmp_path) == []


def test_a_home_that_nobody_answers_at_is_named(use: Callable[[DataSet], None], tmp_path: Path) -> None:
    with socket.socket() as reserved:  # bound, but it does not listen
        reserved.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{reserved.getsockname()[1]}"
        use(small(address))
        with pytest.raises(DataMissing, match=f"{address}/first.txt: could not be reached"):
            data.get("small", tmp_path)


def test_a_folder_that_cannot_be_written_is_told(home: Home, use: Callable[[DataSet], None], tmp_path: Path) -> None:
    use(small(home.url))
    (tmp_path / "file").touch()
    with pytest.raises(DataMissing, match=r"Tried:\n  - \[Errno 17\] File exists"):
        data.get("small", tmp_path / "file")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_told(home: Home, use: Callable[[DataSet], None], tmp_path: Path) -> None:
    use(small(home.url))
    tmp_path.chmod(0o500)
    with pytest.raises(DataMissing, match=r"\[Errno 13\] Permission denied"):
        data.get("small", tmp_path)


def test_a_disk_without_room_is_told_and_nothing_is_left(home: Home, tmp_path: Path) -> None:
    """A limit on the size of files stands for the full disk."""
    room = len(SECOND) // 2
    process = start(home.url, tmp_path, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (room, room)))
    _, errors = process.communicate()
    assert "second.txt: [Errno 27] File too large" in errors
    assert left_in(tmp_path) == []


def test_of_two_processes_one_fetches_and_the_other_waits(home: Home, tmp_path: Path) -> None:
    home.held = threading.Event()
    first = start(home.url, tmp_path)
    assert home.in_the_middle.wait(60)
    second = start(home.url, tmp_path)
    assert second.stderr
    assert "another process; waiting" in second.stderr.readline()
    home.held.set()
    for process in (first, second):
        output, _ = process.communicate()
        assert (process.returncode, output.strip()) == (0, str(tmp_path / "small"))
    assert home.asked == ["GET first.txt", "GET second.txt"]
    assert is_whole(tmp_path / "small")


def test_after_a_kill_in_the_middle_the_set_is_fetched_whole(
    home: Home, use: Callable[[DataSet], None], tmp_path: Path
) -> None:
    home.held = threading.Event()
    process = start(home.url, tmp_path)
    assert home.in_the_middle.wait(60)
    process.kill()
    process.communicate()
    assert left_in(tmp_path) == [".tmp-small"]
    home.held.set()

    use(small(home.url))
    data.get("small", tmp_path)
    assert is_whole(tmp_path / "small")
    assert left_in(tmp_path) == ["small"]
    assert home.asked == ["GET first.txt", "GET second.txt", "GET second.txt"]  # what was whole is used


HUB = """
import sys
from pathlib import Path
from huggingface_hub.utils import logging as hub_logging
from huggingface_hub.utils.tqdm import are_progress_bars_disabled
from jobs.data import fetch, sets
from jobs.data.sets import DataSet, File, Hub
sources = (Hub(path="first.txt", repository="some/body", revision="7" * 40, checksum=sys.argv[2]),)
files = (File(path="first.txt"),)
words = dict.fromkeys(("name", "summary", "home", "licence", "folder"), "small")
sets.SETS["small"] = DataSet(**words, files=files, sources=sources)
told = hub_logging.get_verbosity()
try:
    print(fetch.get("small", Path(sys.argv[1])))
except fetch.DataMissing as error:
    print(error)
assert not are_progress_bars_disabled() and hub_logging.get_verbosity() == told  # as before, for other callers
"""


def from_the_hub(home: Home, folder: Path, checksum: str, **variables: str) -> str:
    """Fetched by a process of its own: the hub's library reads its variables once."""
    cache = str(folder / "hub")
    environment = {**os.environ, "HF_ENDPOINT": home.url, "HF_HUB_CACHE": cache, "HF_TOKEN": "", **variables}
    command = [sys.executable, "-c", HUB, str(folder / "data"), f"sha256:{checksum}"]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout.strip()


def test_a_file_of_the_hub_comes_through_its_cache_and_offline_out_of_it(home: Home, tmp_path: Path) -> None:
    right = sha256(FIRST)
    offline = from_the_hub(home, tmp_path, right, HF_HUB_OFFLINE="1")
    assert "some/body, first.txt: HF_HUB_OFFLINE is set, and its cache has no such file" in offline
    assert home.asked == []
    assert "expected 0000 but got" in from_the_hub(home, tmp_path, "0000")
    assert from_the_hub(home, tmp_path, right, HF_HUB_OFFLINE="1") == str(tmp_path / "data" / "small")
    assert (tmp_path / "data" / "small" / "first.txt").read_bytes() == FIRST


def test_a_set_that_is_not_there_is_not_found_and_not_fetched(
    home: Home, use: Callable[[DataSet], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(small(home.url))
    monkeypatch.setenv("GRIDYARD_DATA", str(tmp_path))
    with pytest.raises(DataMissing, match=r"is not in .*small\. `gridyard data get small` fetches it; without network"):
        data.find("small")
    assert home.asked == []


@pytest.mark.parametrize("use_it", [data.find, data.get])
def test_an_unknown_set_and_one_without_files_are_refused(use_it: Callable[[str], Path]) -> None:
    with pytest.raises(UnknownDataSet, match="there is no data set 'mnits'; did you mean \"mnist\""):
        use_it("mnits")
    with pytest.raises(InputError, match="iris comes with scikit-learn: it has no files"):
        use_it("iris")


def test_an_unpacked_file_stands_for_its_archive(tmp_path: Path) -> None:
    raw = tmp_path / "mnist" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    unpacked = [tmp_path / "mnist" / (file.also or "") for file in sets.SETS["mnist"].files]
    for path in unpacked[1:]:
        path.touch()
    assert sets.SETS["mnist"].missing(tmp_path / "mnist") == ["MNIST/raw/train-images-idx3-ubyte.gz"]
    unpacked[0].touch()
    assert data.get("mnist", tmp_path) == tmp_path / "mnist"
