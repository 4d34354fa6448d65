"""Texts that came from elsewhere, as they may be shown: on a terminal, in a log line, in a record."""

import json
import logging
import re
from typing import Any

from jobs.urls import masked

# Control codes move a cursor, change a title, answer for the keyboard; others turn the direction of what follows.
# Lone surrogates cannot be written at all.
_CODES = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """The text with control codes as one reads them: \\x1b. Line ends and tabs stay."""
    return _CODES.sub(lambda found: found.group().encode("unicode_escape").decode(), text)


def dumped(value: Any, **options: Any) -> str:
    """JSON of one line in which control codes stand as JSON escapes, all others as they are."""
    text = json.dumps(value, ensure_ascii=False, **options)
    return _CODES.sub(lambda found: f"\\u{ord(found.group()):04x}", text)


class Formatter(logging.Formatter):
    """Lines of a log without passwords and control codes, also where an error's own words repeat them."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(masked(super().format(record)))
