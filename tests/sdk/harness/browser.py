"""Web pages in Chromium that are phones. A page is made of a library and the adapter of the library in tests/sdk/pages."""

import collections
import contextlib
import os
import shutil
import subprocess
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

from playwright.sync_api import Error as PlaywrightError
from playwright.sync_api import sync_playwright

from .phone import HOST
from .waiting import wait_for

SDK = Path(__file__).resolve().parents[1]
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
]
LOOPBACK = "--allow-loopback-in-peer-connection"  # for pages that reach the server at 127.0.0.1
DOMAIN = "phones.example"  # of the users in pages
TOLERANCE = 15  # Hz


def password(user):
    """The password of a user in a page."""
    return f"of-{user}"


def is_tone(heard, hertz):
    """Whether these frequencies are one tone and nothing besides."""
    return len(heard) == 1 and abs(heard[0] - hertz) < TOLERANCE


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


class Browser:
    """A headless Chromium, and a web server of its own for the pages. Each page is another user's browser."""

    def __init__(self, directory, proxy=None, namespace=None, beside=None):
        """With a proxy, the pages reach every host but 127.0.0.1 through it, and trust every certificate. With the name of a network
        namespace, Chromium runs there, and gets the pages without the network. A second browser of a test is `beside` the first one."""
        self._directory, self._namespace = Path(directory), namespace
        # In a namespace, the server has another address. A TURN server does not answer what comes from 127.0.0.1 there.
        flags = FLAGS if namespace else [*FLAGS, LOOPBACK]
        options = {"args": flags} if proxy is None else {"args": [*flags, "--ignore-certificate-errors"], "proxy": {"server": proxy}}
        with contextlib.ExitStack() as begun:
            self._http = ThreadingHTTPServer((HOST, 0), partial(_Quiet, directory=self._directory))
            begun.callback(self._http.server_close)
            Thread(target=self._http.serve_forever, daemon=True).start()
            begun.callback(self._http.shutdown)
            self.origin = f"http://{HOST}:{self._http.server_port}"
            # A thread has one Playwright at most.
            self._playwright = beside._playwright if beside else begun.enter_context(sync_playwright())
            self._chromium = self._playwright.chromium.launch(executable_path=self._program(), **options)
            begun.callback(self._chromium.close)
            self._end = begun.pop_all()

    def _program(self):
        program = shutil.which("chromium")
        if self._namespace is None:
            return program
        inside = self._directory / "chromium"
        inside.write_text(f'#!/bin/sh\nexec ip netns exec {self._namespace} {program} "$@"\n')
        inside.chmod(0o755)
        return inside

    def probe(self):
        """The script that gives a page `window.speak(HERTZ)`, a tone instead of the microphone, and `window.hears()`."""
        script = self._directory / "probe.js"
        if not script.exists():
            bundle(SDK / "pages" / "probe.js", script, "iife")
        return script

    def serve(self, name, script, html=""):
        """Serves a page and returns its URL: the HTML text, and the script in one file with all that it imports."""
        bundle(script, self._directory / f"{name}.js")
        text = f'<!doctype html><meta charset="utf-8"><title>{name}</title>{html}<script type="module" src="{name}.js"></script>'
        (self._directory / f"{name}.html").write_text(text)
        return f"{self.origin}/{name}.html"

    def publish(self, name, text):
        """Serves a text at /NAME."""
        (self._directory / name).write_text(text)

    def context(self, microphone=True):
        """A browser of somebody: without cookies and storage of others."""
        one = self._chromium.new_context(permissions=["microphone"] if microphone else [])
        if self._namespace is not None:
            one.route(f"{self.origin}/*", lambda route: route.fulfill(path=self._directory / Path(route.request.url).name))
        return one

    def stop(self):
        """Ends it."""
        self._end.close()


