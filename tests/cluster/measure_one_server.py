#!/usr/bin/env python3
"""Measures one server without [cluster]: CPU time of a short call, and the highest clean rate of short calls, with SQLite and with
PostgreSQL, and of several binaries, in turns. Only ratios within one run mean something. `.venv/bin/python` runs it, not as a test.

    tests/cluster/measure_one_server.py --tandem target/release/tandem                          SQLite against PostgreSQL
    tests/cluster/measure_one_server.py --tandem OLD --tandem NEW --database sqlite --rounds 5  one binary against another

A short call: in from a trunk, out to a trunk, answered at once, 1 s, BYE; no audio. `tandem load` makes the calls, on loopback only.
PostgreSQL has its default settings (it waits for the disk at each commit). Writes `figures/one-server.json`."""

import argparse
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "sdk"))

from harness.nodes import Engines  # noqa: E402
from harness.server import ROOT  # noqa: E402
from harness.waiting import wait_for  # noqa: E402
from lab.costs import cpu_of  # noqa: E402

NET = "127.0.23"  # .1 the server, .2 callers, .3 answerers
CONFIG = """
data_dir = "{data}"
drain_timeout = 1
[sip]
listen = ["udp://{net}.1:5060"]
[media]
listen = "{net}.1"
[http]
listen = "{net}.1:8080"
[database]
url = "{database}"
[recordings]
url = "file:{data}/recordings"
[[accounts]]
name = "load"
twilio = {{ account_sid = "AC00000000000000000000000000000001", auth_token = "0123456789abcdef0123456789abcdef" }}
[[trunks]]
name = "load"
account = "load"
uri = "sip:{net}.3:5080"
inbound_from = ["{net}.2/32", "{net}.3/32"]
[[numbers]]
number = "1*"
account = "load"
bridge = "sip:{{number}}@{net}.3:5080"
"""
SETTLE = 12.0  # seconds after the last call until all is written: PostgreSQL reports with delay


