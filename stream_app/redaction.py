"""What must not be shown: secrets by the names that people give them, and credentials inside URLs."""

import re
from typing import Final

REDACTED: Final = "**********"

_NAME = re.compile(
    r"password|passwd|secret|token|passphrase|credential|jaas|oauth|\.pem$|(^|[._])(api|signing|checkpoint)_?key$",
    re.IGNORECASE,
)
_URL_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+(?=@)")
_ASSIGNED = re.compile(
    r"((?:password|passwd|secret|token|passphrase)['\"]?\s*[=:]\s*)(?:'[^']*'|\"[^\"]*\"|[^\s,;&'\"}]+)", re.IGNORECASE
)


def is_secret_name(name: str) -> bool:
    """Return whether a key of this name is likely to hold a secret."""
    return bool(_NAME.search(name))


def without_credentials(text: str) -> str:
    """Return the text without the user and password of any URL in it, and without `password=…` and the like."""
    return _ASSIGNED.sub(rf"\g<1>{REDACTED}", _URL_CREDENTIALS.sub("***", text))
