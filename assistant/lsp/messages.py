"""What the client's messages hold, as far as the server reads it.

Names are the protocol's, in snake case; names unknown here are ignored. What does not fit is refused before a handler
sees it. What the server sends is written out where it is sent. Source: Language Server Protocol 3.18.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

Unsigned = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
"""The protocol's uinteger."""
Integer = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]

INVOKED, AUTOMATIC = 1, 2
"""Who wants an inline suggestion: the user, or the editor."""
ERROR, WARNING, INFO = 1, 2, 3
"""Types of what is shown to the user or logged by the client."""


class _Message(msgspec.Struct, kw_only=True, rename="camel"):
    pass


class Position(_Message):
    line: Unsigned
    character: Unsigned
    """In the units agreed on."""


class Range(_Message):
    start: Position
    end: Position
    """Behind the last character."""


class General(_Message):
    position_encodings: list[str] | None = None


class Window(_Message):
    work_done_progress: bool | None = None


class WorkspaceCapabilities(_Message):
    configuration: bool | None = None


class ClientCapabilities(_Message):
    """What the client can do."""

    general: General | None = None
    window: Window | None = None
    workspace: WorkspaceCapabilities | None = None

    @property
    def encodings(self) -> list[str]:
        """Units of columns that it can count in, the best first."""
        return (self.general and self.general.position_encodings) or []

    @property
    def shows_progress(self) -> bool:
        return bool(self.window and self.window.work_done_progress)

    @property
    def has_configuration(self) -> bool:
        """Whether it can be asked for its settings."""
        return bool(self.workspace and self.workspace.configuration)


class InitializeParams(_Message):
    capabilities: ClientCapabilities
    process_id: Integer | None = None
    root_path: str | None = None
    root_uri: str | None = None
    initialization_options: Any = None


class SetTraceParams(_Message):
    value: Literal["off", "messages", "verbose"]


class DidChangeConfigurationParams(_Message):
    settings: Any = None


class DocumentIdentifier(_Message):
    uri: str


class VersionedDocumentIdentifier(_Message):
    uri: str
    version: Integer


class TextDocumentItem(_Message):
    uri: str
    language_id: str
    version: Integer
    text: str


class DidOpenParams(_Message):
    text_document: TextDocumentItem


class Change(_Message):
    """Text in the place of a range, or of the whole file."""

    text: str
    range: Range | None = None


class DidChangeParams(_Message):
    text_document: VersionedDocumentIdentifier
    content_changes: list[Change]


class DidCloseParams(_Message):
    text_document: DocumentIdentifier


class CompletionParams(_Message):
    text_document: DocumentIdentifier
    position: Position


class SelectedCompletionInfo(_Message):
    range: Range
    text: str


class InlineCompletionContext(_Message):
    trigger_kind: Literal[1, 2]
    selected_completion_info: SelectedCompletionInfo | None = None
    """The entry that is selected in the editor's own list."""


class InlineCompletionParams(CompletionParams):
    context: InlineCompletionContext


class ExecuteCommandParams(_Message):
    command: str
    arguments: list[Any] | None = None


class NextStopParams(CompletionParams):
    """Of our own request, `viable/nextStop`."""

    text: str
    kind: Literal["word", "line"]