class Server:
    """A server with an empty database of its own."""

    def __init__(self, binary, database, folder):
        (folder / "tandem.toml").write_text(CONFIG.format(data=folder / "data", net=NET, database=database))
        (folder / "data").mkdir()
        self._log = folder / "log"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen([binary, "serve", "--config", folder / "tandem.toml"], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_for("the server", lambda: self.process.poll() is not None or "HTTP on" in self._log.read_text(errors="replace"), 60)
        assert self.process.poll() is None, self._log.read_text(errors="replace")

    def stop(self):
        self.process.terminate()
        self.process.wait(30)
        faults = re.findall(r"^.*(?: ERROR |panicked).*$", self._log.read_text(errors="replace"), re.MULTILINE)
        if faults:
            print(*faults[:5], sep="\n", file=sys.stderr)


def load(generator, server, *options):
    """Runs `tandem load`, and returns its reports, one for each step."""
    command = [generator, "load", f"{NET}.1:5060", "--caller", f"{NET}.2:5070", "--answerer", f"{NET}.3:5080", "--json"]
    command += ["--hold", "1000", "--pid", str(server.process.pid), *map(str, options)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode in (0, 2), done.stderr
    return json.loads(done.stdout)


def measure(arguments, binary, kind, engines):
    """A round of one setting."""
    with tempfile.TemporaryDirectory(prefix="tandem-measure-") as name:
        folder = pathlib.Path(name)
        database = f"sqlite:{folder}/data/tandem.db" if kind == "sqlite" else engines.database(folder)
        server = Server(binary, database, folder)
        try:
            load(arguments.generator, server, "--cps", 20, "--seconds", 5)
            found = {}

            def cpu():
                if kind == "sqlite":
                    return cpu_of(server.process.pid), 0
                engines.run_sql("CHECKPOINT")  # The cost of this load, not that of an earlier one.
                return cpu_of(server.process.pid), cpu_of(engines.postgres_pid, True)

            for rate in arguments.rates:
                time.sleep(SETTLE)  # a pause between two loads, not a wait for an event
                before = cpu()
                report = load(arguments.generator, server, "--cps", rate, "--seconds", arguments.seconds)
                time.sleep(SETTLE)
                calls = rate * arguments.seconds
                used = [1000 * (after - earlier) / calls for after, earlier in zip(cpu(), before, strict=True)]
                found[f"{rate} a second"] = {"tandem_ms": used[0], "postgres_ms": used[1], "failed": report["failed"], "report": report}
            if arguments.ramp:
                found["ramp"] = ramp(arguments, server)
            return found
        finally:
            server.stop()


def ramp(arguments, server):
    """The highest rate of the ramp at which no call fails. A step that fails is tried once more: the machine may have been busy."""
    highest, steps = 0, []
    for rate in arguments.ramp:
        for _ in range(2):
            report = load(arguments.generator, server, "--cps", rate, "--seconds", 5)
            steps.append({name: report[name] for name in ("failed", "ok", "failures", "retransmissions")} | {"rate": rate})
            if not report["failed"]:
                break
        if report["failed"]:
            break
        highest = rate
    return {"highest": highest, "steps": steps}


def main():
    numbers = lambda text: [int(rate) for rate in text.split(",") if rate]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tandem", action="append", required=True, help="a binary; several are compared with the first one")
    parser.add_argument("--generator", help="the binary that makes the calls (default: the last one of --tandem)")
    parser.add_argument("--database", action="append", choices=["sqlite", "postgres"], help="default: both")
    parser.add_argument("--rates", type=numbers, default=[50, 200])
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ramp", type=numbers, default=[500, 750, *range(1000, 3001, 250)], help="calls a second; empty: no search for the highest rate")
    arguments = parser.parse_args()
    arguments.tandem = [os.path.abspath(one) for one in arguments.tandem]
    arguments.generator = os.path.abspath(arguments.generator or arguments.tandem[-1])
    databases = arguments.database or ["sqlite", "postgres"]
    settings = [(binary, kind) for binary in arguments.tandem for kind in databases]
    engines = Engines({}) if "postgres" in databases else None
    results = {setting: [] for setting in settings}
    try:
        for number in range(arguments.rounds):
            for setting in settings if number % 2 == 0 else settings[::-1]:
                results[setting].append(measure(arguments, *setting, engines))
                print(f"round {number + 1}, {setting}: {short(results[setting][-1])}", file=sys.stderr, flush=True)
    finally:
        if engines:
            engines.close()
    (ROOT / "figures").mkdir(exist_ok=True)
    (ROOT / "figures/one-server.json").write_text(json.dumps([{"binary": one, "database": kind, "rounds": rounds} for (one, kind), rounds in results.items()], indent=1))
    render(results, settings)


def short(round):
    """The figures of a round."""
    figures = {f"{what} {name}": one[name] for what, one in round.items() if what != "ramp" for name in ("tandem_ms", "postgres_ms", "failed")}
    if "ramp" in round:
        figures["highest rate without a failed call"] = round["ramp"]["highest"]
    return {name: value if value is None else round_to(value) for name, value in figures.items()}


def round_to(value):
    return float(f"{value:.3g}")


def render(results, settings):
    """Medians, spreads, and the ratios to the first setting of the same round."""
    for name in short(results[settings[0]][0]):
        print(name)
        base = [short(one)[name] for one in results[settings[0]]]
        for setting in settings:
            values = [short(one)[name] for one in results[setting]]
            ratios = [value / first for value, first in zip(values, base, strict=True) if first]
            ratio = f"   to the first: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})" if ratios else ""
            print(f"  {setting[1]:<9} {setting[0]:<60} {statistics.median(values):10.3g} ({min(values):.3g} to {max(values):.3g}){ratio}")


if __name__ == "__main__":
    main()
