"""Validators: text in, verdict out. They know no model and no tensor."""

from validators.accept_all import AcceptAll
from validators.contracts import Problem, Unit, Validator, Verdict
from validators.tokens import TokenState, TokenValidator

__all__ = ["AcceptAll", "Problem", "TokenState", "TokenValidator", "Unit", "Validator", "Verdict"]
