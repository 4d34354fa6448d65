"""URLs as they may be shown: in a message, a log, a record."""

import re
from urllib.parse import parse_qsl, quote, unquote, urlsplit

HIDDEN = "***"
SHORTEST = 4  # letters of a password that is looked for in all texts: shorter ones stand in many a word

# To the last @: a password may hold one, and rather too much is hidden than a part of it shown.
_USER_AND_PASSWORD = re.compile(r"(://[^:/?#@\s]*:)\S*@")
_SECRET_NAME = "pass|pwd|secret|token|key|sig"
_SECRET_VALUE = re.compile(rf"([?&][^=&\s]*(?:{_SECRET_NAME})[^=&\s]*=)[^&#\s]+", re.IGNORECASE)

_known: set[str] = set()  # passwords of this process's own URLs


def masked(url: str) -> str:
    """The URL, or a text with URLs in it, without passwords: of the user, and values like that of `?secret_key=…`.

    The passwords of URLs that were told to `conceal` are hidden wherever they stand.
    """
    for secret in sorted(_known, key=len, reverse=True):
        url = url.replace(secret, HIDDEN)
    return _SECRET_VALUE.sub(rf"\1{HIDDEN}", _USER_AND_PASSWORD.sub(rf"\1{HIDDEN}@", url))


def given(url: str) -> str:
    """What was given as a URL and may be none: nothing before its last @ is shown."""
    _, at, rest = url.rpartition("@")
    return masked(f"{HIDDEN}@{rest}" if at else url)


def conceal(url: str) -> None:
    """From now on, `masked` hides this URL's passwords alone, too: drivers quote parts of what they cannot read."""
    _known.update(secret for secret in _secrets(url) if len(secret) >= SHORTEST)


def _secrets(url: str) -> set[str]:
    """Its passwords, as they are written and as they are meant."""
    _, _, rest = url.partition("://")
    before, at, place = rest.rpartition("@")
    user, _, password = before.partition(":")
    # One that is also the user's or the database's name stands in many a text, and hiding it there would tell it.
    found = {password} if at and password not in (user, *re.split("[/?#:]", place)) else set()
    try:
        query = parse_qsl(urlsplit(url).query)
    except ValueError:  # no URL
        query = []
    found |= {value for name, value in query if re.search(_SECRET_NAME, name, re.IGNORECASE)}
    return {form for secret in found for form in (secret, unquote(secret), quote(unquote(secret), safe=""))}
