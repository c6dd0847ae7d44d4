"""The decoding loop and its parts: ids in, steps out. It knows no text and no grammar."""

from model.engine.accept import Accept, trusting, verified
from model.engine.contracts import (
    Draft,
    Drafter,
    Interrupt,
    Interrupted,
    Scorer,
    Step,
    Stop,
    Validator,
    Window,
    never,
)
from model.engine.drafters import FirstOf, LookupDraft, NoDraft
from model.engine.loop import decode
from model.engine.order import Greedy, Order, Sampled
from model.engine.window import Fixed, Moving, moving

__all__ = [
    "Accept",
    "Draft",
    "Drafter",
    "FirstOf",
    "Fixed",
    "Greedy",
    "Interrupt",
    "Interrupted",
    "LookupDraft",
    "Moving",
    "NoDraft",
    "Order",
    "Sampled",
    "Scorer",
    "Step",
    "Stop",
    "Validator",
    "Window",
    "decode",
    "moving",
    "never",
    "trusting",
    "verified",
]
