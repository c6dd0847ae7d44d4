"""The last word: does Python itself accept the text?"""

from __future__ import annotations

import ast
import warnings

from assistant.document import BYTE_ORDER_MARK


def refusal(text: str, level: str = "syntax") -> str | None:
    """Why `ast.parse` of the running interpreter refuses `text`, as `line:column: reason`; None if it accepts.

    With the level "compile" it is `compile` that is asked.
    A byte order mark is passed over, as Python does when it reads a file.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            flags = 0 if level == "compile" else ast.PyCF_ONLY_AST
            compile(text.removeprefix(BYTE_ORDER_MARK), "<text>", "exec", flags, dont_inherit=True)
        except SyntaxError as error:
            return f"{error.lineno or 1}:{error.offset or 1}: {error.msg}"
        except ValueError as error:
            return f"1:1: {error}"
        except (RecursionError, MemoryError):
            return "1:1: too deeply nested for Python's parser"
    return None
