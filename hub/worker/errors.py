"""What can be wrong with a suite, or with the machine that is to run it.

VeraError
├── SuiteError    a suite that is not one, or says what cannot be
├── NotComputed   a metric that this machine cannot compute
├── JudgeFailed   a judge that did not answer, or not with a rating
├── DiskFailed    a machine that could not write what is evaluated
└── FleetError    a Ray cluster that is not there, or cannot run adapters
"""

from __future__ import annotations

from vera.errors import VeraError


class SuiteError(VeraError):
    """A suite file that is not one, or says what cannot be."""

    code = "SUITE_INVALID"


class NotComputed(VeraError):
    """A metric that this machine cannot compute."""

    code = "METRIC_NOT_COMPUTED"


class JudgeFailed(VeraError):
    """A judge that did not answer, or not with a rating."""

    code = "JUDGE_FAILED"


class DiskFailed(VeraError):
    """A machine that could not write what is evaluated."""

    code = "WORKER_DISK"


class FleetError(VeraError):
    """A Ray cluster that is not there, or cannot run adapters."""

    code = "FLEET_AWAY"
