"""What a user is told when something cannot be done: one line, with an exit code.

ViableError            1   the work could not be done
  UsageProblem         2   the request itself makes no sense
"""


def as_line(text: str) -> str:
    """Text that may hold anything, such as a file's name, as one line that does nothing to a terminal."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in " ".join(text.split()))


class ViableError(Exception):
    """A failure that the user can understand and act on.

    Its message is one line: what is wrong, and what to do where that is known.
    """

    exit_code = 1


class UsageProblem(ViableError):
    """The request is at fault: a position outside the file, an unknown option value."""

    exit_code = 2
