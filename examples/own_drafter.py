"""A drafter of one's own: it proposes, the model decides, so a bad one costs passes and never changes the text."""

from collections.abc import Sequence
from pathlib import Path

import model
from assistant import store
from assistant.settings import load_settings
from model.engine import Draft, Drafter, Fixed, Greedy, NoDraft, decode
from model.engine.scorer import CachedScorer
from validators import AcceptAll


class Repeat:
    """Proposes the last token again and again."""

    def propose(self, ids: Sequence[int], width: int) -> Draft:
        return Draft((ids[-1],) * width, "repeat")


path = store.resolve(load_settings(Path.cwd()).model).path
tokenizer = model.load_tokenizer(path)
scorer = CachedScorer(model.load(path), capacity=128)


def write(drafter: Drafter) -> tuple[list[int], int]:
    """24 tokens, and the passes that they took."""
    steps = list(
        decode(
            tokenizer.encode("rows = [[0, 0, 0, 0], [0, 0, "),
            scorer=scorer,
            validator=AcceptAll(),
            state=None,
            drafter=drafter,
            order=Greedy(),
            end_ids=tokenizer.end_ids,
            max_tokens=24,
            window=Fixed(2),
        )
    )
    return [token for step in steps for token in step.ids], len(steps)


plain, drafted = write(NoDraft()), write(Repeat())
print(tokenizer.decode(plain[0]))
print(f"passes: {plain[1]} token by token, {drafted[1]} with drafts")
assert drafted[0] == plain[0]
