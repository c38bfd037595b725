"""The tests of a file for `tandem test`."""

import json
import os
import subprocess


class Failed(Exception):
    """A test of a file failed. The text has the transcript of the call."""


def program():
    """The program `tandem`: the variable TANDEM, or the one on the PATH."""
    return os.environ.get("TANDEM", "tandem")


def names(path):
    """The names of the tests in a file."""
    run = _run([program(), "test", str(path), "--list"])
    if run.returncode:
        raise Failed(run.stderr.strip())
    return run.stdout.splitlines()


def run_case(path, name, base_url=None, auth_token=None):
    """Runs one test of a file. Returns its report; a failed test raises `Failed`."""
    options = [f"--base-url={base_url}"] if base_url else []
    options += [f"--auth-token={auth_token}"] if auth_token else []
    run = _run([program(), "test", str(path), "--json", f"--filter={name}", *options])
    if not run.stdout:
        raise Failed(run.stderr.strip())
    report = next(test for test in json.loads(run.stdout)["tests"] if test["name"] == name)
    if not report["passed"]:
        lines = [f"{one['at']:9.3f}  {one['party']:8}  {one['text']}" for one in report["transcript"]]
        raise Failed("\n".join([report["failure"], *lines]))
    return report


def _run(command):
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=120)
    except FileNotFoundError as error:
        raise Failed(f"there is no program {command[0]!r}: put tandem on the PATH, or its path in the variable TANDEM") from error
