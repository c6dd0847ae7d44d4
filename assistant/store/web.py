"""Fetching a file over HTTP, going on where a broken connection left off (RFC 9110, section 14: range requests)."""

from __future__ import annotations

import http.client
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlsplit
from urllib.request import Request, urlopen

from assistant import __version__
from assistant.errors import UsageProblem
from assistant.store.report import Meter, Reporter
from assistant.store.sources import BLOCK, SourceFailed, cut, length, one_line

HUB = "https://huggingface.co"
TIMEOUT = 20.0
"""Seconds without a single byte before a connection counts as broken."""

TRIES = 5
"""Attempts in a row that bring nothing new."""

PAUSE = 0.5
"""Seconds before the second attempt; doubled each time."""

_PASSING = {408, 425, 429, 500, 502, 503, 504}
"""Status codes that may be different a moment later."""


@dataclass(frozen=True)
class Url:
    """A file at a fixed address."""

    url: str

    @property
    def label(self) -> str:
        return urlsplit(self.url).netloc

    @property
    def origin(self) -> str:
        return self.url

    def room(self) -> int:
        return 0

    def fetch(self, part: Path, size: int, report: Reporter, what: str) -> None:
        download(self.url, part, size, report, what)


@dataclass(frozen=True)
class Hub:
    """A file of a Hugging Face repository at one commit. `HF_ENDPOINT` names a mirror of the hub."""

    repository: str
    revision: str
    file: str

    @property
    def endpoint(self) -> str:
        endpoint = os.environ.get("HF_ENDPOINT") or HUB
        if not endpoint.startswith(("http://", "https://")):
            raise UsageProblem(f"HF_ENDPOINT={endpoint}: not an http(s) address")
        return endpoint.rstrip("/")

    @property
    def url(self) -> str:
        return f"{self.endpoint}/{self.repository}/resolve/{self.revision}/{quote(self.file)}"

    @property
    def label(self) -> str:
        return urlsplit(self.endpoint).netloc

    @property
    def origin(self) -> str:
        return self.url

    def room(self) -> int:
        return 0

    def fetch(self, part: Path, size: int, report: Reporter, what: str) -> None:
        download(self.url, part, size, report, what)


class _Broken(Exception):
    """This attempt brought no complete file; `answered` tells whether the server said anything at all."""

    def __init__(self, reason: str, answered: bool) -> None:
        super().__init__(reason)
        self.answered = answered


def download(url: str, part: Path, size: int, report: Reporter, what: str) -> None:
    """Make `part` grow to `size` bytes from `url`; see Source.fetch.

    A server that never answers is given up at once, so that another source gets its turn; one that has answered is
    tried again, with growing pauses, until TRIES attempts in a row brought nothing.
    """
    best = length(part)
    answered = False
    failures = 0
    with report.meter(what, size, best) as meter:
        while length(part) < size:
            try:
                _receive(url, part, size, meter)
                continue
            except _Broken as broken:
                reason = str(broken)
                answered = answered or broken.answered
            if not answered:
                raise SourceFailed(reason)
            if length(part) > best:
                best, failures = length(part), 0
            failures += 1
            if failures == TRIES:
                raise SourceFailed(f"{reason} ({TRIES} tries)")
            time.sleep(PAUSE * 2 ** (failures - 1))


def _receive(url: str, part: Path, size: int, meter: Meter) -> None:
    """One request for what is missing. Raises _Broken when another one may bring more."""
    have = length(part)
    headers = {"User-Agent": f"viable/{__version__}", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    try:
        response = urlopen(Request(url, headers=headers), timeout=TIMEOUT)
    except HTTPError as error:
        error.close()
        reason = f"HTTP {error.code} {error.reason}".strip()
        if error.code in _PASSING:
            raise _Broken(reason, answered=True) from error
        raise SourceFailed(reason) from error
    except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: an address that cannot be one
        raise _Broken(_reason(error), answered=False) from error
    with response:
        start = _offered(response, have, size)
        cut(part, start)
        meter.at(start)
        _append(response, part, size, meter)


def _append(response: http.client.HTTPResponse, part: Path, size: int, meter: Meter) -> None:
    have = length(part)
    with part.open("ab") as file:
        while True:
            # Only the network is tried again: what the disk refuses goes up as it is.
            try:
                block = response.read1(BLOCK)
            except (OSError, http.client.HTTPException) as error:
                raise _Broken(_reason(error), answered=True) from error
            if not block:
                break
            if have + len(block) > size:
                raise SourceFailed(f"sends more than the {size} bytes expected")
            file.write(block)
            have += len(block)
            meter.at(have)
    if have < size:
        raise _Broken(f"connection closed at byte {have} of {size}", answered=True)


def _offered(response: http.client.HTTPResponse, have: int, size: int) -> int:
    """Where the bytes of this answer begin: at `have`, or at 0 from a server without ranges."""
    total = response.headers.get("Content-Length")
    start = 0
    if response.status == 206:
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
        if match is None or int(match[1]) != have:
            raise SourceFailed("answers a range request with another range")
        start, total = have, match[2]
    if total is not None and total.isdecimal() and int(total) != size:
        raise SourceFailed(f"the file there has {total} bytes, not {size}")
    return start


def _reason(error: Exception) -> str:
    cause = error.reason if isinstance(error, URLError) else error
    if isinstance(cause, OSError) and cause.strerror:
        return one_line(cause.strerror)
    return one_line(cause) or type(cause).__name__
