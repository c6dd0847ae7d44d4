"""What a user can set in a REPL: the session's settings, and how the REPL itself behaves."""

from __future__ import annotations

from typing import Any, Literal, get_args

import msgspec

from assistant.errors import UsageProblem
from assistant.repl.screen import TERMINAL
from assistant.settings import Settings

StopAt = Literal["unit", "model"]
STOPS = get_args(StopAt)


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How the REPL behaves."""

    stop: StopAt = "unit"
    """Where the model stops: at the end of the block or paragraph it writes, or where it would itself."""
    ghost: bool = True
    """Suggest while typing."""
    theme: str = TERMINAL
    """Colours: `terminal`, or a style of Pygments."""
    vi: bool = False
    """Vi keys instead of Emacs keys."""
    seconds: float = 10.0
    """Time that /run allows."""
    megabytes: int = 1024
    """Memory that /run allows."""

    def __post_init__(self) -> None:
        for name in ("seconds", "megabytes"):
            if getattr(self, name) <= 0:
                raise UsageProblem(f"{name} must be above 0, not {getattr(self, name)}")


PER_REQUEST = frozenset({"max_tokens", "max_ms", "temperature", "top_p", "seed", "tries", "unit", "accept"})
"""Settings that a request carries; the others mean another session."""

_YES_NO = {"on": True, "yes": True, "true": True, "1": True, "off": False, "no": False, "false": False, "0": False}


def changed(settings: Settings, options: Options, name: str, value: str) -> tuple[Settings, Options]:
    """Both, with `name` set to `value`. Raises UsageProblem for an unknown name or a value that makes no sense."""
    if name in Settings.__struct_fields__:
        return settings.replaced(**{name: _converted(Settings, name, value)}), options
    if name in Options.__struct_fields__:
        return settings, msgspec.structs.replace(options, **{name: _converted(Options, name, value)})
    raise UsageProblem(f"unknown setting {name!r}; /set lists them")


def _converted(struct: type[Settings] | type[Options], name: str, value: str) -> Any:
    field = next(field for field in msgspec.structs.fields(struct) if field.name == name)
    given: Any = _YES_NO.get(value.lower(), value) if field.type in ("bool", bool) else value
    types = {field.name: field.type for field in msgspec.structs.fields(struct)}
    try:
        return msgspec.convert(given, types[name], strict=False)
    except msgspec.ValidationError as error:
        raise UsageProblem(f"{name}: {str(error).lower()}") from None
