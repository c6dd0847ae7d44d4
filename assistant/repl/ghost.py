"""Grey suggestions while typing, from the model. No keystroke waits for one.

A keystroke cancels the suggestion under way; the model is asked again once the fingers rest. What is typed as
suggested needs no model: the rest of the suggestion stays.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from prompt_toolkit.auto_suggest import AutoSuggest, Suggestion
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.document import Document

from assistant.completion import Cancel, Request
from assistant.document import Gap
from assistant.errors import ViableError
from assistant.repl.contracts import Session
from assistant.repl.keys import is_command
from assistant.repl.visible import visible

REST = 0.2
"""Seconds without a keystroke before the model is asked."""

LENGTH = 24
"""Tokens of a suggestion at most; it ends with its line."""


class ModelSuggest(AutoSuggest):
    """Suggests how the line under the cursor may go on.

    `session` gives the session, or None while there is none to ask; `before` gives the program above the input.
    `asked` counts the requests that reached the model.
    """

    def __init__(self, session: Callable[[], Session | None], before: Callable[[], str]) -> None:
        self._session = session
        self._before = before
        self._cancel = Cancel()
        self._last = ""
        self.asked = 0

    def get_suggestion(self, buffer: Buffer, document: Document) -> Suggestion | None:
        """What is left of the last suggestion, where it was typed as suggested."""
        text = document.text
        rest = self._last.removeprefix(text)
        return Suggestion(rest) if text and rest and rest != self._last else None

    async def get_suggestion_async(self, buff: Buffer, document: Document) -> Suggestion | None:
        session = self._session()
        if not session or not document.is_cursor_at_the_end or not _wanted(document.text):
            return None
        if suggestion := self.get_suggestion(buff, document):
            return suggestion
        cancel = self._cancel = Cancel()
        try:
            await asyncio.sleep(REST)
            if cancel():
                return None
            loop = asyncio.get_running_loop()
            line = await loop.run_in_executor(None, self._rest_of_line, session, self._before() + document.text, cancel)
        finally:
            cancel.set()
        self._last = document.text + line
        return Suggestion(line) if line else None

    def cancel(self) -> None:
        """Stop asking; for every change of the text."""
        self._cancel.set()

    def _rest_of_line(self, session: Session, text: str, cancel: Cancel) -> str:
        self.asked += 1
        line = ""
        request = Request(Gap(text, ""), max_tokens=LENGTH, temperature=0.0, tries=1, unit="none")
        try:
            for chunk in session.stream(request, cancel):
                line += chunk.text
                if "\n" in line:
                    cancel.set()
        except ViableError:
            return ""
        line = line.partition("\n")[0]
        return line if visible(line) == line and line.strip() else ""


def _wanted(text: str) -> bool:
    line = text.rpartition("\n")[2]
    return bool(line.strip()) and not is_command(text)
