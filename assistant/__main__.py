"""Entry point of `viable` and of `python -m assistant`. What it imports, Ctrl-C cannot break off in one line."""

from __future__ import annotations

import os
import sys

from assistant.interrupts import INTERRUPTED, installed, tell

SPIN, BUSY_SPIN = "30000", "300"
"""How often a thread of PyTorch's OpenMP seeks work before it sleeps, on an idle machine and on a busy one.

Its default, ten times as often, is no quicker on an idle machine. On a busy one threads spin in the way of those that
they wait for: with two cores and two programs beside us a pass took 550 to 1,400 ms, and 190 with short spins; idle, 57
and 71.
"""


def main(arguments: list[str] | None = None) -> None:
    """Run one command and leave with its exit code: 0 done, 1 failed, 2 misuse, 130 interrupted."""
    leaving = installed()
    os.environ.setdefault("GOMP_SPINCOUNT", BUSY_SPIN if busy() else SPIN)  # read when PyTorch is imported
    leaving.leave(run(sys.argv[1:] if arguments is None else arguments))


def busy() -> bool:
    """Have others kept all of this machine's cores at work, on the mean of the last minute?"""
    try:
        return os.getloadavg()[0] >= (os.cpu_count() or 1)
    except (AttributeError, OSError):  # not told on every system
        return False


def run(arguments: list[str]) -> int:
    """Run one command; every foreseen failure and Ctrl-C become one line on stderr."""
    try:
        return _run(arguments)
    except KeyboardInterrupt:
        tell()
        return INTERRUPTED


def _run(arguments: list[str]) -> int:
    import click

    from assistant.cli import viable
    from assistant.errors import ViableError

    try:
        code = viable.main(arguments, prog_name="viable", standalone_mode=False)
        if sys.stdout:  # None where the caller has closed it
            sys.stdout.flush()
    except ViableError as error:
        return _say(str(error), error.exit_code)
    except click.exceptions.NoArgsIsHelpError as error:  # its message is the help, in many lines
        if sys.stderr:
            print(error.format_message(), file=sys.stderr)
        return error.exit_code
    except click.UsageError as error:
        message = error.format_message().removesuffix(".")
        if error.ctx:
            message += f"{'' if message.endswith('?') else ';'} `{error.ctx.command_path} --help` shows how"
        return _say(message, error.exit_code)
    except click.ClickException as error:
        return _say(error.format_message(), error.exit_code)
    except click.Abort as error:
        raise KeyboardInterrupt from error
    except BrokenPipeError:
        # The reader has gone. Point stdout at nothing, so that the interpreter's own flush at exit is quiet too.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _say(f"{where}{error.strerror or error}", 1)
    except Exception as error:
        from model.errors import ModelError  # here, since it brings PyTorch: what raises it has imported it

        if not isinstance(error, ModelError):
            raise
        return _say(str(error), 1)
    return code if isinstance(code, int) else 0


def _say(message: str, exit_code: int) -> int:
    from assistant.errors import as_line

    if sys.stderr:
        print(f"viable: {as_line(message)}", file=sys.stderr)
    return exit_code


if __name__ == "__main__":
    main()
