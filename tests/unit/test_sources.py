"""A user's own file or folder: found at submission, known again by its contents where it is trained on."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from jobs import sources
from jobs.catalogue import Unfit
from jobs.errors import InputError


@pytest.fixture
def data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data folder; the current folder, `here`, lies beside it."""
    folder, here = tmp_path / "data", tmp_path / "here"
    folder.mkdir()
    here.mkdir()
    monkeypatch.setenv("GRIDYARD_DATA", str(folder))
    monkeypatch.chdir(here)
    return folder


@pytest.fixture
def pictures(data_folder: Path) -> Path:
    """A folder of two folders with a file each."""
    for name, text in (("cat/1.png", "one"), ("dog/2.png", "two")):
        file = data_folder / "pictures" / name
        file.parent.mkdir(parents=True)
        file.write_text(text)
    return data_folder / "pictures"


class TestLocate:
    def test_from_the_current_folder_before_the_data_folder(self, data_folder: Path) -> None:
        (data_folder / "a.csv").write_text("theirs")
        assert sources.locate("data", "a.csv") == data_folder / "a.csv"
        Path("a.csv").write_text("mine")
        assert sources.locate("data", "a.csv") == Path("a.csv").absolute()

    def test_by_its_whole_path_and_from_the_home_folder(
        self, data_folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (data_folder / "a.csv").write_text("a")
        monkeypatch.setenv("HOME", str(data_folder))
        assert sources.locate("data", str(data_folder / "a.csv")) == data_folder / "a.csv"
        assert sources.locate("data", "~/a.csv") == data_folder / "a.csv"

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            (None, "is missing; give the path of your data"),
            ("", "is missing"),
            ("b.csv", 'was given "b.csv", but there is neither {here}/b.csv nor {data}/b.csv'),
            ("/nowhere/b.csv", 'was given "/nowhere/b.csv", but there is no /nowhere/b.csv'),
            ("x" * 5000, "which cannot be looked for: "),
            ("~nobody_of_this_name/b.csv", "which cannot be looked for: "),
            ("a\0b", 'was given "a\0b", but there is neither'),
        ],
    )
    def test_what_is_not_there_is_refused_by_where_it_was_looked_for(
        self, data_folder: Path, given: str | None, message: str
    ) -> None:
        with pytest.raises(Unfit) as refused:
            sources.locate("data", given)
        assert refused.value.param == "data"
        assert message.format(here=Path.cwd(), data=data_folder) in str(refused.value)

    def test_a_pipe_is_refused_before_anybody_waits_for_it(self, data_folder: Path) -> None:
        os.mkfifo("pipe")
        with pytest.raises(Unfit, match="pipe, which is neither a file nor a folder"):
            sources.locate("data", "pipe")


