"""Where a file is, of which the client says the URI."""

from __future__ import annotations

import os
import re
import sys
from urllib.parse import unquote, urlsplit

_DRIVE = re.compile(r"/[A-Za-z]:")


def to_path(uri: str) -> str | None:
    """The path of a `file:` URI, None for any other text and for a name that no file can have. Servers of shares and
    drive letters are understood."""
    try:
        parts = urlsplit(uri)
    except ValueError:  # such as an address without its closing bracket
        return None
    if parts.scheme != "file":
        return None
    path, server = unquote(parts.path), unquote(parts.netloc)
    if server and path:
        path = f"//{server}{path}"
    elif _DRIVE.match(path):
        path = path[1].lower() + path[2:]
    if not _can_be_a_name(path):
        return None
    return path.replace("/", "\\") if sys.platform == "win32" else path


def _can_be_a_name(path: str) -> bool:
    try:
        return b"\0" not in os.fsencode(path)
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
