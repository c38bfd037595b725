"""Skipped tests. Each skip is a line of the file TANDEM_SKIPPED_TESTS, whose lines `make test` counts at its end. In CI, a
test that could run there must not be skipped."""

import os

# A reason begins with this word if CI may skip the test: it needs a program that scripts/packages.sh does not install, or
# tests that this process does not run.
OPTIONAL = "optional: "
# pytest's reason for a test that is made for each element of an empty list.
NO_PARAMETERS = "got empty parameter set"


def note(test, reason):
    """Writes the skip to the file."""
    if path := os.environ.get("TANDEM_SKIPPED_TESTS"):
        with open(path, "a", encoding="utf-8") as file:
            file.write(f"{test}\t{reason}\n")


def is_refused(reason, shared):
    """Whether the skip is a failure: in CI, unless the reason is optional or the folder `shared` is missing."""
    if "CI" not in os.environ or reason.startswith((OPTIONAL, NO_PARAMETERS)):
        return False
    return shared.is_dir() or str(shared) not in reason


def judge(test, report, shared):
    """Counts a skipped test, and fails it in CI if it could run there."""
    if report.skipped and isinstance(report.longrepr, tuple):
        reason = report.longrepr[2].removeprefix("Skipped: ")
        note(test, reason)
        if is_refused(reason, shared):
            report.outcome, report.longrepr = "failed", f"a test is skipped in CI: {reason}"
    return report
