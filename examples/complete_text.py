"""Fill a gap from Python: text left and right of a cursor in, valid text out.

Which model computes it is what `viable.toml` in this folder or above says, or the default one.
"""

import ast
from pathlib import Path

from assistant.completion import Request
from assistant.document import Gap
from assistant.session import open_session
from assistant.settings import load_settings

gap = Gap(
    left="def area(width: float, height: float) -> float:\n    return ",
    right="\n\n\nprint(area(3, 4))\n",
)
session = open_session(load_settings(Path.cwd()))
completion = session.complete(Request(gap, max_tokens=24))

print(completion.text or f"nothing: {completion.reason}")
print(f"{completion.tokens} tokens in {completion.passes} passes, {completion.avoided} syntax errors avoided")

if completion.valid:
    ast.parse(gap.filled(completion.text))
assert completion.valid == bool(completion.text), "a completion is either valid or empty"
