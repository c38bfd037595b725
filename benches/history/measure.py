#!/usr/bin/env python3
"""Times the lists of a running server.

    measure.py URL ACCOUNT_SID AUTH_TOKEN [--rounds 5] [--at-once 10]

Each list is read ROUNDS times, one after another, and then AT_ONCE times at the same time. Meanwhile `/readyz` is asked.
A line has the median, the 95th percentile, the longest time, and the longest time at once, in milliseconds. `--console`
reads only the requests of the console's pages.
"""

import argparse
import base64
import concurrent.futures
import json
import sys
import time
import urllib.error
import urllib.parse
import urllib.request


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("url")
    arguments.add_argument("sid")
    arguments.add_argument("token")
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--at-once", type=int, default=10)
    arguments.add_argument("--console", action="store_true")
    given = arguments.parse_args()
    key = base64.b64encode(f"{given.sid}:{given.token}".encode()).decode()

    def get(path):
        request = urllib.request.Request(given.url + path, headers={"Authorization": f"Basic {key}"})
        began = time.perf_counter()
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                body = answer.read()
                status = answer.status
        except urllib.error.HTTPError as error:
            body, status = error.read(), error.code
        return (time.perf_counter() - began) * 1_000, status, body

    root = f"/2010-04-01/Accounts/{given.sid}"
    calls = json.loads(get(f"{root}/Calls.json?PageSize=1000")[2])["calls"]
    if not calls:
        sys.exit("the account has no calls")
    middle = calls[len(calls) // 2]
    far = json.loads(get(f"{root}/Calls.json?PageSize=50&Page=2000")[2])["calls"]
    old = far[0] if far else middle
    day = lambda call: time.strftime("%Y-%m-%d", time.strptime(call["date_created"], "%a, %d %b %Y %H:%M:%S +0000"))
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 3_600))
    quoted = urllib.parse.quote
    lists = {
        "calls": f"{root}/Calls.json",
        "calls, 1000 on a page": f"{root}/Calls.json?PageSize=1000",
        "calls, page after an old call": f"{root}/Calls.json?PageToken=PA{old['sid']}&Page=2000",
        "calls to": f"{root}/Calls.json?To={quoted(middle['to'])}",
        "calls from": f"{root}/Calls.json?From={quoted(middle['from'])}",
        "calls to nobody": f"{root}/Calls.json?To=%2B19999999999",
        "calls, completed": f"{root}/Calls.json?Status=completed",
        "calls, busy": f"{root}/Calls.json?Status=busy",
        "calls, canceled (none)": f"{root}/Calls.json?Status=canceled",
        "calls, in-progress": f"{root}/Calls.json?Status=in-progress",
        "calls of a parent": f"{root}/Calls.json?ParentCallSid={middle['sid']}",
        "calls since an old day": f"{root}/Calls.json?StartTime%3E={day(old)}",
        "calls of an old day": f"{root}/Calls.json?StartTime={day(old)}",
        "calls since an hour ago": f"{root}/Calls.json?StartTime%3E={now}",
        "calls that ended on an old day": f"{root}/Calls.json?EndTime={day(old)}",
        "calls to, on an old day": f"{root}/Calls.json?To={quoted(middle['to'])}&StartTime={day(old)}",
        "recordings": f"{root}/Recordings.json",
        "recordings of a call": f"{root}/Recordings.json?CallSid={middle['sid']}",
        "recordings of an old day": f"{root}/Recordings.json?DateCreated={day(old)}",
        "notifications": f"{root}/Notifications.json",
        "usage": f"{root}/Usage/Records.json",
        "usage by day": f"{root}/Usage/Records/Daily.json?Category=calls",
        "console: calls": "/console/calls",
        "console: live calls": "/console/calls?status=live",
        "console: ended calls": "/console/calls?status=ended",
        "console: calls to": f"/console/calls?to={quoted(middle['to'])}",
        "console: part of a number": f"/console/calls?from={quoted(middle['from'][3:9])}",
        "console: errors": "/console/errors",
        "console: errors, level error": "/console/errors?level=error",
        "console: one call": f"/console/calls/{old['sid']}",
        "console: part of an id": f"/console/calls/{middle['sid'][8:24]}",
    }
    ago = lambda hours: time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 3_600 * hours))
    call_id = json.loads(get(f"/console/calls/{middle['sid']}")[2])["calls"][0]["sip_call_id"] or "x@10.1.2.3"
    searches = {"part of a number": middle["to"][4:9], "a whole number": middle["from"], "part of an id": middle["sid"][8:24],
        "a whole old id": old["sid"], "part of a Call-ID": call_id[4:16], "an error (503)": '"sip_status":503', "nothing": "zzzzzz"}
    lists |= {f"console: search {name}": f"/console/calls?search={quoted(text)}" for name, text in searches.items()}
    for status in ("live", "ended", "completed", "busy", "failed", "no-answer", "canceled"):
        lists[f"console: status {status}"] = f"/console/calls?status={status}"
    for direction in ("inbound", "outbound-api", "outbound-dial"):
        lists[f"console: {direction}"] = f"/console/calls?direction={direction}"
    lists["console: since yesterday"] = f"/console/calls?since={ago(24)}"
    lists["console: busy and inbound, since a week"] = f"/console/calls?status=busy&direction=inbound&since={ago(168)}"
    for name, hours in (("hour", 1), ("day", 24), ("week", 168), ("everything", 24_000)):
        lists[f"console: problems, {name}"] = f"/console/errors/causes?since={ago(hours)}"
    lists["console: problems of one cause"] = "/console/errors?cause=timeout&limit=1000"
    lists["console: a call"] = f"/console/calls/{middle['sid']}"
    for page in ("live", "figures", "changes", "phones", "trunks", "numbers"):
        lists[f"console: {page}"] = f"/console/{page}"
    if given.console:
        lists = {name: path for name, path in lists.items() if name.startswith("console")}
    worst = 0
    for name, path in lists.items():
        get(path)
        times = [get(path)[0] for _ in range(given.rounds)]
        with concurrent.futures.ThreadPoolExecutor(given.at_once) as pool:
            answers = list(pool.map(lambda _: get(path), range(given.at_once)))
        statuses = sorted({status for _, status, _ in answers})
        ready = get("/readyz")[1]
        times.sort()
        middle_time, p95 = times[len(times) // 2], times[min(len(times) - 1, len(times) * 95 // 100)]
        worst = max(worst, p95)
        at_once = max(took for took, _, _ in answers)
        figures = f"{middle_time:8.1f} {p95:8.1f} {times[-1]:8.1f} {at_once:8.1f}"
        print(f"{name:40} {figures}   {statuses} readyz {ready}", flush=True)
    print(f"longest 95th percentile: {worst:.1f} ms")


if __name__ == "__main__":
    main()
