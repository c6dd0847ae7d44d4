"""Viable's front ends and the session that joins them to the model and the validator."""

__version__ = "0.1.0"
