"""The model store: which models are known, where they are kept, how they get there.

`resolve` is what a session needs; `viable models` is the same for people.
"""

from assistant.store.catalogue import DEFAULT
from assistant.store.lookup import ModelRef, check, resolve
from assistant.store.shipped import AUTO, SMALL

__all__ = ["AUTO", "DEFAULT", "SMALL", "ModelRef", "check", "resolve"]
