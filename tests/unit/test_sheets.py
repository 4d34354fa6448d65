"""CSV and Parquet files as a person makes them: what is read, and what is refused in words that name the row."""

import csv
import io
import re
import zipfile
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs import sheets
from jobs.errors import InputError


def written(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "data.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_csv_is_read_whatever_its_separator_encoding_and_ends_of_line(
    tmp_path: Path, separator: str, encoding: str, newline: str
) -> None:
    lines = [["größe", "b"], ["1", "한글"], ["2", "x y"]]
    text = "".join(separator.join(line) + newline for line in lines)
    sheet = sheets.read(written(tmp_path, text.encode(encoding)))
    assert sheet.names == ["größe", "b"]
    assert sheet.cells["b"].tolist() == ["한글", "x y"]
    assert sheet.separator == separator


cell = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=6)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.lists(cell, min_size=3, max_size=3), min_size=1, max_size=8))
def test_whatever_python_writes_as_csv_is_read_back_but_blank_rows(rows: list[list[str]]) -> None:
    header = ["a", "b", "c"]
    rows = [row for row in rows if row != header]
    text = io.StringIO(newline="")
    csv.writer(text).writerows([header, *rows])
    expected = [row for row in rows if any(part.strip() for part in row)]
    if not expected:
        with pytest.raises(InputError, match="a header and no rows"):
            sheets._csv(text.getvalue().encode(), "data.csv")
        return
    sheet = sheets._csv(text.getvalue().encode(), "data.csv")
    assert sheet.cells.to_numpy().tolist() == expected


@pytest.mark.parametrize("name", [".", ".."])
def test_a_folder_is_named_as_it_was_given(name: str) -> None:
    with pytest.raises(InputError, match=rf"^{re.escape(name)} is a folder\. Allowed are CSV and Parquet files"):
        sheets.read(Path(name))


def test_rows_are_numbered_as_a_spreadsheet_does_also_after_a_blank_one(tmp_path: Path) -> None:
    sheet = sheets.read(written(tmp_path, 'a,b\n1,"two\nlines"\n\n,\n3,4\n'))
    assert sheet.cells.index.tolist() == [2, 5]
    assert sheet.row(1) == "data.csv, row 5"


def test_a_parquet_file_keeps_its_types_and_its_rows_are_numbered_from_1(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": [1.5, None], "when": pd.to_datetime(["2024-01-01", "2024-01-02"])}, index=[7, 7])
    frame.to_parquet(tmp_path / "data.parquet")
    sheet = sheets.read(tmp_path / "data.parquet")
    assert sheet.cells.index.tolist() == [1, 2]
    assert [str(kind) for kind in sheet.cells.dtypes] == [str(kind) for kind in frame.dtypes]


@pytest.mark.parametrize("cells", [[None, [1, 2]], [{"x": 1}, {"x": 2}], [["a"], []]])
def test_a_parquet_column_of_lists_or_structs_is_refused_by_its_name(tmp_path: Path, cells: list[object]) -> None:
    pd.DataFrame({"a": [1, 2], "tags": cells}).to_parquet(tmp_path / "data.parquet")
    with pytest.raises(InputError, match=r'data.parquet, row \d: column "tags" holds several values in one cell; give'):
        sheets.read(tmp_path / "data.parquet")


def test_a_column_without_a_name_is_called_by_its_place(tmp_path: Path) -> None:
    assert sheets.read(written(tmp_path, ",b\n0,1\n")).names == ["column 1", "b"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "data.csv is empty"),
        (" \n\n", "data.csv is empty"),
        ("a,b\n", "data.csv has a header and no rows"),
        ("a,b\n1,2\n3\n", "data.csv, row 3 has 1 cells, the header has 2; look for a cell left out"),
        ("a,b\n1,2\n3,4,5\n", "data.csv, row 3 has 3 cells, the header has 2; quote a cell that holds the separator"),
        ("a,b\n1,2\na,b\n3,4\n", "data.csv, row 3 is the header again; remove it"),
        ('a,b\n1,2\n"3,4\n5,6\n', "data.csv, row 3 is broken: .*; look for a quote that is not closed"),
        ("a,a\n1,2\n", 'data.csv has 2 columns called "a"; give each a name of its own'),
        ("5.1,3.5\n4.9,3.0\n", r"data.csv has no header: its first row holds 5.1, 3.5 …; put the names"),
        ("a,b\n1,2\n3,caf\xe9\n".encode("latin-1"), "data.csv, row 3: byte 0xe9 is not UTF-8; save the file as UTF-8"),
        ("\ufeffa,b\n1,2\n3,".encode() + b"\xe9\n", "data.csv, row 3: byte 0xe9 is not UTF-8; save the file as UTF-8"),
        (
            "a,b\n1,2\n3,4".encode("utf-16")[:-1],
            "data.csv, row 3: the file starts as UTF-16, and here it is .* cut off",
        ),
        (b"PK\x03\x04 and so on", "data.csv is a ZIP archive; unpack it. Allowed are CSV and Parquet"),
        (b"\x1f\x8b\x08", "data.csv is compressed by gzip; unpack it"),
        (b"PAR1 and no more", "data.csv cannot be read: "),
    ],
)
def test_a_broken_file_is_refused_in_words_that_name_the_row(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        sheets.read(written(tmp_path, text))


def test_an_excel_workbook_is_told_from_other_zip_files(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "data.xlsx", "w") as archive:
        archive.writestr("xl/workbook.xml", "<workbook/>")
    with pytest.raises(InputError, match=r"data.xlsx is an Excel workbook; save its sheet as CSV"):
        sheets.read(tmp_path / "data.xlsx")


@settings(deadline=None, max_examples=40)
@given(st.binary(max_size=200))
def test_no_bytes_make_the_reader_crash(content: bytes) -> None:
    try:
        sheet = sheets._csv(content, "data.csv")
    except InputError:
        return
    assert len(sheet.cells) > 0
