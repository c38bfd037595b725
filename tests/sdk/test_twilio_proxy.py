"""The SDKs as they are, sent here by `tandem proxy`: nothing in an application is changed, only its environment."""

import os
import shutil
import ssl
import subprocess
import urllib.request
from pathlib import Path
from urllib.error import HTTPError, URLError

import pytest
import requests
from twilio.base.exceptions import TwilioRestException
from twilio.rest import Client

from harness.audio import speech, write_capture
from harness.phone import callee, play
from harness.proxy import Proxy
from harness.skips import OPTIONAL
from harness.waiting import wait_for
from twilio_app import ended

HERE = Path(__file__).parent
FROM = "+15550001111"
HANGUP = "<Response><Hangup/></Response>"
MEET = "<Response><Dial><Conference beep='false'>meeting</Conference></Dial></Response>"


@pytest.fixture(scope="module")
def proxy(server):
    one = Proxy(server)
    yield one
    one.stop()


def test_the_unmodified_twilio_python_sdk_works(server, proxy, phone, tmp_path, monkeypatch):
    pcap = tmp_path / "spoken.pcap"
    write_capture(pcap, speech(1.0))
    spoken, many = phone(callee(play(pcap))), phone(callee(), calls=3)
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(proxy.bundle))
    client = Client(server.account_sid, server.auth_token)

    assert client.api.accounts(server.account_sid).fetch().status == "active"
    record = "<Response><Record timeout='1' maxLength='2' playBeep='false'/><Hangup/></Response>"
    call = client.calls.create(to=spoken.uri, from_=FROM, twiml=record)
    assert ended(client, call.sid).status == "completed"
    spoken.finish()
    (recording,) = client.calls(call.sid).recordings.list()
    done = lambda: client.recordings(recording.sid).fetch().status == "completed"
    wait_for("the recording", done)
    media = f"https://api.twilio.com/2010-04-01/Accounts/{server.account_sid}/Recordings/{recording.sid}"
    audio = requests.get(media + ".mp3", auth=(client.username, client.password), timeout=10)
    assert audio.status_code == 200 and audio.headers["content-type"] == "audio/mpeg"

    made = [client.calls.create(to=many.uri, from_=FROM, twiml=HANGUP).sid for _ in range(3)]
    for sid in made:
        ended(client, sid)
    many.finish()
    assert [one.sid for one in client.calls.list(to=many.uri, page_size=2)] == made[::-1]
    page = client.calls.page(to=many.uri, page_size=2)
    assert [one.sid for one in page.next_page()] == made[:1]
    with pytest.raises(TwilioRestException) as refused:
        client.calls("CA" + "0" * 32).fetch()
    assert (refused.value.status, refused.value.code) == (404, 20404)
    assert client.recordings(recording.sid).delete()

    waits, first, second = phone(callee()), phone(callee()), phone(callee())
    queue = client.queues.create(friendly_name="support")
    waiting = client.calls.create(to=waits.uri, from_=FROM, twiml="<Response><Enqueue>support</Enqueue></Response>")
    (member,) = wait_for("who waits", client.queues(queue.sid).members.list)
    assert member.call_sid == waiting.sid and client.queues(queue.sid).fetch().current_size == 1
    waiting.update(status="completed")
    waits.finish()
    wait_for("the queue to be empty", lambda: client.queues(queue.sid).fetch().current_size == 0)
    assert client.queues(queue.sid).delete()

    client.calls.create(to=first.uri, from_=FROM, twiml=MEET)
    (room,) = wait_for("the conference", lambda: client.conferences.list(friendly_name="meeting"))
    participants = client.conferences(room.sid).participants
    participants.create(from_=FROM, to=second.uri, label="two")
    wait_for("both", lambda: [one.status for one in participants.list()] == ["connected"] * 2)
    assert participants("two").update(muted=True).muted
    assert client.conferences(room.sid).update(status="completed").status == "completed"
    first.finish()
    second.finish()


def test_the_unmodified_twilio_node_sdk_works(server, proxy, phone):
    many, waits, first, second = phone(callee(), calls=3), phone(callee()), phone(callee()), phone(callee())
    assert (HERE / "node_modules" / "twilio").is_dir(), "run npm ci --prefix tests/sdk"
    environment = {
        "HTTP_PROXY": proxy.url,
        "NODE_EXTRA_CA_CERTS": str(proxy.ca),
        "TWILIO_ACCOUNT_SID": server.account_sid,
        "TWILIO_AUTH_TOKEN": server.auth_token,
        "PHONE": many.uri,
        "WAITS": waits.uri,
        "FIRST": first.uri,
        "SECOND": second.uri,
    }
    command = ["node", "twilio_as_it_is.mjs"]
    done = subprocess.run(command, cwd=HERE, env=os.environ | environment, capture_output=True, text=True, timeout=60)
    print(done.stdout, done.stderr)
    assert done.returncode == 0
    many.finish()


