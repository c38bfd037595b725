"""An attack on the terminal and on the web console: callers, phones, carriers and applications put control sequences and markup into all that is shown.

Each field has a word of its own (`m-display`), so that the test knows which output shows it, and one text behind the word with every
attack. The outputs may have no control character except line breaks, tabs and the colours of Tandem itself.
"""

import hashlib
import itertools
import json
import os
import pty
import re
import signal
import socket
import subprocess
import termios
import threading
from xml.sax.saxutils import escape

import pytest
import requests

from harness.browser import Browser
from harness.console import PAGES, Console
from harness.engines import KEY, FileEngine
from harness.phone import free_port
from harness.resources import table
from harness.server import ACCOUNT_SID, AUTH_TOKEN, HOST, binary
from harness.waiting import wait_for

# What a terminal obeys although it is valid UTF-8 text: C1 controls (CSI, OSC), the order of the text, invisible characters.
MARKS = {
    "C1": "\u009b31m\u009d52;c;aGFybQ==\u009c",
    "bidirectional": "\u202egpj.exe\u202c\u2066x\u2069\u200f",
    "zero width": "\u200b\u2060\ufeff\u00ad",
    "line separators": "\u2028\u2029\u0085",
}
# What no SIP grammar permits, and what XML does not permit either.
CONTROLS = {
    "CSI": "\x1b[2J\x1b[1;1H\x1b[31m",
    "OSC 8": "\x1b]8;;http://evil.example/\x1b\\click\x1b]8;;\x1b\\",
    "OSC 52": "\x1b]52;c;aGFybQ==\x07",
    "DCS": "\x1bP+q544e\x1b\\",
    "BEL, BS, DEL": "\x07\x08\x7f",
    "CR": "\rspoof",
}
SOFT, HARD = "".join(MARKS.values()), "".join(CONTROLS.values())
LONG = "L" * 4_000
COLUMNS = 100
MARKUP = "<img src=x onerror=window.harmed=1></script><script>window.harmed=1</script>"
OURS = re.compile(r"\x1b\[(?:[0-2]|3[1-6])m")
ACTIVE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2064\u2066-\u206f\ufeff]|\udc1b")

# The fields that a command shows.
SHOWN = """m-agent m-attribute m-called m-caller m-callid m-display m-end m-engine m-field m-file m-header m-kind m-level m-location
m-malformed m-nobody m-path m-phrase m-reason m-register m-say m-sound m-status m-stranger m-table m-target m-to m-trace m-trunk
m-unknown m-user m-value m-words""".split()

# The fields that the web console shows with the whole text of the attack.
MARKED = "m-agent m-contact m-display m-engine m-header m-junk m-phrase m-reason m-say m-sdp m-subject m-trace".split()


