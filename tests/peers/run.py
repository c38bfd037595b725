#!/usr/bin/env python3
"""Real phones against the server: each kind over each transport, feature by feature, as a table.

    tests/peers/run.py                             all that is installed, over UDP, TCP, TLS, TLS with SRTP, and UDP with
                                                   ICE and DTLS-SRTP
    tests/peers/run.py --phones linphone --over tcp --features "hold by it" --keep

Everything runs on loopback addresses of its own (127.0.16.x by default). The logs of the phones and of the server stay in --folder.
"""

import argparse
import pathlib
import shutil
import sys
import time
import traceback

import baresip
import jssip
import linphone
from phone import CannotDo, Failed, wait
from server import Server

KINDS = {"baresip": baresip, "linphone": linphone, "jssip": jssip}
CLASSES = {"baresip": baresip.Baresip, "linphone": linphone.Linphone, "jssip": jssip.Jssip}
OVER = {"jssip": ["websocket"]}
HERE = pathlib.Path(__file__).resolve().parent


class Company:
    """The phone under test, alice, and two baresips on UDP who talk to her: bob and carol."""

    def __init__(self, args, server, kind, transport, media=None, proxy=None):
        phone = CLASSES[kind]
        network = args.network
        self.server = server
        self.folder = pathlib.Path(args.folder) / f"{kind}-{transport}{f'-{media}' if media else ''}"
        self.folder.mkdir(parents=True)
        # Dora's phone takes encrypted media only, and is sent no other. Erin's phone is offered ICE and DTLS-SRTP.
        user = {"srtp": "dora", "dtls": "erin"}.get(media, "alice")
        srtp = media == "srtp"
        self.alice = phone(user, f"{network}.11", server, self.folder, transport, srtp, 500, 12000)
        self.alice.dtls = media == "dtls"
        self.bob = baresip.Baresip("bob", f"{network}.12", server, self.folder, "udp", False, 800, 14000)
        self.carol = baresip.Baresip("carol", f"{network}.13", server, self.folder, "udp", False, 1100, 16000)
        self.alice.proxy = self.bob.proxy = proxy
        self.phones = (self.alice, self.bob, self.carol)

    def start(self):
        for phone in self.phones:
            phone.start()
        for phone in self.phones:
            wait(f"{phone.user} does not register", phone.registered)

    def stop(self):
        for phone in self.phones:
            phone.stop()

    def rest(self):
        """Ends all calls before the next feature."""
        for phone in self.phones:
            phone.hang_up_all()
        wait("the calls do not end", lambda: self.server.is_idle() and all(phone.is_idle() for phone in self.phones))
        for phone in self.phones:
            phone.mark()

    def talk(self, caller, callee):
        """A call between two, heard both ways."""
        for phone in (caller, callee):
            phone.mark()
        caller.dial(callee.user)
        wait(f"{callee.user} does not ring", callee.incoming)
        wait(f"{caller.user} does not hear it ring", caller.ringing)
        callee.answer()
        wait(f"{caller.user} is not connected", caller.established)
        wait(f"{callee.user} is not connected", callee.established)
        self.both(caller, callee)

    def both(self, one, other):
        one.hears(other)
        other.hears(one)


def is_encrypted(all):
    """The sound of an encrypted call is not to be heard on the wire, and the log names the certificate of DTLS."""
    if (all.alice.srtp or all.alice.dtls) and all.server.wire.tone(all.alice.rtp, all.bob.hertz):
        raise Failed("its audio is not encrypted")
    if not all.alice.dtls:
        return
    log = all.server.timeline()
    if "The far end's certificate: RSA" not in log:
        raise Failed(f"the log has no RSA certificate: {log}")


def it_calls(all):
    all.talk(all.alice, all.bob)
    is_encrypted(all)
    all.alice.hangup()
    wait("bob's call does not end", all.bob.ended)


def it_is_called(all):
    all.talk(all.bob, all.alice)
    is_encrypted(all)
    all.bob.hangup()
    wait("its call does not end", all.alice.ended)


def it_ends_a_call_to_it(all):
    all.talk(all.bob, all.alice)
    all.alice.hangup()
    wait("bob's call does not end", all.bob.ended)


def keys_to_an_application(all):
    if not all.alice.sends_events:
        raise CannotDo("sends INFO only")
    press_for_the_application(all)


def press_for_the_application(all):
    all.server.application.requests.clear()
    all.alice.mark()
    all.alice.dial("700")
    wait("not connected", all.alice.established)
    time.sleep(1)  # A person needs a second after the answer.
    all.alice.press("1590")
    wait("the digits do not arrive", lambda: all.server.application.last_value("/digits", "Digits"))
    digits = all.server.application.last_value("/digits", "Digits")
    if digits != "1590":
        raise Failed(f"1590 was pressed, {digits} arrived")