def bundle(script, to, kind="esm"):
    """Puts a script and all that it imports into one file: an ES module, or kind="iife" for a script that is none."""
    command = ["node_modules/.bin/esbuild", str(script), "--bundle", f"--format={kind}", f"--outfile={to}", "--log-level=error"]
    # The libraries are there, wherever the script is.
    libraries = {"NODE_PATH": str(SDK / "node_modules")}
    subprocess.run(command, cwd=SDK, env=os.environ | libraries, check=True, timeout=60)


class WebPhone:
    """A phone in a page. Its functions are those of `window.phone` in the page, and mean its latest call."""

    def __init__(self, context, url, server, user, hertz, address=None):
        """`user` is the user name. `hertz` is the tone of its microphone. `address` is how other pages name it when they call."""
        self.user, self.hertz, self.address = user, hertz, address
        self._settings = {
            "url": server.http.replace("http", "ws", 1) + "/sip",
            "user": user,
            "password": password(user),
            "domain": DOMAIN,
            "hertz": hertz,
        }
        self._url = url
        self.page = context.new_page()
        self.console = []
        self.page.on("console", lambda message: self.console.append(message.text))
        self.page.on("pageerror", lambda error: self.console.append(f"error: {error}"))
        # The latest frames of the sockets, each with its first characters, for a test that fails.
        self.frames = collections.deque(maxlen=40)
        self.page.on("websocket", self._listen)
        self._unread = []

    def _listen(self, socket):
        socket.on("framesent", lambda text: self.frames.append(f"-> {text[:300]}"))
        socket.on("framereceived", lambda text: self.frames.append(f"<- {text[:300]}"))

    def start(self, **settings):
        """Opens the page and connects."""
        self.page.goto(self._url)
        self._unread.clear()
        self.do("start", self._settings | settings)
        return self

    def register(self, **settings):
        """Opens the page and registers."""
        self.start(**settings).wait("registered")
        return self

    def do(self, function, *arguments):
        """Calls a function of the page's phone."""
        return self.page.evaluate("([name, options]) => window.phone[name](...options)", [function, arguments])

    def wait(self, *events, seconds=10):
        """Waits for one of these events and returns (name, detail). An event is found once."""

        def find():
            self._unread += [tuple(one) for one in self.page.evaluate("window.events.splice(0)")]
            return next((one for one in self._unread if one[0] in events), None)

        try:
            found = wait_for(f"{events} at {self.user}", find, seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}; came: {self._unread}; console: {self.console[-10:]}; frames: {[*self.frames]}") from None
        self._unread.remove(found)
        return found

    def call(self, to):
        """Calls and waits for the answer."""
        self.do("call", to)
        self.wait("answered")

    def answer(self):
        """Takes a call that rings or will ring."""
        self.wait("incoming")
        self.do("answer")
        self.wait("answered")

    def has(self, event):
        """Whether this event has come."""
        self._unread += [tuple(one) for one in self.page.evaluate("window.events.splice(0)")]
        return any(name == event for name, _ in self._unread)

    def hang_up(self):
        """Ends a call."""
        self.do("hangUp")
        self.wait("ended")

    def crash(self):
        """Kills the process of the page, as an operating system does: the browser says nothing to the far end."""
        with contextlib.suppress(PlaywrightError):
            self.page.goto("chrome://crash", timeout=2_000)

    def hears(self, hertz, seconds=10):
        """Waits until it hears this tone, and nothing besides."""
        heard = []

        def is_heard():
            heard[:] = self.do("hears")
            return is_tone(heard, hertz)

        try:
            wait_for(f"{hertz} Hz at {self.user}", is_heard, seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}; it hears {heard} Hz; facts: {self.facts()}") from None

    def hears_nothing(self):
        """Waits until it has heard nothing for 20 looks, some 300 ms."""
        quiet = 0

        def is_quiet():
            nonlocal quiet
            quiet = quiet + 1 if self.do("hears") == [] else 0
            return quiet == 20

        wait_for(f"silence at {self.user}", is_quiet)

    def facts(self):
        """The facts of the call's connection: codecs, DTLS, ICE, packets."""
        return self.do("facts")
