"""How figures look and where they go: panels of matplotlib, as SVG inside a page or as a file. No global state."""

import io
import logging
import re
import textwrap
import unicodedata
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Mid tones, told apart by most eyes and on white as on black; in this order.
COLORS = ("#3b82c4", "#dd7a2b", "#3a9d6a", "#c9504a", "#8f6cc0", "#96704f", "#d06fa6", "#7f8691", "#9b9a2f", "#2fa5b3")
TRAIN, VALIDATION, BEST = COLORS[1], COLORS[0], COLORS[7]
INK = "#202326"  # of text and axes; in a page whatever color its text has
POINTS_PER_INCH = 72
NOTE_POINTS = 10.5  # height of a line of a note
TITLE_INCHES = 0.45  # height of a figure's title
NARROWEST = 6.0  # inches; a title needs some room
WIDE = 6.2  # inches
NOTHING = 1e-3  # inches; a part of a figure must have a size
PANELS = 3  # in a row of a figure
LABEL_INCHES = 0.5  # height of an axis's numbers and label
LONGEST = 22  # columns of a class's or a feature's name on a plot

# Families with Korean that systems come with; matplotlib knows the first face of a Noto collection only, the Japanese.
KOREAN = (
    *("Noto Sans KR", "Noto Sans CJK KR", "Noto Sans CJK JP", "NanumGothic", "NanumBarunGothic", "Malgun Gothic"),
    *("Apple SD Gothic Neo", "AppleGothic", "UnDotum", "Arial Unicode MS"),
)
KOREAN_FILES = {  # the files of the same, without "-Regular"
    *("notosanskr", "notosanscjk", "notosanscjkkr", "notosanscjkjp", "nanumgothic", "nanumbarungothic", "malgun"),
    *("applesdgothicneo", "applegothic", "undotum", "arial unicode"),
}


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One plot."""

    title: str
    draw: Callable[["Axes"], None]
    width: float = 4.8  # inches
    height: float = 3.5
    note: str = ""  # what a reader should know, under the plot

    @property
    def is_wide(self) -> bool:
        """Whether it is too wide for a page's column: it would be shrunk until nobody could read it."""
        return self.width > WIDE


def shown(text: str, longest: int = LONGEST) -> str:
    """A name on one line, cut after so many columns; a Korean letter takes two."""
    printable = "".join(letter if letter.isprintable() else " " for letter in text)
    text = " ".join(printable.split())
    if columns(text) <= longest:
        return text
    while columns(text) > longest - 1:
        text = text[: longest - 1] if len(text) >= longest else text[:-1]
    return text.rstrip() + "…"


def columns(text: str) -> int:
    """That it takes in a terminal: two of a Korean letter."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def as_svg(panel: Panel) -> str:
    """The panel as an <svg> element whose text and axes take the page's color."""
    with styled(fonts_of_reader=True):
        figure = new_figure(panel.width, panel.height)
        paint(figure.add_subplot(), panel)
        svg = saved(figure, "svg", transparent=True).decode()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    return svg.replace(INK, "currentColor")


def as_file(panels: Sequence[Panel], title: str, extension: str) -> bytes:
    """All panels in rows of three below a title: a png, svg or pdf."""
    rows = [panels[start : start + PANELS] for start in range(0, len(panels), PANELS)]
    heights = [max(map(_whole_height, row)) for row in rows]
    width = max(max(sum(panel.width for panel in row) for row in rows), NARROWEST)
    with styled(fonts_of_reader=False):
        figure = new_figure(width, sum(heights) + TITLE_INCHES)
        ratios = [TITLE_INCHES, *heights]
        head, *lines = figure.subfigures(len(ratios), 1, squeeze=False, height_ratios=ratios)[:, 0]
        head.text(0.01, 0.5, shown(title, int(width * 8)), va="center", fontsize=13, fontweight="bold")
        for line, row, height in zip(lines, rows, heights, strict=True):
            left = width - sum(panel.width for panel in row)
            places = line.subfigures(1, len(row) + 1, width_ratios=[*(panel.width for panel in row), left or NOTHING])
            for place, panel in zip(places, row, strict=False):
                below = max(height - _whole_height(panel), NOTHING)
                upper, _ = place.subfigures(2, 1, height_ratios=[_whole_height(panel), below])
                paint(upper.add_subplot(), panel, noted=True)
        return saved(figure, extension, transparent=False)