def keys_by_info(all):
    if not all.alice.sends_info:
        raise CannotDo("sends no INFO")
    all.alice.stop()
    all.alice.start("info")
    try:
        wait("does not register", all.alice.registered)
        press_for_the_application(all)
    finally:
        all.alice.hang_up_all()
        all.alice.stop()
        all.alice.start()
        wait("does not register", all.alice.registered)


def keys_to_and_from_a_phone(all):
    all.talk(all.alice, all.bob)
    all.alice.press("159")
    wait("bob does not hear 159", lambda: all.bob.pressed() == "159")
    if not all.alice.hears_keys:
        return
    all.bob.press("7")
    wait("it does not hear 7", lambda: "7" in all.alice.pressed())


def held(holder, other):
    holder.hold()
    if holder.plays_music:
        other.hears(holder)
    else:
        other.hears_nothing()
    holder.hears_nothing()


def hold_by_it(all):
    all.talk(all.alice, all.bob)
    for _ in range(2):
        held(all.alice, all.bob)
        all.alice.resume()
        all.both(all.alice, all.bob)


def hold_by_the_other(all):
    all.talk(all.bob, all.alice)
    for _ in range(2):
        held(all.bob, all.alice)
        all.bob.resume()
        all.both(all.alice, all.bob)


def hold_by_both(all):
    all.talk(all.alice, all.bob)
    held(all.alice, all.bob)
    all.bob.hold()
    all.alice.hears_nothing()
    all.alice.resume()
    all.alice.hears_nothing()
    all.bob.resume()
    all.both(all.alice, all.bob)


def blind_transfer_by_it(all):
    all.talk(all.alice, all.bob)
    all.carol.mark()
    all.alice.transfer("carol")
    wait("carol does not ring", all.carol.incoming)
    all.carol.answer()
    all.both(all.bob, all.carol)
    wait("its own call does not end", all.alice.ended)


def blind_transfer_of_its_caller(all):
    all.talk(all.bob, all.alice)
    all.carol.mark()
    all.alice.transfer("carol")
    wait("carol does not ring", all.carol.incoming)
    all.carol.answer()
    all.both(all.bob, all.carol)
    wait("its own call does not end", all.alice.ended)


def blind_transfer_to_a_busy_one(all):
    if not all.alice.outlives_failed_transfers:
        raise CannotDo("hangs up when a transfer fails")
    all.talk(all.alice, all.bob)
    all.carol.mark()
    all.alice.transfer("carol")
    wait("carol does not ring", all.carol.incoming)
    all.carol.decline()
    time.sleep(1)  # A lost call would end within this second.
    if all.alice.ended() or all.bob.ended():
        raise Failed("the call is lost")
    if all.alice.is_held():
        all.alice.resume()
    all.both(all.alice, all.bob)


def attended_transfer_by_it(all):
    all.talk(all.alice, all.bob)
    all.carol.mark()
    all.alice.consult("carol")
    wait("carol does not ring", all.carol.incoming)
    all.carol.answer()
    all.both(all.alice, all.carol)
    all.alice.complete_transfer()
    all.both(all.bob, all.carol)
    wait("its own call does not end", all.alice.ended)


def it_is_transferred(all):
    all.talk(all.bob, all.alice)
    all.carol.mark()
    all.bob.transfer("carol")
    wait("carol does not ring", all.carol.incoming)
    all.carol.answer()
    all.both(all.alice, all.carol)
    wait("bob's call does not end", all.bob.ended)


def it_is_the_target(all):
    all.talk(all.bob, all.carol)
    all.alice.mark()
    all.bob.transfer(all.alice.user)
    wait("it does not ring", all.alice.incoming)
    all.alice.answer()
    all.both(all.alice, all.carol)
    wait("bob's call does not end", all.bob.ended)


def it_is_busy(all):
    all.bob.mark()
    all.alice.mark()
    all.bob.dial(all.alice.user)
    wait("it does not ring", all.alice.incoming)
    all.alice.decline()
    wait("bob's call does not end", all.bob.ended)


def it_calls_a_busy_one(all):
    all.bob.mark()
    all.alice.mark()
    all.alice.dial("bob")
    wait("bob does not ring", all.bob.incoming)
    all.bob.decline()
    wait("its call does not end", all.alice.ended)


def it_cancels(all):
    all.bob.mark()
    all.alice.mark()
    all.alice.dial("bob")
    wait("bob does not ring", all.bob.incoming)
    wait("it does not hear it ring", all.alice.ringing)
    all.alice.hangup()
    wait("bob rings on", all.bob.ended)
    wait("its call does not end", all.alice.ended)


def its_caller_cancels(all):
    all.bob.mark()
    all.alice.mark()
    all.bob.dial(all.alice.user)
    wait("it does not ring", all.alice.incoming)
    wait("bob does not hear it ring", all.bob.ringing)
    all.bob.hangup()
    wait("it rings on", all.alice.ended)


