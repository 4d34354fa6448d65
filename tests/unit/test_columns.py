"""Columns of any kind as numbers, and as what a network takes."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs import columns, sheets
from jobs.cells import MOST_VALUES, Cells, guessed, numbers
from jobs.column_layers import CLIP, Expand, UnstandardiseLog
from jobs.errors import InputError
from jobs.problem import Signature
from jobs.schema import Column
from jobs.sheets import Sheet, of_frame


def sheet_of(**cells: Any) -> Sheet:
    return of_frame(pd.DataFrame(cells))


def cells_of(values: list[Any], name: str = "a") -> Cells:
    return guessed(sheet_of(**{name: values}), name)


def fitted(sheet: Sheet, training: list[int]) -> tuple[list[Column], np.ndarray, Expand]:
    """What the training rows say of each column, all rows as numbers, and the layer fitted on the training rows."""
    found = [guessed(sheet, name) for name in sheet.names]
    described = [cells.column(np.array(training)) for cells in found]
    rows = np.column_stack([cells.encoded(column) for cells, column in zip(found, described, strict=True)])
    layer = Expand(described)
    layer.fit(torch.from_numpy(rows[training]).float())
    return described, rows, layer


class TestKinds:
    @pytest.mark.parametrize(
        ("values", "kind"),
        [
            (["1", "2.5", "", "-3e4"], "number"),
            (["1", "?", "NA", "None", "-", "nan"], "number"),
            ([1, 2, None], "number"),
            (["red", "blue", None], "category"),
            ([True, False, True], "category"),
            (["1.2.3", "1.2.4"], "category"),
            (["2024-01-31", "2024-02-01T10:30:00Z", ""], "date"),
            (["31.12.2024", "1.1.2025"], "date"),
            (["12/31/2024", "1/1/2025"], "date"),
            (["31/12/2024", "1/1/2025"], "date"),
            ([pd.Timestamp("2024-01-31"), pd.NaT], "date"),
            ([None, None], "number"),
        ],
    )
    def test_a_column_is_what_its_cells_look_like(self, values: list[Any], kind: str) -> None:
        assert cells_of(values).kind == kind

    @pytest.mark.parametrize("text", ["31.01.2024", "2024-01-31", "2024/01/31", "31/01/2024", "01/31/2024"])
    def test_a_date_is_the_same_day_however_it_is_written(self, text: str) -> None:
        assert cells_of([text, text]).values.tolist() == [19753.0, 19753.0]

    @pytest.mark.parametrize(
        ("separator", "text", "value"),
        [
            (";", "1.234,5", 1234.5),
            (";", "0,5", 0.5),
            ("\t", ",5", 0.5),
            (",", "1,234.5", 1234.5),
            (",", "1,234", 1234.0),
            (",", "1,23", None),
            (";", "0.5", 0.5),
        ],
    )
    def test_a_comma_in_a_number_means_what_the_files_separator_says(
        self, separator: str, text: str, value: float | None
    ) -> None:
        values, wrong = numbers(pd.Series([text], dtype="str"), separator)
        assert wrong.tolist() == [value is None]
        assert value is None or values.tolist() == [value]

    def test_a_decimal_comma_leaves_the_points_of_other_cells_what_they_are(self) -> None:
        column = pd.Series(["1,5", "1.234", "2.5", "0.250", "1.234,5", "7"], dtype="str")
        values, wrong = numbers(column, ";", ",")
        assert wrong.tolist() == [False, False, True, True, False, False]
        assert values[~wrong].tolist() == [1.5, 1234.0, 1234.5, 7.0]

    @pytest.mark.parametrize(
        ("cells", "message"),
        [
            (["2.5", "0.25", "1,5", "12.5"], 'row 4: column "a" holds "1,5" where all others hold a number with a dec'),
            (["2,5", "0,25", "1.5", "12,5"], 'row 4: column "a" holds "1.5" where .* number with a decimal comma'),
            (["2,5", "0,25", "1.5", "12.5"], 'row 4: column "a" holds "1.5", and 1 more such cells, where'),
        ],
    )
    def test_decimal_commas_beside_decimal_points_are_refused(
        self, tmp_path: Path, cells: list[str], message: str
    ) -> None:
        (tmp_path / "data.csv").write_text("a;b\n" + "".join(f"{cell};x\n" for cell in cells))
        with pytest.raises(InputError, match=message):
            guessed(sheets.read(tmp_path / "data.csv"), "a")

    @pytest.mark.parametrize("wrong", ["abc", "inf", "1e999", "1_000"])
    def test_one_cell_among_numbers_that_is_none_is_named(self, wrong: str) -> None:
        sheet = sheet_of(age=[str(age) for age in range(30)] + [wrong])
        with pytest.raises(InputError, match=f'the table, row 31: column "age" holds "{wrong}" where all others hold'):
            guessed(sheet, "age")

    def test_one_cell_among_dates_that_is_none_is_named(self) -> None:
        sheet = sheet_of(sold=["2024-01-31"] * 60 + ["2024-02-30", "soon"])
        with pytest.raises(InputError, match='row 61: column "sold" holds "2024-02-30", and 1 more such cells, where'):
            guessed(sheet, "sold")


class TestTrainingRows:
    def test_a_category_has_the_values_of_the_training_rows_only(self) -> None:
        cells = cells_of(["red", "blue", None, "green"])
        column = cells.column(np.array([0, 1]))
        assert (column.values, column.other, column.missing) == (("blue", "red"), False, False)
        assert cells.encoded(column).tolist()[:2] == [1.0, 0.0]
        assert np.isnan(cells.encoded(column)[2])
        assert cells.encoded(column)[3] == -1.0

    def test_of_many_values_the_most_common_are_kept_and_the_others_are_one(self) -> None:
        values = [f"v{number:03}" for number in range(40)] + [f"v{number:03}" for number in range(20, 40)]
        cells = cells_of(values)
        column = cells.column(np.arange(60))
        assert len(column.values) == MOST_VALUES
        assert {f"v{number:03}" for number in range(20, 40)} <= set(column.values)
        assert column.other
        layer = Expand([column])
        assert layer.inputs == MOST_VALUES + 1
        unknown = layer(torch.tensor([[-1.0]]))
        assert unknown.tolist() == [[0.0] * MOST_VALUES + [1.0]]

    @settings(deadline=None, max_examples=40)
    @given(data=st.data())
    def test_other_rows_change_nothing_of_what_the_training_rows_become(self, data: st.DataObject) -> None:
        """No leakage: statistics and values are those of the training rows alone."""
        cell = st.one_of(st.none(), st.sampled_from(["a", "b", "c d"]), st.sampled_from(["x", "y"]))
        number = st.one_of(st.none(), st.floats(-1e6, 1e6, width=32))
        size = data.draw(st.integers(2, 12))
        frame: dict[str, list[Any]] = {  # a first cell, so that both say what they are
            "word": ["a", *data.draw(st.lists(cell, min_size=size - 1, max_size=size - 1))],
            "number": [0.5, *data.draw(st.lists(number, min_size=size - 1, max_size=size - 1))],
        }
        other = {"word": [*frame["word"], "a", "new"], "number": [*frame["number"], 1e30, None]}
        training = list(range(size))
        described, rows, layer = fitted(sheet_of(**frame), training)
        again, more_rows, other_layer = fitted(sheet_of(**other), training)
        assert described == again
        expected = layer(torch.from_numpy(rows).float())
        assert torch.equal(other_layer(torch.from_numpy(more_rows[training]).float()), expected)


def messy() -> st.SearchStrategy[list[Any]]:
    """A column of nine cells of any kind, as a CSV or a Parquet file may hold them."""
    word = st.one_of(st.none(), st.text(max_size=5), st.sampled_from(["", "NA", "1", "2024-01-31", "1,5", "1e5"]))
    number = st.one_of(st.none(), st.floats(allow_infinity=False), st.integers(-(10**18), 10**18))
    date = st.one_of(st.none(), st.datetimes().map(pd.Timestamp))
    kinds = [word, number, date, st.booleans(), st.just(None)]
    return st.one_of(*(st.lists(kind, min_size=9, max_size=9) for kind in kinds))


@settings(deadline=None, max_examples=60)
@given(st.lists(messy(), min_size=1, max_size=4))
def test_any_table_becomes_finite_inputs_or_a_message(table: list[list[Any]]) -> None:
    sheet = sheet_of(**{f"c{place}": cells for place, cells in enumerate(table)})
    try:
        described, rows, layer = fitted(sheet, [0, 1, 2, 3, 4])
    except InputError:
        return
    inputs = layer(torch.from_numpy(rows).float())
    assert inputs.shape == (9, layer.inputs)
    assert inputs.isfinite().all()
    assert inputs.abs().max() <= CLIP
    assert sorted(set(layer.origins)) == [p for p, column in enumerate(described) if p in layer.origins]
    again = columns.encode(sheet, tuple(Column.model_validate_json(column.model_dump_json()) for column in described))
    assert np.array_equal(again, rows, equal_nan=True)


class TestExpand:
    def test_numbers_are_standardised_and_missing_ones_are_the_median_and_marked(self) -> None:
        layer = Expand([Column(name="a", missing=True), Column(name="b")])
        rows = torch.tensor([[1.0, 5.0], [3.0, 5.0], [torch.nan, 5.0], [8.0, 5.0]])
        layer.fit(rows)
        filled = torch.tensor([1.0, 3.0, 3.0, 8.0])
        expected = (filled - filled.mean()) / filled.std(correction=0)
        inputs = layer(rows)
        torch.testing.assert_close(inputs[:, 0], expected)
        assert inputs[:, 1].tolist() == [0.0] * 4  # constant
        assert inputs[:, 2].tolist() == [0.0, 0.0, 1.0, 0.0]
        assert layer.origins == [0, 1, 0]

    def test_a_category_has_an_input_for_each_value_and_an_unknown_one_none(self) -> None:
        column = Column(name="a", kind="category", values=("x", "y", "z"))
        rows = torch.tensor([[0.0], [2.0], [-1.0], [torch.nan]])
        assert Expand([column])(rows).tolist() == [[1, 0, 0], [0, 0, 1], [0, 0, 0], [0, 0, 0]]
        dropped = column.model_copy(update={"drop_first": True})
        assert Expand([dropped])(rows).tolist() == [[0, 0], [0, 1], [0, 0], [0, 0]]

    def test_a_date_tells_its_weekday_season_and_time(self) -> None:
        cells = cells_of(["2024-02-29 06:00", "2024-10-01 18:00", "1970-01-01 00:00"], "d")
        column = cells.column(np.arange(3))
        layer = Expand([column])
        rows = torch.from_numpy(cells.encoded(column)[:, None]).float()
        layer.fit(rows)
        inputs = layer(rows)
        assert column.clock
        assert inputs[:, 3:10].argmax(1).tolist() == [4, 2, 4]  # Thursday, Tuesday, Thursday; weeks begin with Sunday
        season = torch.atan2(inputs[:, 1], inputs[:, 2]).remainder(2 * torch.pi) / (2 * torch.pi)
        assert season.tolist() == pytest.approx([60 / 366, 275 / 366, 0.0], abs=0.005)
        assert inputs[:, 10:].tolist() == [pytest.approx(at, abs=1e-5) for at in ([1.0, 0.0], [-1.0, 0.0], [0.0, 1.0])]

    def test_an_outlier_counts_as_ten_standard_deviations(self) -> None:
        layer = Expand([Column(name="a")])
        layer.fit(torch.tensor([[0.0], [2.0]]))
        assert layer(torch.tensor([[1e30], [-1e30], [2.0]])).tolist() == [[CLIP], [-CLIP], [1.0]]

    def test_only_what_it_learned_is_kept_in_a_file(self) -> None:
        layer = Expand([Column(name="a"), Column(name="b", kind="category", values=("x",))])
        assert set(layer.state_dict()) == {"median", "mean", "std"}


def test_logarithms_of_targets_are_learned_and_taken_back() -> None:
    after, values = UnstandardiseLog((1,)), torch.tensor([[0.0], [9.0], [99.0]])
    after.fit(values)
    learned = after.standardise(values)
    assert learned.mean().item() == pytest.approx(0.0, abs=1e-6)
    assert learned.std(correction=0).item() == pytest.approx(1.0)
    torch.testing.assert_close(after(learned), values, atol=1e-4, rtol=1e-4)
    assert after(torch.tensor([[1e9]])).item() == pytest.approx(100 * np.e - 1, rel=1e-4)


COLUMNS = (
    Column(name="age"),
    Column(name="city", kind="category", values=("Rom", "Ulm")),
    Column(name="day", kind="date", format="%d.%m.%Y"),
)
SIGNATURE = Signature(
    input_shape=(3,),
    features=("age", "city", "day"),
    about={"columns": [column.model_dump(mode="json") for column in COLUMNS], "target": "price"},
)


class TestReadRows:
    def test_rows_come_in_the_models_order_and_other_columns_are_named(self) -> None:
        frame = pd.DataFrame({"x": [0], "city": ["Ulm"], "price": [9], "day": ["02.01.1970"], "age": ["41"]})
        found = columns.read_rows(frame, SIGNATURE)
        assert found.values.tolist() == [[41.0, 1.0, 1.0]]
        assert found.numbers == [1]
        assert found.notes == ("not used: column x",)

    def test_a_value_that_training_did_not_have_is_none_of_them(self) -> None:
        frame = pd.DataFrame({"city": ["Wien", None], "day": [None, "02.01.1970"], "age": [None, 2]})
        found = columns.read_rows(frame, SIGNATURE)
        assert np.array_equal(found.values, [[np.nan, -1, np.nan], [2, np.nan, 1]], equal_nan=True)
        assert found.notes == ('column "city" holds "Wien", new to this model (row 1); it knows "Rom", "Ulm"',)

    def test_of_many_such_values_the_first_are_named_and_those_that_are_known_never(self) -> None:
        city = [*"abcdefg", "Ulm", None]
        found = columns.read_rows(pd.DataFrame({"city": city, "day": None, "age": 1}), SIGNATURE)
        (note,) = found.notes
        assert 'holds "a", "b", "c", "d", "e" and 2 more, new to this model (rows 1, 2, 3, 4, 5 and 2 more)' in note
        assert columns.read_rows(pd.DataFrame({"city": ["Ulm", None], "day": None, "age": 1}), SIGNATURE).notes == ()

    @pytest.mark.parametrize(
        ("trained", "asked", "value"),
        [
            (["1.234", "2,5"], "1.234", 1234.0),  # alone, it would be 1.234
            (["0.234", "2.5"], "1.234", 1.234),
            (["1", "2"], "2,5", 2.5),  # training could not tell
            (["0.234", "2.5"], "2,5", None),
            (["1.234", "2,5"], "2.5", None),
        ],
    )
    def test_a_number_means_what_it_meant_in_training(
        self, tmp_path: Path, trained: list[str], asked: str, value: float | None
    ) -> None:
        (tmp_path / "trained.csv").write_text("a;b\n" + "".join(f"{cell};x\n" for cell in trained))
        (tmp_path / "asked.csv").write_text(f"a;b\n{asked};x\n")
        column = guessed(sheets.read(tmp_path / "trained.csv"), "a").column(np.array([0, 1]))
        signature = Signature(input_shape=(1,), features=("a",), about={"columns": [column.model_dump(mode="json")]})
        if value is None:
            with pytest.raises(InputError, match=f'row 2: column "a" holds "{asked}"; allowed is a number with a dec'):
                columns.read_rows(tmp_path / "asked.csv", signature)
        else:
            assert columns.read_rows(tmp_path / "asked.csv", signature).values.tolist() == [[value]]

    @pytest.mark.parametrize("decimal", [".", ","])
    def test_the_decimal_mark_is_told_only_where_the_cell_has_the_other_one(self, decimal: str) -> None:
        about = {"columns": [{"name": "a", "decimal": decimal}]}
        signature = Signature(input_shape=(1,), features=("a",), about=about)
        with pytest.raises(InputError, match=r'column "a" holds "huge"; allowed is a number$'):
            columns.read_rows(pd.DataFrame({"a": ["huge"]}), signature)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("age,citty,day\n1,Ulm,02.01.1970\n", 'rows.csv has no column "city"; did you mean "citty"\\?'),
            ("age,city,day\n1,Ulm,\nold,Rom,\n", 'rows.csv, row 3: column "age" holds "old"; allowed is a number'),
            ("age,city,day\n1,Ulm,1970-01-02\n", 'row 2: column "day" holds "1970-01-02"; .* such as 31.01.2024'),
        ],
    )
    def test_what_does_not_fit_is_named(self, tmp_path: Path, text: str, message: str) -> None:
        (tmp_path / "rows.csv").write_text(text)
        with pytest.raises(InputError, match=message):
            columns.read_rows(tmp_path / "rows.csv", SIGNATURE)

    def test_a_model_of_plain_numbers_needs_every_one(self) -> None:
        signature = Signature(input_shape=(2,), features=("a", "b"))
        assert columns.read_rows(pd.DataFrame({"b": [1.5], "a": ["2"]}), signature).values.tolist() == [[2.0, 1.5]]
        with pytest.raises(InputError, match='the table, row 2: column "b" is empty; this model needs every number'):
            columns.read_rows(pd.DataFrame({"a": [1, 2], "b": [1, None]}), signature)


def test_reading_a_sheet_loads_no_torch() -> None:
    import subprocess
    import sys

    code = "import sys, jobs.survey, jobs.columns; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(sheets.__file__).parents[1])
