"""What a persistent interpreter runs for the tests: it parses texts and says how far they are viable.

Runs on every Python from 3.8 on, and in Pyodide. Frames are a length (4 bytes, big-endian) and that much JSON.
"""

from __future__ import annotations

import ast
import json
import os
import struct
import sys
import traceback
import types
import warnings

warnings.simplefilter("ignore")

_DECIDED = (
    *(
        "invalid syntax",
        "unindent does not match",
        "unexpected indent",
        "inconsistent use of tabs",
        "too many",
        "invalid character",
    ),
    *(
        "literal",
        "invalid token",
        "can only contain ASCII",
        "mix bytes",
        "closing parenthesis",
        "unmatched",
        "unicode error",
    ),
)
"""Before 3.11 a parser that has met the end of the source may complain about an unfinished construct as well. What it
says in these words is about finished tokens; everything else leaves it open whether something can follow."""


def load(package):
    """The reference's judgement, from the directory `package`, without the package around it: it needs 3.11."""
    module = types.ModuleType("validators")
    module.__path__ = [package]
    sys.modules["validators"] = module
    from validators import reference_judge

    if sys.version_info < (3, 11):  # noqa: UP036 (this file alone runs on older interpreters)
        reference_judge.outcome = _outcome_before_311
    return reference_judge


def _outcome_before_311(text, flags):
    try:
        compile(text, "<text>", "exec", ast.PyCF_ONLY_AST, dont_inherit=True)
    except SyntaxError as error:
        if flags == ast.PyCF_ONLY_AST:
            return error.msg
        text = text.replace("\r", "\n")
        decorated = any(line.lstrip().startswith("@") for line in text.split("\n"))
        decorated = decorated and text.endswith("\n") and not text.endswith("\\\n")  # 3.10 says "invalid syntax"
        if decorated or "EOF" in error.msg or "Missing parentheses" in error.msg:
            return "incomplete input"
        decided = sys.version_info < (3, 9) or any(word in error.msg for word in _DECIDED)
        return error.msg if decided else "incomplete input"
    except ValueError as error:
        return str(error)
    except (MemoryError, RecursionError):
        return "incomplete input"
    return "ok"


def parse(text):
    """None if `ast.parse` accepts `text` (without its byte order mark); otherwise where and why not."""
    try:
        ast.parse(text[1:] if text.startswith("\ufeff") else text)
    except SyntaxError as error:
        return [error.lineno or 0, error.offset or 0, error.msg]
    except (ValueError, MemoryError, RecursionError) as error:
        return [0, 0, type(error).__name__ + ": " + str(error)]
    return None


def viable(judge, text):
    """Characters of `text` that something can follow, and the complaint about the next one."""
    text = text[1:] if text.startswith("\ufeff") else text
    fed = judge.feed(judge.Outline(), "", text)
    return [fed.accepted, fed.complaint]


def ending(judge, text):
    """A text that makes `text` parse; None if none is known."""
    from validators import reference_closing

    fed = judge.feed(judge.Outline(), "", text)
    return reference_closing.closing(text, fed.outline, fed.line, "") if fed.accepted == len(text) else None


def joining(judge, left, right):
    """A text that, put between these two, makes them parse; None if none is known."""
    from validators import reference_closing

    fed = judge.feed(judge.Outline(), "", left)
    return reference_closing.closing(left, fed.outline, fed.line, right) if fed.accepted == len(left) else None


def answer(judge, request):
    texts = request["texts"]
    if request["op"] == "joining":
        return [joining(judge, *texts)]
    if request["op"] == "parse":
        return [parse(text) for text in texts]
    if request["op"] == "library":
        return [str(os.path.dirname(os.__file__))]
    asked = viable if request["op"] == "viable" else ending
    return [asked(judge, text) for text in texts]


def tell(judge, request):
    """The answer, or why there is none: a mistake of the reference's must not end the process."""
    try:
        return answer(judge, request)
    except Exception:
        return {"error": traceback.format_exc()[-2000:]}


def main():
    judge = load(sys.argv[1])
    if sys.version_info < (3, 9):  # noqa: UP036 (its parser writes there when its stack is full)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    while True:
        head = source.read(4)
        if len(head) < 4:
            return
        request = json.loads(source.read(struct.unpack(">I", head)[0]).decode())
        reply = json.dumps(tell(judge, request)).encode()
        sink.write(struct.pack(">I", len(reply)) + reply)
        sink.flush()


if __name__ == "__main__":
    main()