def nobody_answers(all):
    all.bob.mark()
    all.alice.mark()
    all.alice.dial("701")
    wait("bob does not ring", all.bob.incoming)
    wait("bob rings on", all.bob.ended)
    wait("its call does not end", all.alice.ended)


def nobody_is_there(all):
    all.alice.mark()
    all.alice.dial("799")
    wait("its call does not end", all.alice.ended)


def sessions_are_refreshed(all):
    """The session interval is 90 s. Without a refresh at 45 s and at 90 s, the call ends."""
    all.talk(all.alice, all.bob)
    time.sleep(100)  # The call must last longer than the session interval.
    all.both(all.alice, all.bob)


def it_unregisters(all):
    all.alice.stop()
    all.bob.mark()
    all.bob.dial(all.alice.user)
    wait("bob's call does not end", all.bob.ended)


QUICK = [
    ("calls", it_calls),
    ("is called", it_is_called),
    ("ends a call to it", it_ends_a_call_to_it),
    ("keys, RFC 4733", keys_to_an_application),
    ("keys between phones", keys_to_and_from_a_phone),
    ("keys, INFO", keys_by_info),
    ("hold by it", hold_by_it),
    ("hold by the other", hold_by_the_other),
    ("hold by both", hold_by_both),
    ("blind transfer", blind_transfer_by_it),
    ("blind transfer of its caller", blind_transfer_of_its_caller),
    ("blind transfer to a busy one", blind_transfer_to_a_busy_one),
    ("attended transfer", attended_transfer_by_it),
    ("is transferred", it_is_transferred),
    ("is a transfer's target", it_is_the_target),
    ("is busy", it_is_busy),
    ("calls a busy one", it_calls_a_busy_one),
    ("cancels", it_cancels),
    ("is cancelled", its_caller_cancels),
    ("no answer", nobody_answers),
    ("no such number", nobody_is_there),
]
LONG = [("session refresh", sessions_are_refreshed)]
LAST = [("unregisters", it_unregisters)]


def try_out(args, server, kind, transport, media=None, proxy=None):
    """Each feature's result. `proxy`: where alice and bob send all they say, instead of the server."""
    company = Company(args, server, kind, transport, media, proxy)
    results = {}
    try:
        company.start()
        results["registers"] = "seen"
        features = QUICK + (LONG if args.long else []) + LAST
        for name, feature in features:
            if args.features and name not in args.features:
                continue
            try:
                company.rest()
                feature(company)
                results[name] = "seen"
            except CannotDo as why:
                results[name] = f"- {why}"
            except (Failed, OSError) as why:
                results[name] = f"FAILED {why}"
            print(f"  {name}: {results[name]}", file=sys.stderr, flush=True)
    except Failed as why:
        results["registers"] = f"FAILED {why}"
    except Exception:
        traceback.print_exc()
    finally:
        company.stop()
    return results


def main():
    target = HERE.parent.parent / "target"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tandem", default=str(target / "release/tandem"), help="the binary")
    parser.add_argument("--phones", default=",".join(KINDS))
    parser.add_argument("--over", default="udp,tcp,tls,srtp,dtls")
    parser.add_argument("--features", type=lambda text: text.split(";"), help="some of them, with ; between")
    parser.add_argument("--long", action="store_true", help="also what takes minutes")
    parser.add_argument("--network", default="127.0.16", help="the first three numbers of the addresses to use")
    parser.add_argument("--folder", default="/tmp/tandem-peers", help="emptied first")
    args = parser.parse_args()
    shutil.rmtree(args.folder, ignore_errors=True)
    pathlib.Path(args.folder).mkdir(parents=True)
    server = Server(args.tandem, args.folder, f"{args.network}.1")
    server.start()
    columns = {}
    try:
        for kind in args.phones.split(","):
            if KINDS[kind].is_missing() or baresip.is_missing():
                print(f"skipped: {kind} is not installed", file=sys.stderr)
                continue
            for over in OVER.get(kind, args.over.split(",")):
                print(f"{kind} over {over}", file=sys.stderr)
                transport, media = {"srtp": ("tls", "srtp"), "dtls": ("udp", "dtls")}.get(over, (over, None))
                columns[f"{kind} {over}"] = try_out(args, server, kind, transport, media)
    finally:
        server.close()
    return show(columns)


def show(columns):
    """Prints the table, and gives whether anything in it failed."""
    rows = list(dict.fromkeys(name for column in columns.values() for name in column))
    print("| feature | " + " | ".join(columns) + " |")
    print("|---" * (len(columns) + 1) + "|")
    for row in rows:
        print(f"| {row} | " + " | ".join(column.get(row, "") for column in columns.values()) + " |")
    return any("FAILED" in result for column in columns.values() for result in column.values())


if __name__ == "__main__":
    sys.exit(main())
