"""What the editor's other files say for a suggestion in one of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from assistant.beside import Project, Surroundings, nothing, on_disk
from assistant.lsp.documents import Document
from assistant.lsp.options import Options
from assistant.lsp.uris import to_path


def around(
    document: Document, documents: Iterable[Document], folder: str | None, options: Options
) -> Callable[[], Surroundings]:
    """Reads when it is called, which may be in any thread: a join of lines sees a document before or after an edit.

    `documents` are the open ones, the latest last; `folder` is the workspace's. What the options exclude is not read.
    """
    others = [each for each in documents if each is not document]

    def read_all() -> Surroundings:
        if (path := _path(document)) is None:
            return nothing()
        opened = {file: each for each in reversed(others) if (file := _path(each))}
        served = tuple(file for file, each in opened.items() if options.serves(each.uri, each.language))

        def read(file: Path) -> str | None:
            if not options.reads(file.as_posix()):
                return None
            return opened[file].text if file in opened else on_disk(file)

        return Project(path, Path(folder).resolve() if folder else None, read, served).surroundings(document.text)

    return read_all


def _path(document: Document) -> Path | None:
    path = to_path(document.uri)
    return Path(path).resolve() if path else None
