"""The decoding loop and its parts: ids in, steps out. It knows no text and no grammar."""

from model.engine.accept import Accept, trusting, verified
from model.engine.contracts import (
    ASKED,
    Draft,
    Drafter,
    Forced,
    Interrupt,
    Interrupted,
    Ranking,
    Scorer,
    Share,
    Step,
    Stop,
    Validator,
    Window,
    never,
    nothing_forced,
)
from model.engine.drafters import FirstOf, LookupDraft, NoDraft, Onward
from model.engine.loop import decode, turns
from model.engine.order import Greedy, Order, Sampled
from model.engine.window import Fixed, Moving, moving

__all__ = [
    "ASKED",
    "Accept",
    "Draft",
    "Drafter",
    "FirstOf",
    "Fixed",
    "Forced",
    "Greedy",
    "Interrupt",
    "Interrupted",
    "LookupDraft",
    "Moving",
    "NoDraft",
    "Onward",
    "Order",
    "Ranking",
    "Sampled",
    "Scorer",
    "Share",
    "Step",
    "Stop",
    "Validator",
    "Window",
    "decode",
    "moving",
    "never",
    "nothing_forced",
    "trusting",
    "turns",
    "verified",
]