class Phone:
    """A SIP phone that writes its messages octet by octet."""

    numbers = itertools.count(1)

    def __init__(self, server, host=HOST):
        self.server, self.socket = server, socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((host, 0))
        self.socket.settimeout(15)
        self.at = f"{host}:{self.socket.getsockname()[1]}"

    def send(self, text):
        host, port = self.server.rsplit(":", 1)
        self.socket.sendto(text.encode("utf-8", "surrogateescape"), (host, int(port)))

    def receive(self):
        return self.socket.recvfrom(65_535)[0].decode("utf-8", "surrogateescape")

    def branch(self):
        return f"z9hG4bK{next(self.numbers)}"

    def request(self, method, number, attack, more="", body="", call=None, tag="", sequence=1, branch=None):
        call = call or f"m-callid{next(self.numbers)}"
        lines = [
            f"{method} sip:{number}@{self.server} SIP/2.0", f"Via: SIP/2.0/UDP {self.at};branch={branch or self.branch()}",
            f'From: "m-display{attack}" <sip:m-user%1b%5b2J%c2%9b@{HOST}>;tag=1', f"To: <sip:{number}@{self.server}>{tag}", f"Call-ID: {call}",
            f"CSeq: {sequence} {method}", "Max-Forwards: 70", f'Contact: "m-contact{attack}" <sip:m-user@{self.at}>',
            f"User-Agent: m-agent{attack}", f"Subject: m-subject{attack}", f"X-Custom: m-header{attack}", *filter(None, [more]),
            *(["Content-Type: application/sdp"] if body else []), f"Content-Length: {len(body.encode())}", "", body,
        ]
        self.send("\r\n".join(lines))
        return call

    def call(self, number, attack):
        """Calls. The status of the answer; of an answered call, after the other side or this one has hung up."""
        sdp = f"v=0\r\no=- 1 1 IN IP4 {HOST}\r\ns=m-sdp{attack}\r\nc=IN IP4 {HOST}\r\nt=0 0\r\nm=audio {free_port()} RTP/AVP 0\r\n"
        branch = self.branch()
        call = self.request("INVITE", number, attack, body=sdp, branch=branch)
        while True:
            message = self.receive()
            status = re.match(r"SIP/2.0 (\d+)", message)
            if status and int(status[1]) >= 200 and "1 INVITE" in message:
                tag = re.search(r"^To:.*?(;tag=\S+)", message, re.MULTILINE | re.IGNORECASE)
                # The ACK of a refusal belongs to the transaction of the INVITE.
                self.request("ACK", number, "", call=call, tag=tag[1] if tag else "", branch=None if status[1] == "200" else branch)
                if status[1] != "200":
                    return int(status[1])
                # The other side of /say waits for speech; the reason of the end is ours.
                self.request("BYE", number, attack, f'Reason: SIP ;cause=200 ;text="m-reason{attack}"', call=call, tag=tag[1], sequence=2)
            elif status and "2 BYE" in message:
                return 200

    def register(self, user, password, attack):
        """Registers with a digest. The last status."""
        line = ""
        for sequence in (1, 2):
            self.request("REGISTER", user, attack, "\r\n".join(filter(None, ["Expires: 300", line])), call="m-register", sequence=sequence)
            message = self.receive()
            if challenge := re.search(r'realm="([^"]+)".*?nonce="([^"]+)"', message):
                digest = lambda text: hashlib.md5(text.encode()).hexdigest()  # noqa: E731
                uri, (realm, nonce) = f"sip:{user}@{self.server}", challenge.groups()
                response = digest(f"{digest(f'{user}:{realm}:{password}')}:{nonce}:00000001:m:auth:{digest(f'REGISTER:{uri}')}")
                line = (f'Authorization: Digest username="{user}", realm="{realm}", nonce="{nonce}", uri="{uri}", algorithm=MD5, qop=auth, '
                        f'nc=00000001, cnonce="m", response="{response}"')
        return int(message.split()[1])


class Carrier:
    """The far end of a trunk: refuses each call and each OPTIONS with a reason phrase of its own."""

    def __init__(self):
        self.phone, self.text = Phone("127.0.0.1:9"), ""
        self.at = self.phone.at
        self.thread = threading.Thread(target=self._refuse, daemon=True)
        self.thread.start()

    def _refuse(self):
        self.phone.socket.settimeout(None)
        while True:
            octets, source = self.phone.socket.recvfrom(65_535)
            message = octets.decode("utf-8", "replace")
            if message.startswith("ACK"):
                continue
            same = [line for line in message.split("\r\n") if re.match(r"(Via|From|Call-ID|CSeq):", line, re.IGNORECASE)]
            to = re.search(r"^To:.*$", message, re.MULTILINE | re.IGNORECASE)[0].strip() + ";tag=2"
            answer = [f"SIP/2.0 503 m-phrase{self.text}", *same, to, f"Server: m-server{self.text}", f'Warning: 399 x "m-warning{self.text}"', "Content-Length: 0", "", ""]
            self.phone.socket.sendto("\r\n".join(answer).encode(), source)


