"""Validators: text in, verdict out. They know no model and no tensor."""

from validators.accept_all import AcceptAll
from validators.contracts import Problem, Unit, Validator, Verdict
from validators.python import LEVELS, PythonValidator
from validators.reference import ReferenceState, ReferenceValidator
from validators.tokens import TokenState, TokenValidator

__all__ = [
    "LEVELS",
    "AcceptAll",
    "Problem",
    "PythonValidator",
    "ReferenceState",
    "ReferenceValidator",
    "TokenState",
    "TokenValidator",
    "Unit",
    "Validator",
    "Verdict",
]
