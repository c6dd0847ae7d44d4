"""The decoding loop and its parts: ids in, steps out. It knows no text and no grammar."""

from model.engine.contracts import Draft, Drafter, Scorer, Step, Stop, Validator
from model.engine.drafters import LookupDraft, NoDraft
from model.engine.loop import Interrupt, decode, never
from model.engine.order import Greedy, Order, Sampled

__all__ = [
    "Draft",
    "Drafter",
    "Greedy",
    "Interrupt",
    "LookupDraft",
    "NoDraft",
    "Order",
    "Sampled",
    "Scorer",
    "Step",
    "Stop",
    "Validator",
    "decode",
    "never",
]