class TestPortable:
    @pytest.mark.parametrize("name", ["a.csv", "deep/er/a.csv"])
    def test_what_lies_in_the_data_folder_is_found_where_that_lies_elsewhere(
        self, data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        stored = sources.portable(data_folder / name)
        assert stored == name
        other = tmp_path / "other" / name
        other.parent.mkdir(parents=True)
        other.write_text("a")
        monkeypatch.setenv("GRIDYARD_DATA", str(tmp_path / "other"))
        assert sources.opened(stored) == other

    def test_what_lies_elsewhere_keeps_its_whole_path(self, data_folder: Path) -> None:
        Path("a.csv").write_text("a")
        stored = sources.portable(Path("a.csv").absolute())
        assert stored == str(Path("a.csv").absolute())
        assert sources.opened(stored) == Path("a.csv").absolute()

    def test_a_way_out_of_the_data_folder_is_no_way_into_it(self, data_folder: Path) -> None:
        Path("a.csv").write_text("a")
        given = sources.locate("data", str(data_folder / ".." / "here" / "a.csv"))
        assert sources.portable(given) == str(Path("a.csv").resolve())

    @pytest.mark.parametrize("given", ["../data/a.csv", "link/a.csv"])
    def test_a_way_round_into_the_data_folder_is_one_into_it(self, data_folder: Path, given: str) -> None:
        (data_folder / "a.csv").write_text("a")
        Path("link").symlink_to(data_folder)
        assert sources.portable(sources.locate("data", given)) == "a.csv"

    def test_a_link_out_of_the_data_folder_keeps_its_name(self, data_folder: Path, tmp_path: Path) -> None:
        (tmp_path / "elsewhere.csv").write_text("a")
        (data_folder / "a.csv").symlink_to(tmp_path / "elsewhere.csv")
        assert sources.portable(sources.locate("data", "a.csv")) == "a.csv"

    def test_a_data_folder_that_is_a_link_is_known_by_either_name(
        self, data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (data_folder / "a.csv").write_text("a")
        (tmp_path / "link").symlink_to(data_folder)
        monkeypatch.setenv("GRIDYARD_DATA", str(tmp_path / "link"))
        assert sources.portable(tmp_path / "link" / "a.csv") == "a.csv"
        assert sources.portable(data_folder / "a.csv") == "a.csv"


class TestOpened:
    @pytest.mark.parametrize("stored", ["a.csv", "/nowhere/a.csv"])
    def test_what_is_not_on_this_machine_is_named_with_what_to_do(self, data_folder: Path, stored: str) -> None:
        with pytest.raises(InputError) as missing:
            sources.opened(stored)
        assert str(missing.value).startswith(f"{data_folder / stored} is not on this machine; put it there")

    def test_a_name_that_no_disk_takes_is_one_message(self, data_folder: Path) -> None:
        with pytest.raises(InputError, match="cannot be looked at: File name too long"):
            sources.opened("x" * 5000)


def replaced(folder: Path) -> None:
    (folder / "cat/1.png").write_text("ONE")


def moved(folder: Path) -> None:
    (folder / "cat/1.png").rename(folder / "dog/1.png")


def exchanged(folder: Path) -> None:
    (folder / "cat/1.png").write_text("two")
    (folder / "dog/2.png").write_text("one")


def removed(folder: Path) -> None:
    (folder / "cat/1.png").unlink()


def added(folder: Path) -> None:
    (folder / "cat/3.png").write_text("")


def cut_elsewhere(folder: Path) -> None:
    """The same bytes, one after the other."""
    (folder / "cat/1.png").write_text("onetwo"[:4])
    (folder / "dog/2.png").write_text("onetwo"[4:])


class TestFingerprint:
    @pytest.mark.parametrize("change", [replaced, moved, exchanged, removed, added, cut_elsewhere])
    def test_a_folder_that_has_changed_is_refused(self, pictures: Path, change: Callable[[Path], None]) -> None:
        before = sources.fingerprint(pictures)
        sources.check(pictures, before)
        change(pictures)
        with pytest.raises(InputError, match=r"pictures has changed since the sweep was submitted; submit again"):
            sources.check(pictures, before)

    def test_it_is_of_the_contents_and_not_of_the_place_or_time(self, pictures: Path, tmp_path: Path) -> None:
        before = sources.fingerprint(pictures)
        os.utime(pictures / "cat/1.png", (0, 0))
        assert sources.fingerprint(pictures.rename(tmp_path / "moved")) == before

    def test_hidden_files_and_folders_do_not_count(self, pictures: Path) -> None:
        before = sources.fingerprint(pictures)
        (pictures / ".DS_Store").write_text("x")
        (pictures / "cat" / ".thumbs").mkdir()
        (pictures / "cat" / ".thumbs" / "1.png").write_text("x")
        assert sources.fingerprint(pictures) == before

    def test_a_folder_in_a_hidden_one_counts(self, pictures: Path, tmp_path: Path) -> None:
        (tmp_path / ".cache").mkdir()
        before = sources.fingerprint(pictures)
        assert sources.fingerprint(pictures.rename(tmp_path / ".cache" / "pictures")) == before

    def test_what_links_lead_to_counts(self, pictures: Path, tmp_path: Path) -> None:
        before = sources.fingerprint(pictures)
        (pictures / "cat").rename(tmp_path / "cats")
        (pictures / "cat").symlink_to(tmp_path / "cats")
        assert sources.fingerprint(pictures) == before
        (tmp_path / "cats" / "1.png").write_text("ONE")
        assert sources.fingerprint(pictures) != before

    @pytest.mark.parametrize("leads_to", ["pictures", "pictures/cat", "."])
    def test_a_link_back_to_a_folder_above_is_refused(self, pictures: Path, leads_to: str) -> None:
        (pictures / "cat" / "again").symlink_to(pictures.parent / leads_to)
        with pytest.raises(InputError, match=r"pictures/cat/again.* is a link back to "):
            sources.fingerprint(pictures)

    def test_a_link_that_leads_nowhere_and_a_pipe_are_no_files(self, pictures: Path) -> None:
        before = sources.fingerprint(pictures)
        (pictures / "cat" / "gone.png").symlink_to("nowhere.png")
        os.mkfifo(pictures / "cat" / "pipe.png")
        assert sources.fingerprint(pictures) == before

    def test_a_name_that_is_no_text_counts_too(self, pictures: Path) -> None:
        before = sources.fingerprint(pictures)
        Path(os.fsdecode(bytes(pictures) + b"/cat/\xff.png")).write_text("x")
        assert sources.fingerprint(pictures) != before

    def test_a_file_is_known_by_its_contents(self, data_folder: Path) -> None:
        first, second = data_folder / "a.csv", data_folder / "b.csv"
        first.write_bytes(b"x" * (sources.BLOCK + 1))
        second.write_bytes(b"x" * (sources.BLOCK + 1))
        sources.check(first, sources.fingerprint(second))
        sources.check(first, None)  # none was recorded
        second.write_bytes(b"x" * sources.BLOCK + b"y")
        with pytest.raises(InputError, match=r"b.csv has changed"):
            sources.check(second, sources.fingerprint(first))

    def test_a_file_that_has_gone_is_named(self, pictures: Path) -> None:
        with pytest.raises(InputError, match=r"gone.csv: cannot be read: No such file or directory"):
            sources.fingerprint(pictures / "gone.csv")

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
    @pytest.mark.parametrize("name", ["cat/1.png", "cat"])
    def test_what_may_not_be_read_is_named(self, pictures: Path, name: str) -> None:
        (pictures / name).chmod(0)
        try:
            with pytest.raises(InputError, match=f"pictures/{name}: cannot be read: Permission denied"):
                sources.fingerprint(pictures)
        finally:
            (pictures / name).chmod(0o755)
