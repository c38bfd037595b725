"""The packages in clients/ with the real pytest and the real vitest, against their example applications."""

import os
import subprocess
import sys
from pathlib import Path

from harness.server import ROOT, binary

CLIENTS = ROOT / "clients"
MODULES = Path(__file__).parent / "node_modules"


def environment(**more):
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TWILIO_", "TANDEM_", "PYTEST_"))}
    return kept | {"TANDEM": str(binary())} | more


def run(command, cwd, **more):
    done = subprocess.run(command, cwd=cwd, env=environment(**more), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_pytest_runs_cases_and_real_calls():
    package = CLIENTS / "pytest-tandem"
    options = ["-p", "pytest_tandem.plugin", "-p", "no:cacheprovider", "-p", "no:xdist"]
    said = run([sys.executable, "-m", "pytest", "-v", *options, "tests"], package, PYTHONPATH=str(package / "src"))
    assert "menu.tandem.toml::a caller leaves a message when sales is busy PASSED" in said, said
    assert "6 passed" in said, said


def test_vitest_runs_cases_and_real_calls(tmp_path):
    package = tmp_path / "vitest-tandem"
    package.mkdir()
    # Node finds vitest beside the package, as in an application.
    (tmp_path / "node_modules").symlink_to(MODULES)
    for name in ["package.json", "index.js", "index.d.ts", "tests/menu.test.js", "tests/menu.tandem.toml"]:
        (package / name).parent.mkdir(exist_ok=True)
        (package / name).write_text((CLIENTS / "vitest-tandem" / name).read_text())
    assert (MODULES / "vitest").is_dir(), "run npm ci --prefix tests/sdk"
    said = run(["node", str(MODULES / "vitest" / "vitest.mjs"), "run", "--no-color"], package, CI="1")
    assert "Tests  5 passed" in said, said
