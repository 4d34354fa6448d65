"""The plots of a report, and how names, texts and numbers stand in it."""

import base64
import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gridyard.report import classes, drawing, facts, page, texts, values
from jobs import scores
from tests.reports import HOSTILE, Reader, made_up

LONG = "a class with a very long name indeed {}"


def test_names_of_classes_are_drawn_as_they_are_and_run_nothing() -> None:
    found = made_up((HOSTILE, "가나다", "a\nb\x1b[31m", "-->", "]]>"))
    assert isinstance(found.scores, scores.Classification)
    for panel in [*classes.panels(found.scores), *values.importance(found)]:
        read = Reader(drawing.as_svg(panel))
        assert "script" not in read.tags
        assert "\x1b" not in read.text
    assert drawing.as_file(classes.panels(found.scores), HOSTILE, "png").startswith(b"\x89PNG")


def overlapping(boxes: list[Any]) -> bool:
    pairs = ((one, other) for place, one in enumerate(boxes) for other in boxes[:place])
    return any(one.overlaps(other) for one, other in pairs)


@pytest.mark.parametrize(("count", "name"), [(10, "{}"), (2, LONG), (3, LONG), (20, LONG)])
def test_nothing_overlaps_in_a_confusion_matrix(count: int, name: str) -> None:
    found = made_up(tuple(name.format(number) for number in range(count)), rows=5000).scores
    assert isinstance(found, scores.Classification)
    panel = classes.panels(found)[0]
    with drawing.styled(fonts_of_reader=False):
        figure = drawing.new_figure(panel.width, panel.height)
        axes = figure.add_subplot()
        drawing.paint(axes, panel)
        figure.draw_without_rendering()
        labels = [text.get_window_extent() for text in (*axes.get_xticklabels(), *axes.get_yticklabels())]
        numbers = [text.get_window_extent() for text in axes.texts]
        cell = axes.get_window_extent().width / count
    assert not overlapping(labels)
    assert all(box.width < cell for box in numbers)
    assert all(figure.bbox.x0 <= box.x0 and figure.bbox.y0 <= box.y0 for box in labels)


def test_more_classes_than_can_be_drawn_are_told_in_a_table() -> None:
    found = made_up(tuple(f"class {number}" for number in range(30)), rows=900).scores
    assert isinstance(found, scores.Classification)
    assert "Confusion matrix" not in [panel.title for panel in classes.panels(found)]


def test_many_points_are_a_sample_and_the_plot_says_so() -> None:
    truth = np.linspace(0, 1, 5000)
    found = scores.regression(truth**2, truth)
    plotted = made_up(
        ("a", "b"), truth=truth, predictions=truth**2, scores=found, classes=(), target="price", unit="USD"
    )
    panels = values.panels(plotted, found)
    assert panels[0].note == "1,500 of 5,000 test rows, drawn at random"
    assert "true price (USD)" in Reader(drawing.as_svg(panels[0])).text


def test_a_small_picture_is_enlarged_pixel_by_pixel() -> None:
    uri = page.as_png(np.array([[0, 255], [255, 0]], np.uint8))
    picture = Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))
    assert picture.size == (96, 96)
    assert set(np.asarray(picture).ravel().tolist()) == {0, 255}


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("one two three", ["one two", "three"]),
        ("onetwothree", ["onetwoth", "ree"]),
        ("가나다라마", ["가나다라", "마"]),
        ("a\n\nb", ["a", "", "b"]),
        ("a\x1b[2Jb", ["a [2Jb"]),
        ("", [""]),
    ],
)
def test_texts_are_folded_to_the_columns_that_letters_take(text: str, lines: list[str]) -> None:
    assert texts.folded(text, 8) == lines


@pytest.mark.parametrize(
    ("given", "told"), [(None, "–"), (0.98765, "0.9877"), (1371204.3, "1,371,204"), (-12345.6, "-12,346"), (3, "3.000")]
)
def test_large_numbers_have_all_their_digits_before_the_point(given: float | None, told: str) -> None:
    assert facts.value(given) == told
