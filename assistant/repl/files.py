"""The file that a program was loaded from or saved to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from assistant.changes import replace_file
from assistant.document import Gap, read_text, with_line_end
from assistant.errors import UsageProblem, ViableError

MARK = "\ufeff"
"""A byte order mark, which belongs to the file and not to the program."""


@dataclass(frozen=True)
class Source:
    """A file and what it held when it was last read or written: what others wrote meanwhile is not overwritten."""

    path: Path
    text: str

    @staticmethod
    def read(path: Path) -> tuple[Source, str]:
        """The file, and its program with line ends as "\\n"."""
        text = read_text(path)
        return Source(path, text), Gap(text.removeprefix(MARK), "").prefix

    @staticmethod
    def created(path: Path, program: str) -> Source:
        """A new file with `program`, whole or not at all. Never in place of another."""
        try:
            file = path.open("x", encoding="utf-8", newline="\n")
        except FileExistsError:
            raise UsageProblem(f"{path} exists; /load it first, or choose another name") from None
        except OSError as error:
            raise ViableError(f"{path}: not written: {(error.strerror or str(error)).lower()}") from None
        try:
            with file:
                file.write(program)
        except OSError as error:
            path.unlink(missing_ok=True)
            raise ViableError(f"{path}: not written: {(error.strerror or str(error)).lower()}") from None
        return Source(path, program)

    def saved(self, program: str) -> Source:
        """The file with `program` in it, in the line ends that it has."""
        mark = MARK if self.text.startswith(MARK) else ""
        text = mark + with_line_end(program, Gap(self.text, "").line_end)
        replace_file(self.path, self.text, text)
        return Source(self.path, text)
