"""What an editor may set, in `initializationOptions` or in its section "viable" of the workspace configuration."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec

SECTION = "viable"


class Options(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Unknown names are ignored, so that an older server serves a newer editor plugin."""

    enabled: bool = True
    popup: bool = True
    """Also answer `textDocument/completion`. Clients with ghost text of their own turn it off."""
    languages: tuple[str, ...] = ("python",)
    """Language ids that are served; files named *.py and *.pyi are, too."""
    exclude: tuple[str, ...] = ()
    """Globs over paths: files that are not served and not read, such as `**/secrets/*.py`."""
    debounce_ms: int | None = None
    """Pause in typing after which an automatic suggestion is computed. None follows the user's own pace."""
    max_right: int = 8
    """Characters right of the cursor, on its line and brackets and quotes not counted, that keep it quiet."""
    candidates: int = 3
    """Suggestions, at most, for a request that the user made."""
    max_tokens: int = 64
    """Tokens of a suggestion at most."""
    max_ms: int = 3000
    """Milliseconds to write for, once the prompt is read; 0 means no limit."""
    prefetch: bool = True
    """Compute what follows a suggestion as soon as it is accepted."""
    status: bool = False
    """Send `viable/status` notifications."""
    stream: bool = False
    """Send `viable/partial` notifications while a suggestion is written."""
    model: str | None = None
    device: str | None = None
    dtype: str | None = None
    context: int | None = None
    offline: bool | None = None
    context_files: int | None = None
    """Tokens of the prompt, at most, for what other files define. None leaves it to `viable.toml`."""
    tries: int | None = None
    """Answers that are written, the best of which is the first suggestion. None leaves it to `viable.toml`."""

    def __post_init__(self) -> None:
        for name, value, lowest in (
            ("candidates", self.candidates, 1),
            ("maxTokens", self.max_tokens, 1),
            ("maxMs", self.max_ms, 0),
            ("maxRight", self.max_right, 0),
            ("debounceMs", self.debounce_ms, 0),
            ("contextFiles", self.context_files, 0),
            ("tries", self.tries, 1),
        ):
            if value is not None and value < lowest:
                raise ValueError(f"{name} must be at least {lowest}, not {value}")

    @property
    def session(self) -> dict[str, Any]:
        """What decides the session itself; another value needs another session."""
        names = ("model", "device", "dtype", "context", "context_files", "tries", "offline")
        return {name: getattr(self, name) for name in names}

    def limited(self, max_tokens: int | None, max_ms: int | None) -> Options:
        """These, with those limits that are not None."""
        limits = {"max_tokens": max_tokens, "max_ms": max_ms}
        return msgspec.structs.replace(self, **{name: each for name, each in limits.items() if each is not None})

    def serves(self, uri: str, language: str) -> bool:
        """Whether suggestions are wanted in this file."""
        try:
            path = unquote(urlsplit(uri).path)
        except ValueError:  # such as an address without its closing bracket
            return False
        python = language in self.languages or (not language and path.endswith((".py", ".pyi")))
        return self.enabled and python and self.reads(path)

    def reads(self, path: str) -> bool:
        """Whether a file may be looked into."""
        return not any(_matches(path, glob) for glob in self.exclude)


def parse(values: object, base: Options) -> Options:
    """`base` with the options of a JSON object, None for none. Raises ValueError with one line: what is wrong."""
    if values is None:
        return base
    if not isinstance(values, dict):
        raise ValueError(f"options: an object is wanted, not {type(values).__name__}")
    try:
        return msgspec.convert(msgspec.to_builtins(base) | values, Options)
    except msgspec.ValidationError as error:
        raise ValueError(f"options: {error}") from None


def _matches(path: str, glob: str) -> bool:
    """A glob with a slash is held against the whole path or any of its ends, one without against the name."""
    if "/" not in glob:
        return fnmatchcase(PurePosixPath(path).name, glob)
    parts = PurePosixPath(path).parts
    ends = ["/".join(parts[start:]).replace("//", "/") for start in range(len(parts))]
    return any(fnmatchcase(end, glob.removeprefix("**/")) for end in ends)