def command_in(language, proxy, folder):
    """The command line of a program in languages/, and what its environment needs besides."""
    https, trusted = {"HTTPS_PROXY": proxy.url}, {"SSL_CERT_FILE": str(proxy.bundle)}
    place = HERE / "languages"
    match language:
        case "php":
            return ["php", "-d", f"curl.cainfo={proxy.bundle}", str(place / "calls.php")], https
        case "ruby":
            return ["ruby", str(place / "calls.rb")], https | trusted
        case "go":
            return ["go", "run", str(place / "calls.go")], https | trusted
        case "java":
            store, (host, port) = folder / "tandem.p12", proxy.url.removeprefix("http://").split(":")
            make = ["keytool", "-importcert", "-noprompt", "-alias", "tandem", "-storepass", "changeit", "-keystore", str(store)]
            subprocess.run([*make, "-file", str(proxy.ca)], check=True, capture_output=True)
            properties = {"https.proxyHost": host, "https.proxyPort": port, "javax.net.ssl.trustStore": store}
            properties["javax.net.ssl.trustStorePassword"] = "changeit"
            given = [f"-D{name}={value}" for name, value in properties.items()]
            return ["java", *given, str(place / "Calls.java")], {}


def test_one_line_replaces_the_proxy(server):
    client = Client(server.account_sid, server.auth_token)
    client.api.base_url = server.http
    assert [one.sid for one in client.api.accounts.list()] == [server.account_sid]
    script = """
        import twilio from "twilio";
        const client = twilio();
        client.api.baseUrl = process.env.TANDEM;
        const all = await client.api.accounts.list();
        if (all.length !== 1 || all[0].sid !== process.env.TWILIO_ACCOUNT_SID) process.exit(1);
    """
    environment = {"TANDEM": server.http, "TWILIO_ACCOUNT_SID": server.account_sid, "TWILIO_AUTH_TOKEN": server.auth_token}
    command = ["node", "--input-type=module", "-e", script]
    done = subprocess.run(command, cwd=HERE, env=os.environ | environment, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr


def is_here(language):
    """Whether the language is on this machine, and what its SDK is made on."""
    if language == "ruby":
        return bool(shutil.which("ruby")) and subprocess.run(["ruby", "-rfaraday", "-e", ""], capture_output=True).returncode == 0
    return bool(shutil.which({"java": "javac"}.get(language, language)))


@pytest.mark.parametrize("language", ["php", "ruby", "go", "java"])
def test_http_clients_of_other_languages_work_through_the_proxy(language, server, proxy, phone, tmp_path):
    # The packages for the tests include PHP, but not the other languages.
    if language != "php" and not is_here(language):
        pytest.skip(f"{OPTIONAL}{language} is not installed")
    many = phone(callee(), calls=3)
    command, environment = command_in(language, proxy, tmp_path)
    environment |= {"TWILIO_ACCOUNT_SID": server.account_sid, "TWILIO_AUTH_TOKEN": server.auth_token, "PHONE": many.uri}
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, timeout=90)
    print(done.stdout, done.stderr)
    assert done.returncode == 0
    many.finish()
    calls = requests.get(
        f"{server.http}/2010-04-01/Accounts/{server.account_sid}/Calls.json",
        {"To": many.uri},
        auth=(server.account_sid, server.auth_token),
        timeout=10,
    ).json()["calls"]
    assert done.stdout.split() == [call["sid"] for call in calls] and len(calls) == 3


def test_the_proxy_passes_through_loopback_hosts_and_refuses_others_with_no_pass_through(server, proxy, webapp):
    def through(one, url):
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({"http": one.url, "https": one.url}))
        return opener.open(url, timeout=10)

    webapp.on("/page", ("a page", 200))
    assert through(proxy, f"{webapp.url}/page").read() == b"a page"
    closed_one = Proxy(server, "--no-pass-through")
    try:
        with pytest.raises(URLError, match="403 tandem proxy is for .*example.com:443 needs --pass-through"):
            through(closed_one, "https://example.com/")
        with pytest.raises(HTTPError, match="403"):
            through(closed_one, f"{webapp.url}/page")
        # The server's own URLs are no strangers.
        assert through(closed_one, f"{server.http}/healthz").read() == b"alive\n"
    finally:
        closed_one.stop()


def test_the_strictest_checks_of_a_certificate_pass(proxy):
    strict = ssl.create_default_context(cafile=proxy.bundle)
    strict.verify_flags |= ssl.VERIFY_X509_STRICT
    https = urllib.request.HTTPSHandler(context=strict)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({"https": proxy.url}), https)
    for host in ("api.twilio.com", "api.dublin.ie1.twilio.com", "api.telnyx.com"):
        assert opener.open(f"https://{host}/healthz", timeout=10).read() == b"alive\n"


def test_a_client_without_the_ca_certificate_causes_advice_in_the_log(proxy):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({"https": proxy.url}))
    with pytest.raises(URLError, match="CERTIFICATE_VERIFY_FAILED"):
        opener.open("https://voice.twilio.com/", timeout=10)
    wait_for("the proxy's word", lambda: "does not accept the certificate for voice.twilio.com" in proxy.log())