def paint(axes: "Axes", panel: Panel, *, noted: bool = False) -> None:
    """Title, plot and, below the title, its note: a page has the note below the plot."""
    note = _subtitle(panel) if noted else []
    axes.set_title(shown(panel.title, 60), loc="left", fontweight="bold", pad=6 + NOTE_POINTS * len(note))
    if note:
        place: Any = {"xytext": (0, 4), "textcoords": "offset points", "xycoords": "axes fraction"}
        axes.annotate("\n".join(note), (0, 1), fontsize=7.5, **place)
    panel.draw(axes)


def _subtitle(panel: Panel) -> list[str]:
    return textwrap.wrap(panel.note, int(panel.width * 14))


def _whole_height(panel: Panel) -> float:
    """With its note, in inches."""
    return panel.height + NOTE_POINTS * len(_subtitle(panel)) / POINTS_PER_INCH


def new_figure(width: float, height: float) -> "Figure":
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def saved(figure: "Figure", extension: str, *, transparent: bool) -> bytes:
    made = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(extension)  # equal results, equal files
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # a browser has more fonts; else a box is drawn
        warnings.filterwarnings("ignore", message="constrained_layout not applied")  # a huge label, drawn all the same
        figure.savefig(buffer, format=extension, dpi=150, transparent=transparent, metadata=made)
    return buffer.getvalue()


@contextmanager
def styled(*, fonts_of_reader: bool) -> Iterator[None]:
    """Within, matplotlib draws in our style; names of users are never read as formulas."""
    import matplotlib

    style: Any = {
        "font.family": ["DejaVu Sans", *korean_fonts()],
        "font.size": 9,
        "axes.titlesize": 10,
        "legend.fontsize": 8,
        "legend.frameon": False,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": False,
        "lines.linewidth": 1.6,
        "text.parse_math": False,
        "svg.fonttype": "none" if fonts_of_reader else "path",
        "svg.hashsalt": "gridyard",
        "pdf.fonttype": 42,
        **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
    }
    chatter = logging.getLogger("matplotlib.font_manager")  # such as of a font that has no bold letters
    before = chatter.level
    chatter.setLevel(logging.ERROR)
    try:
        with matplotlib.rc_context(style):
            yield
    finally:
        chatter.setLevel(before)


@cache
def korean_fonts() -> list[str]:
    """Those of this machine; none, where there is none."""
    from matplotlib.font_manager import findSystemFonts, fontManager

    if not set(KOREAN) & set(fontManager.get_font_names()):  # matplotlib keeps a list, perhaps from before one came
        for path in map(Path, findSystemFonts()):
            if path.stem.lower().removesuffix("-regular") in KOREAN_FILES:
                fontManager.addfont(path)
    known = set(fontManager.get_font_names())
    return [name for name in KOREAN if name in known]


def legend(axes: "Axes", *, columns: int = 3) -> None:
    """Below the axes and their label, where no line can be."""
    from matplotlib.transforms import ScaledTranslation

    figure = axes.get_figure(root=True)
    assert figure is not None
    below = axes.transAxes + ScaledTranslation(0, -LABEL_INCHES, figure.dpi_scale_trans)
    place: Any = {"loc": "upper left", "bbox_to_anchor": (0, 0), "bbox_transform": below, "borderaxespad": 0}
    axes.legend(ncols=columns, columnspacing=1.4, borderpad=0, **place)


def count_axis(axes: "Axes") -> None:
    """A y axis of whole numbers."""
    from matplotlib.ticker import MaxNLocator

    axes.yaxis.set_major_locator(MaxNLocator(integer=True))


def logarithmic(axes: "Axes") -> None:
    """A logarithmic y axis with plain numbers: 0.01, 1e-05."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
