"""What every driver has to do, as checks that anybody runs on theirs: `conform` for all, or one function each."""

from devices.conformance.run import CHECKS, Outcome, conform
from devices.conformance.subject import Fails, NotApplicable, Subject

__all__ = ["CHECKS", "Fails", "NotApplicable", "Outcome", "Subject", "conform"]
