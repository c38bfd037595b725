#!/usr/bin/env python3
"""Fills the SQLite database of a server with a long history, to measure lists of many calls.

    generate.py DATABASE [--calls 1000000] [--days 100] [--numbers 10000] [--accounts NAME,NAME,...]

The server must have created the database, must have had at least one call (with a recording, to measure recordings),
and must be stopped. The records of the history are copies of the newest call and the newest recording, with other ids,
parties, times and statuses. Each call has a copy of the log and of two webhooks of the newest call. Each tenth call has a
recording (without a file), and each twentieth call a report. measure.py measures the lists.
"""

import argparse
import json
import sqlite3
import sys
import time

# The causes of the reports, one after the other.
CAUSES = ("connection-refused", "timeout", "answered-5xx", "answered-404", "no-audio", "not-xml", "answered-403", "trunk-down")
DAY = 86_400_000_000
# The ids begin with the time in milliseconds (48 bits). The rest of an id is a number that no other row has.
ID = "printf('%012x%020x', created / 1000, {salt} + n)"


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("database")
    arguments.add_argument("--calls", type=int, default=1_000_000)
    arguments.add_argument("--days", type=int, default=100)
    arguments.add_argument("--numbers", type=int, default=10_000)
    arguments.add_argument("--accounts", help="names of accounts; the first has half of the calls")
    given = arguments.parse_args()
    database = sqlite3.connect(f"file:{given.database}?mode=rw", uri=True, isolation_level=None)
    database.row_factory = sqlite3.Row
    for pragma in ("synchronous = OFF", "cache_size = -1000000", "temp_store = MEMORY", "busy_timeout = 5000"):
        database.execute(f"PRAGMA {pragma}")
    template = database.execute("SELECT * FROM calls WHERE parent IS NULL ORDER BY created_at DESC LIMIT 1").fetchone()
    if template is None:
        sys.exit("the database has no call: start the server, call a number (`tandem call`), and stop the server")
    began = time.monotonic()
    database.execute("BEGIN")
    fill(database, template, given)
    database.execute("COMMIT")
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    count = database.execute("SELECT COUNT(*) FROM calls").fetchone()[0]
    print(f"{count} calls, {time.monotonic() - began:.1f} s")


