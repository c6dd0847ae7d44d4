"""What a user is told when something cannot be done: one line, with an exit code.

ViableError            1   the work could not be done
  UsageProblem         2   the request itself makes no sense
"""


class ViableError(Exception):
    """A failure that the user can understand and act on.

    Its message is one line: what is wrong, and what to do where that is known.
    """

    exit_code = 1


class UsageProblem(ViableError):
    """The request is at fault: a position outside the file, an unknown option value."""

    exit_code = 2
