"""Text to ids and back: a model's own vocabulary, or plain bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple


class FimTokens(NamedTuple):
    """The ids that frame a gap: prefix … suffix … middle."""

    prefix: int
    suffix: int
    middle: int
    pad: int | None = None
    repo_name: int | None = None
    file_sep: int | None = None


class Tokenizer:
    """A vocabulary, as bytes.

    pieces: the bytes of each id; None for special and unused ids, which stand for no text.
    specials: the ids that stand for something other than text, by their names.
    end_ids: those of them after which a text is over.
    fim: those that frame a gap, if the model knows any.
    suffix_first: the model was taught to read what stands right of a gap before what stands left of it.
    """

    def __init__(
        self,
        encoder: Callable[[str], list[int]],
        pieces: Sequence[bytes | None],
        specials: Mapping[str, int],
        end_ids: frozenset[int],
        fim: FimTokens | None,
        suffix_first: bool = False,
    ) -> None:
        self._encoder = encoder
        self.pieces = pieces
        self.specials = specials
        self.end_ids = end_ids
        self.fim = fim
        self.suffix_first = suffix_first

    @property
    def begin(self) -> tuple[int, ...]:
        """What every prompt of the model begins with: nothing for most, a token of its own for Llama 3 and DeepSeek."""
        return tuple(self.specials[name] for name in _BEGIN_NAMES if name in self.specials)[:1]

    @property
    def vocab_size(self) -> int:
        """Ids are 0 … vocab_size - 1; a model's logits may have more columns, none of which is a token."""
        return len(self.pieces)

    def encode(self, text: str) -> list[int]:
        """The ids of `text`. Whatever it says, none is special: `<|endoftext|>` is thirteen characters.

        A lone surrogate, which no UTF-8 text holds, becomes a question mark.
        """
        return self._encoder(text.encode("utf-8", "replace").decode("utf-8"))

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids`; specials stand for none, bytes that are not UTF-8 for U+FFFD."""
        return b"".join(self.pieces[i] or b"" for i in ids).decode("utf-8", "replace")


class ByteTokenizer(Tokenizer):
    """Each byte is its own id; the specials follow. For tests and toy models."""

    NAMES = (
        "<|endoftext|>",
        "<|fim_prefix|>",
        "<|fim_suffix|>",
        "<|fim_middle|>",
        "<|fim_pad|>",
        "<|repo_name|>",
        "<|file_sep|>",
    )

    def __init__(self) -> None:
        specials = {name: 256 + i for i, name in enumerate(self.NAMES)}
        super().__init__(
            encoder=lambda text: list(text.encode("utf-8")),
            pieces=[bytes([b]) for b in range(256)] + [None] * len(specials),
            specials=specials,
            end_ids=frozenset({specials["<|endoftext|>"]}),
            fim=fim_tokens(specials),
        )


# (prefix, suffix, middle, pad, repository, file separator), by what they are called in the vocabularies of models that
# were trained to fill gaps: Qwen2.5-Coder, StarCoder, Code Llama 3 finetunes and others, DeepSeek-Coder.
_FIM_NAMES = (
    ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>"),
    ("<fim_prefix>", "<fim_suffix>", "<fim_middle>", "<fim_pad>", "<repo_name>", "<file_sep>"),
    ("<fim_prefix>", "<fim_suffix>", "<fim_middle>", "<fim_pad>", "<reponame>", "<filename>"),
    ("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>", "", "", ""),
)

_BEGIN_NAMES = ("<|begin_of_text|>", "<｜begin▁of▁sentence｜>")

_END_NAMES = frozenset(
    ("<|endoftext|>", "<|im_end|>", "<|end_of_text|>", "<|eot_id|>", "<|eom_id|>", "<｜end▁of▁sentence｜>", "</s>")
)


def fim_tokens(specials: Mapping[str, int]) -> FimTokens | None:
    """The gap-framing tokens among `specials`, or None."""
    known = [names for names in _FIM_NAMES if all(name in specials for name in names[:3])]
    if not known:
        return None
    best = max(known, key=lambda names: sum(name in specials for name in names))
    prefix, suffix, middle = (specials[name] for name in best[:3])
    return FimTokens(prefix, suffix, middle, *(specials.get(name) for name in best[3:]))


def end_tokens(specials: Mapping[str, int], named: Sequence[int | None]) -> frozenset[int]:
    """The ids that end a text: those that the file names, and those that are always called so."""
    known = {i for name, i in specials.items() if name in _END_NAMES}
    return frozenset(known.union(i for i in named if i is not None))