def run(*words, terminal=False, **options):
    """A command's output and errors; with `terminal` as it writes them to a terminal, with colours."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TANDEM_")} | {"TERM": "xterm"}
    environment.pop("NO_COLOR", None)
    command = [str(binary()), *words]
    if not terminal:
        return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=90, env=environment, stdin=subprocess.DEVNULL, **options).stdout.decode("utf-8", "surrogateescape")
    parent, child = pty.openpty()
    termios.tcsetwinsize(child, (24, COLUMNS))
    with subprocess.Popen(command, stdout=child, stderr=child, stdin=subprocess.DEVNULL, env=environment, **options) as process:
        os.close(child)
        octets = b""
        while chunk := read(parent):
            octets += chunk
        process.wait(90)
    os.close(parent)
    # The kernel's line discipline writes \r\n.
    return octets.decode("utf-8", "surrogateescape").replace("\r\n", "\n")


def read(descriptor):
    try:
        return os.read(descriptor, 65_536)
    except OSError:  # the other side has been closed
        return b""


NUMBERS = {"700": "/say", "701": "/dial", "702": "/wrong", "703": "/junk", "704": "/broken", "705": "/gone"}


def configuration(pages, engine, carrier):
    """The tables behind the basic settings: an application for each number, a carrier, a phone and speech engines."""
    numbers = [
        table("numbers", number=number, account="acme", provider="twilio", voice_url=pages.url + path, status_callback=f"{pages.url}/status")
        for number, path in NUMBERS.items()
    ]
    trunk = table("trunks", name="carrier", account="acme", uri=f"sip:{carrier.at}", inbound_from=[f"{HOST}/32"], prefixes=["+"], options_interval=1)
    phone = table("endpoints", account="acme", username="desk", password="long enough 123")
    speech = f'\n[speech]\nstt = "{engine.url}/v1/audio/transcriptions"\nstt_key = "{KEY}"\ntts = "{pages.url}/v1/audio/speech"\n'
    return "".join([*numbers, trunk, phone, speech])


def attack(sip, http, soft=SOFT, hard=HARD):
    """Every field of every side, in a few calls."""
    phone, stranger = Phone(sip), Phone(sip, "127.0.0.9")
    for number in NUMBERS:
        phone.call(number, soft)
    phone.call("702", LONG)
    # No grammar permits these: the server must refuse the message, or show it as text.
    refused = Phone(sip)
    refused.request("INVITE", "700", hard)
    assert hard == MARKUP or refused.receive().startswith("SIP/2.0 400 ")
    phone.call("m-unknown%1b%5b2J%c2%9b", soft)
    stranger.call("m-stranger%1b%5b2J", soft)
    Phone(sip, "127.0.0.9").request("REGISTER", "m-nobody", hard)
    for host in (HOST, "127.0.0.9"):
        Phone(sip, host).send(f"m-malformed {soft}{hard}\r\n\r\n")
    assert phone.register("desk", "long enough 123", soft) == 200
    assert Phone(sip).register("desk", "m-password", soft) == 403
    api = f"{http}/2010-04-01/Accounts/{ACCOUNT_SID}"
    for path, fields in [
        ("Calls", {"To": f"m-to{hard}{soft}", "From": f"m-from{hard}{soft}", "Url": "http://127.0.0.1:9/"}),
        ("Calls", {"To": "+15550001", "From": f"m-caller{hard}{soft}", "Twiml": f"<Response><Say>m-inline{escape(soft)}</Say></Response>"}),
        (f"m-path{hard}", {"m-name" + hard: hard}),
        ("Queues", {"FriendlyName": f"m-queue{hard}{soft}"}),
    ]:
        requests.post(f"{api}/{requests.utils.quote(path, safe='')}.json", fields, auth=(ACCOUNT_SID, AUTH_TOKEN), timeout=10)
    requests.get(f"{http}/console/calls", auth=(f"m-login{hard}{soft}".encode(), b"x"), timeout=10)


def answer(pages, carrier, soft, hard):
    """Makes the application and the carrier answer with these texts wherever they can."""
    carrier.text, text = soft, escape(soft)
    documents = {
        "/say": f"<Say>m-say{text}</Say><Gather input='speech' timeout='5' action='/m-action%1b%5b2J%c2%9b'/>",
        "/dial": f"<Dial action='/bye'><Sip>sip:m-target%1b%5b2J@{carrier.at}</Sip></Dial>",
        "/wrong": f"<Say m-attribute='m-value{text}'>x</Say><M-Verb-{soft.translate({0x2028: None}) if '<' not in soft else 'x'}/>",
    }
    for path, document in documents.items():
        pages.on(path, (f"<Response>{document}</Response>", {"Content-Type": "text/xml", "X-Answer": f"m-field\x9b2J\x9d{MARKUP}"}))
    pages.on("/junk", (f"m-junk{soft}{hard}", {"Content-Type": "text/xml"}))
    pages.on("/broken", (f"m-trace{soft}{hard}{LONG}", 500, {"Content-Type": f"text/plain; m-type\x9b2J{MARKUP}"}))
    pages.on("/gone", lambda: ("", 302, {"Location": "http://127.0.0.1:9/m-location%1b%5b2J%c2%9b"}))
    pages.on("/bye", (f"m-end{soft}{hard}", {"Content-Type": "application/x-m-kind"}))
    pages.on("/status", (f"m-status{soft}{hard}", 400, {"Content-Type": "application/json"}))
    pages.on("/v1/audio/speech", (json.dumps({"error": {"message": f"m-engine{soft}{hard}"}}, ensure_ascii=False), 400, {"Content-Type": "application/json"}))


@pytest.fixture(scope="module")
def application(pages):
    """An application, speech engines and a carrier that attack the terminal."""
    engine, carrier = FileEngine(), Carrier()
    engine.words = [f"m-words{SOFT}{HARD}"]
    answer(pages, carrier, SOFT, HARD)
    yield pages, engine, carrier
    engine.stop()


class Output:
    """What the commands have written: {place: text}."""

    def __init__(self):
        self.texts = {}

    def add(self, place, text):
        self.texts[place] = self.texts.get(place, "") + text

    def faults(self):
        for place, text in self.texts.items():
            if "terminal" in place:
                text = OURS.sub("", text)
            for found in ACTIVE.finditer(text):
                yield f"{place}: {found[0]!r} in {text[max(0, found.start() - 60) : found.end() + 20]!r}"

    def words(self):
        """The words of the fields, with the places that show each."""
        found = {}
        for place, text in self.texts.items():
            for word in re.findall(r"m-[a-z]+", text):
                found.setdefault(word, set()).add(place.split(",")[0])
        return found


class Program:
    """`tandem` with words, on ports of its own, until the end of the block. Its output goes to a file."""

    def __init__(self, words, resources, directory, **variables):
        directory.mkdir()
        self.sip, self.http = f"{HOST}:{free_port()}", f"http://{HOST}:{free_port()}"
        sip, http = self.sip.split(":")[-1], self.http.split(":")[-1]
        base = (
            '[webhooks]\nallow_networks = ["127.0.0.0/8"]\n[media]\nports = "14000-19999"\n[[accounts]]\nname = "acme"\n'
            f'twilio = {{ account_sid = "{ACCOUNT_SID}", auth_token = "{AUTH_TOKEN}" }}\n'
        )
        (directory / "tandem.toml").write_text(base + resources)
        self.log = directory / "log"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TANDEM_")}
        environment |= {"TANDEM_DATA_DIR": "data", "TANDEM_HTTP__LISTEN": self.http.removeprefix("http://")} | variables
        environment |= {"TANDEM_SIP__LISTEN": f"udp://{self.sip}"}
        command = [str(binary()), *(word.format(sip=sip, http=http) for word in words), "--config", "tandem.toml"]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, cwd=directory, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def is_ready(self):
        assert self.process.poll() is None, self.log.read_text()
        try:
            return requests.get(f"{self.http}/readyz", timeout=2).status_code == 200
        except requests.ConnectionError:
            return False

    def __enter__(self):
        wait_for("the start", self.is_ready, 30)
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait(20) == 0, self.log.read_text()


def followed(server, *commands):
    """Starts commands that follow, and returns a function that ends them and adds their output."""
    running = [
        (words, subprocess.Popen([str(binary()), *words, *server], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL))
        for words in commands
    ]

    def end(output):
        for words, process in running:
            # A shell starts commands in the background with SIGINT ignored.
            process.terminate()
            output.add(" ".join(words), process.communicate(timeout=20)[0].decode("utf-8", "surrogateescape"))

    return end


@pytest.fixture
def output():
    """Collects what is written. At the end, nothing of it may control a terminal."""
    one = Output()
    yield one
    for word, places in sorted(one.words().items()):
        print(f"{word:14} {', '.join(sorted(places))}")
    assert not list(one.faults())


def test_commands_show_text_from_outside_and_do_not_obey_it(start_tandem, application, output, tmp_path):
    server = start_tandem(configuration(*application))
    here = ("--config", str(server.data / "tandem.toml"))
    end = followed(here, ["calls", "-f"], ["errors", "-f"], ["phones", "-f"], ["trunks", "-f"])
    attack(server.sip, server.http)
    for number, *steps in (["700", "--say", "hello hello", "--expect", "words:m-words within 15 seconds"], ["704", "--json", "--expect", "hangup"]):
        output.add("call", run("call", number, "--server", server.sip, *here, *steps))
    calls = requests.get(f"{server.http}/console/calls?limit=50", auth=(ACCOUNT_SID, AUTH_TOKEN), timeout=10).json()["calls"]
    sessions = list({call["session"] for call in calls})
    assert len(sessions) >= 8
    lists = [["calls", "-n", "50"], ["errors"], ["phones"], ["trunks"], ["numbers"]]
    details = [[name, session, *more] for session in sessions for name, *more in [("show", "--sip"), ("trace",), ("signature",)]]
    words = f"{HARD}{SOFT}".replace("\0", "")
    wrong = [
        ["show", f"m-argument{words}"], ["explain", f"m-called{words}", "--from", f"m-calling{words}"], ["explain", "700", "--trunk", f"m-trunk{words}"],
        ["explain", f"m-called{words}", "--json"], ["trace", "--strangers"], ["doctor"], ["check"], ["calls", f"--m-option{words}"],
    ]
    for one in [*lists, *([*one, "--json"] for one in lists), *details, *(["show", one, "--json"] for one in sessions), *wrong]:
        output.add(one[0], run(*one, *here))
    for one in [*lists, *details[:3], *wrong[:6]]:
        output.add(f"{one[0]}, terminal", run(*one, *here, terminal=True))
    name = words.replace("/", "")
    file = tmp_path / f"m-file{name}.toml"
    file.write_text(f'[log]\nlevel = "m-level{SOFT}\\u001b[2J"\n["m-table\\u001b[2J"]\nx = 1\n')
    for terminal in (False, True):
        output.add("check" + ", terminal" * terminal, run("check", "--config", str(file), terminal=terminal))
    output.add("call", run("call", "700", "--server", server.sip, *here, "--play", f"m-sound{name}.wav"))
    end(output)
    # server.log() would read a carriage return as the end of a line.
    output.add("serve", (server.data / "tandem.log").read_bytes().decode("utf-8", "surrogateescape"))
    lines = output.texts["serve"].strip().split("\n")
    assert all(re.match(r"\d{4}-\d\d-\d\dT", line) for line in lines), "a text from outside looks like a line of the log"
    # Escaped and long texts do not break the rows of a table.
    assert max(map(len, OURS.sub("", output.texts["calls, terminal"]).split("\n"))) <= COLUMNS
    # Each field has reached the terminal, or the test would prove nothing.
    assert set(SHOWN) <= set(output.words()), set(SHOWN) - set(output.words())


def test_the_json_log_and_the_lines_of_dev_do_not_obey_either(application, output, tmp_path):
    pages, *_ = application
    resources = configuration(*application)
    for place, words, variables in [
        ("serve, JSON", ["serve"], {"TANDEM_LOG__FORMAT": "json"}),
        ("dev", ["dev", f"{pages.url}/say", "--sip", "--sip-port", "{sip}", "--http-port", "{http}"], {}),
    ]:
        with Program(words, resources, tmp_path / words[0], **variables) as program:
            attack(program.sip, program.http)
        output.add(place, program.log.read_bytes().decode("utf-8", "surrogateescape"))
    assert all(json.loads(line) for line in output.texts["serve, JSON"].strip().split("\n"))
    assert {"m-reason", "m-unknown"} <= set(output.words())


def test_the_web_console_shows_markup_of_every_field_as_text(start_tandem, application, tmp_path):
    pages, engine, carrier = application
    server = start_tandem(configuration(*application))
    answer(pages, carrier, MARKUP, MARKUP)
    engine.words = [f"m-words{MARKUP}"]
    attack(server.sip, server.http, MARKUP, MARKUP)
    browser = Browser(tmp_path)
    try:
        console = Console(browser.context(microphone=False), server)
        console.open("live").sign_in().heading("Live")
        calls = console.page.evaluate("fetch('calls?limit=50').then((answer) => answer.json())")["calls"]
        fields = set()
        for page in [*PAGES, *(f"calls/{session}" for session in {call["session"] for call in calls})]:
            console.open(page).page.wait_for_selector("h1")
            console.page.wait_for_selector(".loading", state="detached")
            for tab in [None, *console.page.get_by_role("tab").all()]:
                if tab:
                    tab.click()
                for name in (None, "INVITE sip", "BYE sip", "POST .*"):
                    # A message is shown until another one is chosen.
                    for details in console.page.get_by_role("button", name=re.compile(name)).all()[:1] if name else []:
                        details.click()
                    fields.update(re.findall(r"(m-[a-z]+)[^<]{0,20}<img", console.page.locator("body").inner_text()))
        missing = set(MARKED) - fields
        assert not missing
        assert console.page.evaluate("window.harmed") is None and console.faults == []
        assert console.page.locator("img:not([src='icon.svg'])").count() == 0
    finally:
        browser.stop()