def fill(database, template, given):
    accounts = given.accounts.split(",") if given.accounts else [template["account"]]
    whole = json.loads(template["details"])
    now = int(time.time() * 1_000_000)
    database.execute("CREATE TEMP TABLE names (place INTEGER PRIMARY KEY, name TEXT)")
    database.executemany("INSERT INTO names VALUES (?, ?)", enumerate(accounts))
    others = max(len(accounts) - 1, 1)
    step = given.days * DAY // given.calls
    database.execute(f"""
        CREATE TEMP TABLE history AS
        WITH RECURSIVE numbers(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < {given.calls}),
        times(n, created) AS (SELECT n, {now - given.days * DAY} + n * {step} FROM numbers)
        SELECT n, created, {ID.format(salt=1 << 40)} AS id, {ID.format(salt=1 << 41)} AS session,
            CASE WHEN n % 2 = 0 OR {len(accounts)} = 1 THEN 0 ELSE 1 + n / 2 % {others} END AS place,
            printf('+1555%07d', n * 7919 % {given.numbers}) AS callee,
            CASE WHEN n % 50 = 0 THEN 'anonymous' ELSE printf('+4930%08d', n * 104729 % {given.numbers * 10}) END AS caller,
            CASE n % 20 WHEN 7 THEN 'busy' WHEN 11 THEN 'no-answer' WHEN 13 THEN 'failed' ELSE 'completed' END AS status,
            2000000 + n % 17 * 1000000 AS rings, 10000000 + n % 300 * 1000000 AS talks
        FROM times""")
    # The record is JSON with the same values as the columns.
    details = "replace(replace(replace(replace(:details, :id, id), :session, session), :from, caller), :to, callee)"
    values = {"details": template["details"], "id": template["id"], "session": template["session"]}
    values |= {"from": template["from_address"], "to": template["to_address"], "dialect": template["dialect"]}
    iso = "strftime('%Y-%m-%dT%H:%M:%SZ', {} / 1000000, 'unixepoch')"
    changes = ["'$.account'", "names.name", "'$.created_at'", iso.format("created")]
    changes += ["'$.answered_at'", f"CASE status WHEN 'completed' THEN {iso.format('(created + rings)')} END"]
    if isinstance(whole.get("end"), dict) and "at" in whole["end"]:
        changes += ["'$.end.at'", iso.format("(created + rings + talks)")]
    word = {"completed": "Completed", "busy": "Busy", "no-answer": "NoAnswer", "failed": "Failed"}
    if whole.get("status") in word.values():
        cases = " ".join(f"WHEN '{key}' THEN '{value}'" for key, value in word.items())
        changes += ["'$.status'", f"CASE status {cases} END"]
    changes += ["'$.sip.call_id'", "substr(id, 13) || '@10.1.2.3'"]
    changes += ["'$.end.sip_status'", "CASE status WHEN 'busy' THEN 486 WHEN 'no-answer' THEN 480 WHEN 'failed' THEN 503 END"]
    database.execute(f"""
        INSERT INTO calls (id, session, parent, account, dialect, direction, from_address, to_address, status, created_at,
            answered_at, ended_at, updated_at, sip_status, cause, details)
        SELECT id, session, CASE WHEN n % 4 = 3 THEN lag(id) OVER (ORDER BY n) END, names.name, :dialect,
            CASE n % 4 WHEN 3 THEN 'outbound-dial' WHEN 2 THEN 'outbound-api' ELSE 'inbound' END, caller, callee, status,
            created, CASE status WHEN 'completed' THEN created + rings END, created + rings + talks,
            created + rings + talks, NULL, NULL, json_set({details}, {', '.join(changes)})
        FROM history JOIN names USING (place) ORDER BY n""", values)
    records(database, values)
    recording = database.execute("SELECT * FROM recordings ORDER BY started_at DESC LIMIT 1").fetchone()
    if recording is not None:
        sid = ID.format(salt=1 << 42)
        changes = ["'$.id'", sid, "'$.leg'", "id", "'$.started_at'", iso.format("(created + rings)")]
        changes += ["'$.ended_at'", iso.format("(created + rings + talks)"), "'$.status'", "'Completed'"]
        changes += ["'$.duration'", "json_object('secs', talks / 1000000, 'nanos', 0)"]
        database.execute(f"""
            INSERT INTO recordings (id, account, dialect, leg, session, source, channels, track, format, path, status,
                started_at, ended_at, duration_ms, bytes, details)
            SELECT {sid}, names.name, :dialect, id, session, 'record', 1, 'both', 'wav', id || '.wav', 'completed',
                created + rings, created + rings + talks, talks / 1000, talks / 125, json_set(:details, {', '.join(changes)})
            FROM history JOIN names USING (place) WHERE n % 10 = 0 AND status = 'completed' ORDER BY n""",
            {"dialect": recording["dialect"], "details": recording["details"]})
    report = json.dumps({"cause": ":cause", "code": 11200, "message": "HTTP retrieval failure", "hint": None, "call": ":call",
        "session": ":session", "request": None}, separators=(",", ":"))
    cases = " ".join(f"WHEN {place} THEN '{cause}'" for place, cause in enumerate(CAUSES))
    database.execute(f"""
        INSERT INTO resources (id, account, kind, parent, name, claim, details, created_at, updated_at, cause)
        SELECT {ID.format(salt=1 << 43)}, names.name, 'report', id, CASE n % 60 WHEN 0 THEN 'error' ELSE 'warning' END, NULL,
            replace(replace(replace(:report, ':cause', cause), ':session', session), ':call', 'CA' || id), created, created, cause
        FROM (SELECT *, CASE n / 20 % {len(CAUSES)} {cases} END AS cause FROM history WHERE n % 20 = 0)
        JOIN names USING (place) ORDER BY n""", {"report": report})
    database.execute("DROP TABLE history")


def records(database, values):
    """The logs and the webhooks of the calls, as copies of those of the newest call."""
    log = database.execute("SELECT * FROM events WHERE session = ? AND kind = 'log'", (values["session"],)).fetchone()
    if log is not None:
        database.execute("""
            INSERT INTO events (session, seq, leg, at, kind, text, data)
            SELECT session, created, NULL, created, 'log', :text, replace(replace(:data, :id, id), :session, session)
            FROM history ORDER BY session""", {**values, "text": log["text"], "data": log["data"]})
    webhooks = database.execute("SELECT * FROM deliveries WHERE session = ? ORDER BY seq LIMIT 2", (values["session"],))
    for place, webhook in enumerate(webhooks.fetchall()):
        database.execute(f"""
            INSERT INTO deliveries (id, queue, seq, session, account, dialect, event, request, state, attempts, next_at, created_at,
                done_at, last_status, last_error)
            SELECT {ID.format(salt=(44 + place) << 40)}, id, created + {place}, session, names.name, :dialect, :event,
                replace(replace(:request, :id, id), :session, session), 'delivered', 1, NULL, created + rings,
                created + rings + 100000, 200, NULL
            FROM history JOIN names USING (place) ORDER BY n""",
            {**values, "event": webhook["event"], "request": webhook["request"]})


if __name__ == "__main__":
    main()
