"""One scenario in five spellings: TwiML, cXML, TeXML, SWML and Call Control. It answers, gathers a key, records, connects the caller
with somebody and hangs up. The SIP messages, the audio and the records must be the same, whoever spells it."""

import json
import re
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from harness.audio import RATE, read_wav
from harness.party import Party
from harness.phone import callee, caller, until_told
from harness.rtp import share, tone
from harness.server import API_KEY
from harness.signalwire import ACCOUNT, PROJECT, TOKEN
from harness.telnyx_app import TelnyxApp
from harness.waiting import wait_for

PROMPT, CALLER, AGENT = 440, 700, 1000
NUMBERS = {name: f"+1555123000{digit}" for digit, name in enumerate(["twiml", "cxml", "texml", "swml", "call control"], 1)}
XML = {"Content-Type": "text/xml"}
CONNECTION, TEXML = "1000000000000000001", "2000000000000000001"


@pytest.fixture(scope="module")
def server(start_tandem, module_webapp):
    url = module_webapp.url
    telnyx_app = TelnyxApp(module_webapp)
    server = start_tandem(f"""
{ACCOUNT}
[[applications]]
id = "{CONNECTION}"
account = "acme"
provider = "telnyx"
webhook_url = "{telnyx_app.url}"

[[applications]]
id = "{TEXML}"
account = "acme"
provider = "texml"
webhook_url = "{url}/texml"
""" + "".join(
        f'[[numbers]]\nnumber = "{NUMBERS[name]}"\naccount = "{account}"\n{where}\n'
        for name, account, where in [
            ("twiml", "acme", f'voice_url = "{url}/twiml"'),
            ("cxml", "space", f'voice_url = "{url}/cxml"'),
            ("texml", "acme", f'application = "{TEXML}"'),
            ("swml", "space", f'provider = "swml"\nvoice_url = "{url}/swml"'),
            ("call control", "acme", f'application = "{CONNECTION}"'),
        ]
    ))
    server.telnyx_app = telnyx_app
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("TELNYX_BASE_URL", server.http + "/v2")
        environment.setenv("TELNYX_API_KEY", API_KEY)
        environment.setenv("TELNYX_PUBLIC_KEY", server.telnyx_public_key())
        telnyx_app.connect()
    return server


# ----- the spellings: each has the caller served, and gives the key that was pressed ----------------------------------------


def markup(name):
    """TwiML and its two relatives have the same words for all of it."""

    def spell(app, prompt, agent):
        gathers = f"<Response><Gather numDigits='1' timeout='10' action='/{name}/key'><Play>{prompt}</Play></Gather></Response>"
        connects = f"""<Response><Start><Recording channels='dual'/></Start>
            <Dial><Sip>{agent}</Sip></Dial><Hangup/></Response>"""
        app.on(f"/{name}", (gathers, 200, XML))
        app.on(f"/{name}/key", (connects, 200, XML))
        return lambda: app.wait(f"/{name}/key")[0]["Digits"]

    return spell


def swml(app, prompt, agent):
    steps = [
        {"prompt": {"play": prompt, "max_digits": 1, "initial_timeout": 10}},
        {"request": {"url": app.url + "/swml/key?key=${prompt_value}", "method": "GET"}},
        {"record_call": {"stereo": True, "format": "wav"}},
        {"connect": {"to": agent}},
        {"hangup": {}},
    ]
    app.on("/swml", (json.dumps({"version": "1.0.0", "sections": {"main": steps}}), 200))
    app.on("/swml/key")
    return lambda: app.wait("/swml/key")[0]["key"]


def call_control(app, prompt, agent, telnyx):
    def serve():
        leg = telnyx.wait("call.initiated", direction="incoming")["call_control_id"]
        telnyx.actions.answer(leg)
        telnyx.wait("call.answered", leg)
        telnyx.actions.gather_using_audio(leg, audio_url=prompt, maximum_digits=1)
        gathered = telnyx.wait("call.gather.ended", leg)
        telnyx.actions.start_recording(leg, channels="dual", format="wav")
        telnyx.actions.transfer(leg, to=agent, from_=gathered["from"])
        return gathered["digits"]

    return serve


# ----- what came of it ---------------------------------------------------------------------------------------------------


