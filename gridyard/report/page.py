"""Pages: HTML that opens without network. Every text of a user is escaped, and no page may load or run anything."""

import base64
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from gridyard.report import facts, texts
from gridyard.report.compare import Comparison, rows
from gridyard.report.look import Result
from gridyard.tables import parameter

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gridyard.report.drawing import Panel

TEMPLATES = Path(__file__).parent / "templates"
MOST_CLASSES = 20  # rows of the table of classes
KEY_TESTS = 3  # test metrics at the head of a page
SMALLEST = 96  # pixels: smaller pictures are shown larger


def of_job(result: Result) -> str:
    """The page of one job."""
    tested = result.tested
    return _rendered(
        "job.html",
        result=result,
        details=result.details,
        summary=facts.summary(result.details.task),
        environment={
            name: value for name, value in result.details.environment.items() if name not in ("notes", "pack")
        },
        notes=result.details.environment.get("notes", []),
        metric_rows=facts.metric_rows(result.details.metrics),
        key_numbers=key_numbers(result),
        learning=_figures(result.learning),
        testing=_figures(result.testing),
        scores=None if tested is None else tested.scores,
        is_classification=tested is not None and bool(tested.classes),
        classes=_worst_classes(result),
        pictures={} if tested is None else {index: as_png(one) for index, one in tested.pictures.items()},
        written=texts.samples(result.details),
        settings=texts.settings(result.details),
    )


def of_comparison(found: Comparison) -> str:
    """The page of several jobs."""
    return _rendered(
        "compare.html",
        found=found,
        rows=rows(found),
        figures=_figures(found.panels),
        prompts=texts.side_by_side(found.details),
        settings=[texts.settings(details) for details in found.details],
    )


def _rendered(template: str, **given: Any) -> str:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: dict[str, Any] = {
        "value": facts.value,
        "parameter": parameter,
        "whole": facts.whole,
        "seconds": facts.seconds,
        "name_of": _name_of,
    }
    environment.filters |= filters
    return environment.get_template(template).render(**given)


def _name_of(metric: str) -> str:
    from gridyard.report import curves

    return curves.name_of(metric)


def _figures(panels: "list[Panel]") -> list[tuple[Any, Markup]]:
    from gridyard.report import drawing

    # matplotlib escapes every text, and the page's policy would run nothing that had slipped through.
    return [(panel, Markup(drawing.as_svg(panel))) for panel in panels]


def key_numbers(result: Result) -> list[tuple[str, str]]:
    """What a reader looks for first: (value, what it is)."""
    details, metrics = result.details, facts.metric_rows(result.details.metrics)
    if not result.trained:
        measured = [(facts.value(value), _name_of(name)) for name, (_, value, _) in metrics]
        return [*measured, (facts.seconds(details.seconds), "of writing")]
    found = [(facts.value(details.score), f"{_name_of(details.metric.partition('_')[2])} on validation data")]
    tests = [
        (facts.value(test), f"{_name_of(name)} on test data") for name, (_, _, test) in metrics if test is not None
    ]
    found += tests[:KEY_TESTS]
    weights = details.environment.get("parameters")
    found += [(facts.whole(weights), "parameters")] if weights is not None else []
    found.append((facts.whole(details.epochs or details.epoch), "epochs"))
    found.append((facts.seconds(details.seconds), "of training"))
    return found


def _worst_classes(result: Result) -> list[Any]:
    """All classes in their order, or of many those with the lowest F1."""
    from jobs.scores import Classification

    if result.tested is None or not isinstance(result.tested.scores, Classification):
        return []
    classes = result.tested.scores.classes
    return classes if len(classes) <= MOST_CLASSES else sorted(classes, key=lambda one: one.f1)[:MOST_CLASSES]


def as_png(pixels: "NDArray[Any]") -> str:
    """A picture as a data URI; a small one larger, without smoothing its pixels."""
    from PIL import Image

    picture = Image.fromarray(pixels)
    factor = -(-SMALLEST // max(1, min(picture.size)))
    if factor > 1:
        picture = picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
    buffer = io.BytesIO()
    picture.save(buffer, "png", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
