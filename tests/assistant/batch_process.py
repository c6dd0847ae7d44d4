"""`viable` with a session that needs no model, as a process: `python -m tests.assistant.batch_process batch …`.

Its answers depend on the gap and on the seed alone. BATCH_ROW_MS is how long a row takes, BATCH_ROWS how many are
answered before the process kills itself.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import signal
import sys
import time
from types import ModuleType

from assistant.__main__ import main
from assistant.completion import Request
from tests.assistant.fake import FakeSession

_rows = itertools.count()


def answer(request: Request) -> str:
    """A statement made of a hash; every seventh row has none."""
    time.sleep(float(os.environ.get("BATCH_ROW_MS", "0")) / 1000)
    digest = hashlib.sha256(f"{request.seed} {request.gap}".encode()).hexdigest()
    return "" if int(digest, 16) % 7 == 0 else f"x = 'é{digest[: int(digest[:2], 16) // 4]}'\n"


def mortal(request: Request) -> str:
    """The same, as long as this process lives."""
    if str(next(_rows)) == os.environ.get("BATCH_ROWS"):
        os.kill(os.getpid(), signal.SIGKILL)
    return answer(request)


if __name__ == "__main__":
    # In place of the real module, so that no process of these tests waits for torch.
    module = ModuleType("assistant.session")
    module.__dict__["open_sessions"] = FakeSession(mortal).open_several
    sys.modules["assistant.session"] = module
    main()
