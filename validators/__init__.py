"""Validators: text in, verdict out. They know no model and no tensor.

What is named here is imported when it is asked for: a program that needs the contracts alone starts quicker.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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

_MODULES = {
    "accept_all": ("AcceptAll",),
    "contracts": ("Problem", "Unit", "Validator", "Verdict"),
    "python": ("LEVELS", "PythonValidator"),
    "reference": ("ReferenceState", "ReferenceValidator"),
    "tokens": ("TokenState", "TokenValidator"),
}
_MODULE = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE[name]}"), name)
