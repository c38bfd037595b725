"""The example of docs/testing.md, run as it stands there."""

import os
import re
import subprocess
import sys

from harness.server import ROOT, binary

FILES = {"app.py", "conftest.py", "test_app.py"}


def test_the_documented_example_passes_as_it_is_written(tmp_path):
    page = (ROOT / "docs" / "testing.md").read_text()
    blocks = re.findall(r"^```python\n# (\S+)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert {name for name, _ in blocks} == FILES
    for name, text in blocks:
        (tmp_path / name).write_text(text)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("TWILIO_", "TANDEM_", "PYTEST_"))}
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "."],
        cwd=tmp_path, env=environment | {"TANDEM": str(binary())}, capture_output=True, text=True, timeout=300,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "3 passed" in run.stdout, run.stdout
