"""What tests of reports share: a page as a browser reads it, names that would do harm, and a tested model."""

from html.parser import HTMLParser
from typing import Any

import numpy as np

from jobs import evaluation, scores
from jobs.evaluation import Importance

HOSTILE = '<script>alert("1")</script> & $x_1^{$'


class Reader(HTMLParser):
    """What a browser would make of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "srcset")]

    def handle_data(self, data: str) -> None:
        self.text += data


def made_up(labels: tuple[str, ...], rows: int = 300, **changes: Any) -> evaluation.Tested:
    """A model that is right two times of three."""
    draws = np.random.default_rng(0)
    truth = draws.integers(0, len(labels), rows)
    logits = draws.normal(size=(rows, len(labels))) + 2 * np.eye(len(labels))[truth]
    given: dict[str, Any] = {
        "predictions": logits,
        "truth": truth,
        "rows": np.arange(rows),
        "names": tuple(map(str, range(rows))),
        "classes": labels,
        "scores": scores.classification(logits, truth, labels),
        "pictures": {},
        "importance": tuple(Importance(feature=name, drop=0.1, std=0.05) for name in labels),
        "importance_rows": rows,
        "target": "",
        "unit": "",
    }
    return evaluation.Tested(**{**given, **changes})
