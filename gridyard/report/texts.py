"""Texts that language models wrote: for a terminal, side by side, and as a panel of a figure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from db.results import JobDetails
from gridyard.report import drawing
from gridyard.report.drawing import Panel
from gridyard.tables import number
from jobs.spec import Json

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SETTINGS = ("temperature", "top_k", "top_p", "repetition_penalty", "max_length")
DRAWN = 3  # texts of a figure; a page has all
LINES, COLUMNS = 9, 84  # of each text in a figure


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One text."""

    prompt: str
    text: str
    facts: str  # perplexity 12.3, new tokens 40


def samples(details: JobDetails) -> list[Sample]:
    """The texts of a job in their order."""
    return [_sample(one) for one in details.samples]


def _sample(given: Json) -> Sample:
    others = {name.replace("_", " "): value for name, value in given.items() if name not in ("prompt", "text")}
    known = [f"{name} {_short(value)}" for name, value in others.items() if value is not None]
    return Sample(prompt=str(given.get("prompt", "")), text=str(given.get("text", "")), facts=", ".join(known))


def _short(value: Any) -> str:
    return number(value) if isinstance(value, int | float) else str(value)


def settings(details: JobDetails) -> str:
    """temperature 0.7, top k 50, …: how its texts were drawn."""
    known = [name for name in SETTINGS if name in details.params]
    return ", ".join(f"{name.replace('_', ' ')} {details.params[name]}" for name in known)


def side_by_side(jobs: Sequence[JobDetails]) -> list[tuple[str, list[list[Sample]]]]:
    """For each prompt of any job the texts of every job, in the order of the jobs."""
    of_jobs = [samples(details) for details in jobs]
    prompts = dict.fromkeys(one.prompt for found in of_jobs for one in found)
    return [(prompt, [[one for one in found if one.prompt == prompt] for found in of_jobs]) for prompt in prompts]


def folded(text: str, columns: int) -> list[str]:
    """Lines of at most so many columns, cut at spaces where there are some; a Korean letter takes two columns.

    What is no letter, such as the codes that move a terminal's cursor, becomes a space.
    """
    lines = []
    for paragraph in text.splitlines() or [""]:
        line, used, space = "", 0, 0
        for letter in ("".join(letter if letter.isprintable() else " " for letter in paragraph)).rstrip():
            width = drawing.columns(letter)
            if used + width > columns:
                cut = space or len(line)
                lines.append(line[:cut].rstrip())
                line, space = line[cut:].lstrip(), 0
                used = drawing.columns(line)
            line, used = line + letter, used + width
            space = len(line) if letter == " " else space
        lines.append(line)
    return lines


def for_terminal(found: Sequence[Sample], columns: int, indent: str = "  ") -> str:
    """Each text below its prompt."""
    return "\n".join(_told(one, columns, indent) for one in found)


def _told(one: Sample, columns: int, indent: str) -> str:
    head = folded(f'"{one.prompt}"' + (f" ({one.facts})" if one.facts else ""), columns)
    body = [indent + line for line in folded(one.text, columns - len(indent))]
    return "\n".join([*head, *body])


def panels(details: JobDetails) -> list[Panel]:
    """The first texts; nothing where there are none."""
    found = samples(details)
    if not found:
        return []
    lines = [line for one in found[:DRAWN] for line in (*_drawn(one), "")][:-1]

    def draw(axes: "Axes") -> None:
        axes.axis("off")
        axes.text(0, 1, "\n".join(lines), va="top", fontsize=8, linespacing=1.35, transform=axes.transAxes)

    title = "Texts" if len(found) <= DRAWN else f"The first {DRAWN} of {len(found)} texts"
    return [Panel(title=title, draw=draw, width=6.6, height=0.6 + 0.165 * len(lines))]


def _drawn(one: Sample) -> list[str]:
    head, *others = folded(f'"{one.prompt}"', COLUMNS)
    lines = folded(one.text, COLUMNS)
    return [f"> {head}", *others, *([*lines[: LINES - 1], "…"] if len(lines) > LINES else lines)]
