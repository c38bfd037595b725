#!/usr/bin/env python3
"""The arithmetic of docs/scale.md: what so many calls at once need.

    tests/cluster/scale.py            prints the tables
    tests/cluster/scale.py --write    puts them into docs/scale.md
    tests/cluster/scale.py --check    fails if docs/scale.md has others
"""

import math
import re
import sys
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs/scale.md"
SIZES = (1_000, 10_000, 100_000, 1_000_000)

# Measured: tests/cluster/test_costs.py, three nodes. Each call of its application.
TANDEM, POSTGRES, KAMAILIO, NATS = 12.8, 3.9, 0.9, 0.4  # ms of CPU time
COMMITS, ROWS, LOG = 12.0, 22.4, 37_600  # transactions that write; rows; octets of the write-ahead log
MESSAGES = 4.3  # into and out of the NATS server
CONNECTIONS = 10  # of a node, to PostgreSQL
# Measured: docs/performance.md. One bridged call of G.711, 20 ms.
KERNEL, USER = 0.033, 1.01  # ms of CPU time a second
MEMORY = 51  # KiB
# Taken from elsewhere: what a packet costs a kernel that forwards it by eBPF. The figure of docs/performance.md has no softirqs.
PACKET = 0.001  # ms of CPU time
# Of the application that was measured.
WEBHOOKS, REQUESTS = 7, 1.25
# Assumed.
SECONDS = 180  # of a call
CORES, BUSY = 16, 0.5  # of a node, and the share of them that is used
RECORDED = 0.1  # the share of calls that are recorded, two channels
REGISTER = 600  # seconds between two registrations of a phone; as many phones as calls
# Computed from the formats and the defaults.
CALL_BITS = 2 * 87_200  # bit/s of a call with two legs, in one direction: 218 octets on Ethernet, 50 times a second
CALL_PACKETS = 100  # a second, in one direction
KERNEL += CALL_PACKETS * PACKET
RECORDING = 16_000  # octets a second, µ-law, two channels
CALLS_OF_NODE = 10_000  # sip.max_legs = 20,000, and media.ports with 40,000 ports
READ_PHONES = 30  # seconds between two readings of all registrations by a node


def needs(calls):
    """The rows of the table for so many calls at once, with two legs each."""
    rate = calls / SECONDS
    cores = lambda milliseconds: milliseconds / 1000 / BUSY
    signalling = cores(rate * TANDEM)
    kernel, user = (signalling + cores(calls * each) for each in (KERNEL, USER))
    nodes, nodes_user = (max(math.ceil(each / CORES), math.ceil(calls / CALLS_OF_NODE)) for each in (kernel, user))
    return {
        "new calls a second": count(rate),
        "cores for calls without their audio": count(signalling),
        "... and audio relayed by the kernel": count(kernel),
        "... or in user space": count(user),
        f"nodes with {CORES} cores, kernel": count(nodes),
        "nodes, user space": count(nodes_user),
        "memory of the calls, GiB": count(calls * MEMORY / 2**20),
        "audio, Gbit/s in, and the same out": count(calls * CALL_BITS / 1e9),
        "audio, packets a second in, and the same out": count(calls * CALL_PACKETS),
        "UDP sockets and ports": count(4 * calls),
        "PostgreSQL: transactions that write, a second": count(rate * COMMITS + nodes),
        "PostgreSQL: rows written a second": count(rate * ROWS + nodes),
        "PostgreSQL: write-ahead log, MB/s": count(rate * LOG / 1e6),
        "PostgreSQL: cores": count(cores(rate * POSTGRES)),
        "PostgreSQL: connections": count(nodes * CONNECTIONS),
        "NATS: messages a second for calls": count(rate * MESSAGES),
        "NATS: messages a second for registrations": count(calls / REGISTER * nodes),
        "PostgreSQL: registrations read a second": count(calls * nodes / READ_PHONES),
        "Kamailio: cores": count(cores(rate * KAMAILIO)),
        "webhooks a second": count(rate * WEBHOOKS),
        "REST requests a second": count(rate * REQUESTS),
        f"recordings of {RECORDED:.0%} of the calls, MB/s": count(calls * RECORDED * RECORDING / 1e6),
        "recordings, objects a second": count(rate * RECORDED),
        "recordings, TB a day": count(calls * RECORDED * RECORDING * 86_400 / 1e12),
    }


def count(value):
    """At most two digits, and thousands with commas."""
    if value == 0:
        return "0"
    digits = max(0, 1 - math.floor(math.log10(abs(value))))
    rounded = round(value, 1 - math.floor(math.log10(abs(value))))
    return f"{rounded:,.{min(digits, 2)}f}" if rounded < 10 and rounded != int(rounded) else f"{rounded:,.0f}"




def limits():
    """What a part carries: (the part, its limit, calls at once)."""
    cores = CORES * BUSY * 1000
    return [
        (f"a node, audio in user space, {CORES} cores", cores / (USER + TANDEM / SECONDS)),
        (f"a node, audio by the kernel, {CORES} cores", cores / (KERNEL + TANDEM / SECONDS)),
        ("a node, `media.ports` = 20000-39999 (the default)", 20_000 / 4),
        ("a node, `sip.max_legs` = 20000 (the default)", 20_000 / 2),
        ("a node, `media.ports` = 10000-65535", 55_536 / 4),
        ("a network card of 10 Gbit/s, half used", 10e9 * 0.5 / CALL_BITS),
        ("Kamailio with `children=4`, half used", 4 * BUSY * 1000 / KAMAILIO * SECONDS),
        (f"PostgreSQL, {CORES} cores", cores / POSTGRES * SECONDS),
        ("PostgreSQL with 5,000 commits a second", 5_000 / COMMITS * SECONDS),
        ("PostgreSQL, 500 connections", 500 / CONNECTIONS * CALLS_OF_NODE),
        ("NATS on one core, half used", BUSY * 1000 / NATS * SECONDS),
    ]


def tables():
    """The tables of the page by name."""
    columns = [needs(calls) for calls in SIZES]
    needed = ["| calls at once | " + " | ".join(f"{calls:,}" for calls in SIZES) + " |", "|---|" + "---|" * len(SIZES)]
    needed += [f"| {name} | " + " | ".join(column[name] for column in columns) + " |" for name in columns[0]]
    breaks = ["| part | calls at once |", "|---|---|", *(f"| {part} | {count(calls)} |" for part, calls in limits())]
    return {"needs": "\n".join(needed), "limits": "\n".join(breaks)}


def page(text):
    """The page with the tables between its marks."""
    for name, table in tables().items():
        text, found = re.subn(rf"(?s)(<!-- table {name}[^\n]*-->\n).*?(\n<!-- end -->)", lambda marks: marks[1] + table + marks[2], text)
        assert found == 1, f"{PAGE} has no place for the table {name}"
    return text


def main():
    if sys.argv[1:] == ["--write"]:
        PAGE.write_text(page(PAGE.read_text()))
    elif sys.argv[1:] == ["--check"]:
        if page(PAGE.read_text()) != PAGE.read_text():
            sys.exit(f"{PAGE} has other figures: tests/cluster/scale.py --write")
    else:
        print("\n\n".join(tables().values()))


if __name__ == "__main__":
    main()
