"""What a load costs: counters of a cluster before and after."""

import contextlib
import dataclasses
import os
import re
import time
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")
# Settings of PostgreSQL for a cluster that is measured: statements are counted, and only nodes write.
DATABASE_SETTINGS = {"shared_preload_libraries": "pg_stat_statements", "autovacuum": "off"}
# Cumulative figures. A transaction that writes has an id of its own, one that only reads has none.
_DATABASE = """
SELECT pg_snapshot_xmax(pg_current_snapshot()), xact_commit, tup_inserted + tup_updated + tup_deleted,
  (SELECT coalesce(sum(calls), 0) FROM pg_stat_statements WHERE query ~* '^\\s*(with|insert|update|delete)' AND query ~* '(insert|update|delete)'),
  (SELECT coalesce(sum(calls), 0) FROM pg_stat_statements), pg_current_wal_lsn() - '0/0'
FROM pg_stat_database WHERE datname = 'tandem'
"""


@dataclasses.dataclass
class Counters:
    """Cumulative figures. Times are in seconds, `cpu` is user and system time of all processes of a kind."""

    at: float
    cpu: dict  # "tandem", "postgres", "nats", "kamailio"
    writes: int = 0  # transactions that have written
    transactions: int = 0
    rows: int = 0  # inserted, updated, deleted
    writing_statements: int = 0
    statements: int = 0
    wal: int = 0  # octets
    messages: int = 0  # into and out of the NATS server
    messages_of_nodes: int = 0  # sent and received, as the nodes count them

    @classmethod
    def of(cls, cluster):
        """The figures now. The queries themselves are some five transactions, of which none writes."""
        cpu = {"tandem": sum(cpu_of(node.process.pid) for node in cluster), "kamailio": cpu_of(cluster.kamailio.process.pid, True)}
        figures = {}
        if cluster.bus:
            cpu["nats"] = cpu_of(cluster.bus.pid)
            figures["messages"] = cluster.bus.messages()
            figures["messages_of_nodes"] = int(sum(node.metric("tandem_bus_messages_total") for node in cluster))
        if cluster.database:
            cpu["postgres"] = cpu_of(cluster.database.pid, True)
            (row,) = cluster.database.query(_DATABASE)
            names = ("writes", "transactions", "rows", "writing_statements", "statements", "wal")
            figures |= dict(zip(names, map(int, row), strict=True))
        return cls(time.monotonic(), cpu, **figures)

    def since(self, before):
        """The differences as a flat dict: "seconds", "cpu_tandem" (s), "writes" and so on."""
        flat = {f"cpu_{name}": seconds - before.cpu[name] for name, seconds in self.cpu.items()}
        for field in dataclasses.fields(self):
            if field.name not in ("at", "cpu"):
                flat[field.name] = getattr(self, field.name) - getattr(before, field.name)
        return flat | {"seconds": self.at - before.at}


def cpu_of(pid, with_children=False):
    """User and system time of a process in seconds. With its children: also of those that have ended."""
    total = 0
    for one in [pid, *_children(pid)] if with_children else [pid]:
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{one}/stat").read_text().rsplit(")", 1)[1].split()
            total += sum(int(ticks) for ticks in fields[11 : 15 if with_children else 13])
    return total / _TICK


def per(load, idle, count):
    """Figures of a load, without what the time would have cost without it, for each of `count` calls."""
    return {name: (value - idle[name] / idle["seconds"] * load["seconds"]) / count for name, value in load.items() if name != "seconds"}


def memory_of(pid):
    """The resident memory in octets."""
    return 1024 * int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1])


def _children(pid):
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(path.read_text().rsplit(")", 1)[1].split()[1]) == pid:
                found.append(int(path.parent.name))
    return found