def console(server, name, path):
    own = (PROJECT, TOKEN) if name in ("cxml", "swml") else (server.account_sid, server.auth_token)
    return requests.get(f"{server.http}/console/{path}", auth=own, timeout=10).json()


def sip(trace):
    """The messages of each leg: way, start, transaction, header fields and codecs. Addresses and ids are each call's own."""
    legs = [[] for _ in trace["parties"]]
    for one in trace["messages"]:
        if one["again"]:
            continue
        head, _, body = one["message"].replace("\r", "").partition("\n\n")
        start, *fields = head.split("\n")
        names = sorted({field.partition(":")[0] for field in fields if not field[0].isspace()})
        cseq = re.search(r"(?m)^CSeq: \d+ (\w+)", head)[1]
        codecs = re.findall(r"(?m)^m=audio \d+ (.*)$", body)
        legs[one["party"]].append((one["direction"], re.sub(r"sips?:\S+", "URI", start), cseq, names, codecs))
    return legs


def records(server, name, story):
    """What is kept of the calls and the recording, but for ids, times and the words for who hung up by what."""
    calls = [
        {key: call[key] for key in ("name", "direction", "from", "status", "codec", "live")}
        | {"answered": bool(call["answered_at"]), "end": (call["end"]["by"], call["end"]["sip_status"], call["end"]["cause"])}
        for call in story["calls"]
    ]
    (recording,) = story["recordings"]
    caller, agent = (call["seconds"] for call in story["calls"])
    assert agent - 1 <= recording["seconds"] <= caller + 1, "the recording is of the conversation"
    return calls, {key: recording[key] for key in ("call", "status", "channels")}


def is_heard(hertz, samples):
    """Whether somewhere a tenth of a second is this tone."""
    return any(share(samples[at : at + RATE // 10], hertz) > 0.9 for at in range(0, len(samples) - RATE // 10, RATE // 10))


SPELLINGS = {"twiml": markup("twiml"), "cxml": markup("cxml"), "texml": markup("texml"), "swml": swml, "call control": call_control}


def lived(name, server, app, phone, rtp):
    """The scenario in one spelling: what phones, applications and the console saw of it."""
    app.sound("/prompt.wav", tone(PROMPT, 8))
    agent = Party(phone, rtp, callee(until_told(), ends="bye"))
    more = [server.telnyx_app] if name == "call control" else []
    key = SPELLINGS[name](app, app.url + "/prompt.wav", agent.uri, *more)
    one = Party(phone, rtp, caller(NUMBERS[name], ends="wait"), target=server.sip)
    with ThreadPoolExecutor(1) as beside:
        pressed = beside.submit(key)
        one.hears(PROMPT)
        one.rtp.press("7")
        assert pressed.result(20) == "7"
    with one.sounds(CALLER), agent.sounds(AGENT):
        one.hears(AGENT)
        agent.hears(CALLER)
    agent.hang_up()
    one.phone.finish()

    def over():
        """The newest call of this number, once all of it is written down."""
        found = console(server, name, "calls?limit=10")["calls"]
        found = [call for call in found if call["to"] == NUMBERS[name] and not call["live"]]
        story = console(server, name, f"calls/{found[0]['id']}") if found else {}
        whole = story and not any(call["live"] for call in story["calls"])
        return story if whole and [it["status"] for it in story["recordings"]] == ["completed"] else None

    story = wait_for("the call's records", over)
    samples, rate = read_wav(story["recordings"][0]["path"])
    assert rate == RATE and samples.shape[1] == 2
    heard = [[is_heard(hertz, samples[:, channel]) for hertz in (CALLER, AGENT)] for channel in (0, 1)]
    assert heard == [[True, False], [False, True]], f"{name}: each side is on a channel of its own: {heard}"
    trace = console(server, name, f"calls/{story['calls'][0]['id']}/trace")
    return sip(trace), records(server, name, story)


def test_one_scenario_has_the_same_sip_audio_and_records_in_five_spellings(server, module_webapp, phone, rtp):
    seen = {name: lived(name, server, module_webapp, phone, rtp) for name in SPELLINGS}
    messages, kept = seen["twiml"]
    assert len(messages) == 2 and [call["status"] for call in kept[0]] == ["completed", "completed"]
    for name, (own_messages, own_kept) in seen.items():
        assert own_kept == kept, name
        for leg, own_leg in zip(messages, own_messages, strict=True):
            assert own_leg == leg, name
