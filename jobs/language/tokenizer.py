"""Tokenizers, read from `tokenizer.json` alone: data, no code. Loads no torch."""

import hashlib
import json
from functools import cached_property
from pathlib import Path

import tokenizers

from jobs.catalogue.task import Unfit
from jobs.errors import InputError
from jobs.spec import Json

FILE = "tokenizer.json"


class Tokenizer:
    """From text to the numbers of its tokens, and back."""

    def __init__(self, content: bytes, *, begin: int | None = None, end: int | None = None) -> None:
        """
        Args:
            content: of a tokenizer.json.
            begin: the token that begins a text.
            end: the token that ends one.

        Raises:
            InputError: it is no tokenizer.
        """
        self.content, self.begin, self.end = content, begin, end
        try:
            self._inner = tokenizers.Tokenizer.from_buffer(content)
        except Exception as error:  # the library raises nothing more special
            raise InputError(f"{FILE} is no tokenizer that can be read: {error}") from None
        self._inner.no_truncation()
        self._inner.no_padding()

    @property
    def size(self) -> int:
        """One more than the largest number of a token."""
        return max(self._inner.get_vocab(with_added_tokens=True).values(), default=-1) + 1

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of its file."""
        return hashlib.sha256(self.content).hexdigest()

    def tokens(self, text: str, *, special: bool = False) -> list[int]:
        """The numbers of a text's tokens. `special`: with the token for its begin, if the tokenizer sets one."""
        return self._inner.encode(text, add_special_tokens=special).ids

    def text(self, tokens: list[int]) -> str:
        """The text of tokens, without special ones; numbers that it does not know give nothing."""
        return self._inner.decode(tokens, skip_special_tokens=True)


def read(folder: Path) -> Tokenizer:
    """The tokenizer of a folder.

    Raises:
        Unfit: the folder has none, or it cannot be read.
    """
    path = folder / FILE
    if not path.is_file():
        raise Unfit(
            "tokenizer",
            f"{folder} has no {FILE}; give a folder that has one (transformers writes it with save_pretrained)",
        )
    try:
        plain = Tokenizer(path.read_bytes())
    except (InputError, OSError) as error:
        raise Unfit("tokenizer", f"{path}: {error}") from None
    named = facts("tokenizer", folder / "tokenizer_config.json")
    begin, end = (_number(plain, named.get(f"{name}_token")) for name in ("bos", "eos"))
    return Tokenizer(plain.content, begin=begin, end=end)


def facts(param: str, path: Path) -> Json:
    """A file of JSON; nothing where there is none.

    Raises:
        Unfit: it is no JSON object.
    """
    try:
        found = json.loads(path.read_bytes()) if path.is_file() else {}
    except ValueError as error:
        raise Unfit(param, f"{path} is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise Unfit(param, f"{path} is no JSON object")
    return found


def _number(tokenizer: Tokenizer, token: object) -> int | None:
    """Of a special token, which stands in a file as its text or as an object with it."""
    text = token.get("content") if isinstance(token, dict) else token
    return tokenizer._inner.token_to_id(text) if isinstance(text, str) else None
