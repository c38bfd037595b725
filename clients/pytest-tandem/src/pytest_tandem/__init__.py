"""Tests of voice applications: scripted callers without audio, and a Tandem server for real calls."""

from .cases import Failed, run_case
from .server import Call, Tandem

__all__ = ["Call", "Failed", "Tandem", "run_case"]
