"""URLs as they may be shown: in a message, a log, a record."""

import re

HIDDEN = "***"

# To the last @: a password may hold one, and rather too much is hidden than a part of it shown.
_USER_AND_PASSWORD = re.compile(r"(://[^:/?#@\s]*:)\S*@")
_SECRET_VALUE = re.compile(r"([?&][^=&\s]*(?:pass|pwd|secret|token|key|sig)[^=&\s]*=)[^&#\s]+", re.IGNORECASE)


def masked(url: str) -> str:
    """The URL, or a text with URLs in it, without passwords: of the user, and values like that of `?secret_key=…`."""
    return _SECRET_VALUE.sub(rf"\1{HIDDEN}", _USER_AND_PASSWORD.sub(rf"\1{HIDDEN}@", url))
