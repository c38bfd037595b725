"""Queues: callers who wait, agents who take them, and the SDK's view of both. What each hears is heard by its phone."""

import threading

import flask
import pytest
from twilio.base.exceptions import TwilioException, TwilioRestException
from twilio.twiml.voice_response import Dial, Enqueue, Gather, VoiceResponse

from harness.phone import caller, pause, until_told
from harness.rtp import share, tone
from harness.waiting import wait_for
from twilio_app import client, number, twiml

MUSIC, SOON, CALLER, AGENT = 350, 700, 1000, 1400  # Hz
CALLS = ["/caller", "/agent"]


@pytest.fixture(scope="module")
def server(start_tandem, module_webapp):
    return start_tandem(number("caller", module_webapp, "/caller") + number("agent", module_webapp, "/agent"))


@pytest.fixture
def rest(server):
    return client(server)


@pytest.fixture
def app(app):
    for hertz in (MUSIC, SOON):
        app.sound(f"/{hertz}.wav", tone(hertz, 1.5))
    return app


def answering(app, path, make):
    """`path` answers with the document that `make` fills."""

    def view():
        response = VoiceResponse()
        make(response)
        text, headers = twiml(response)
        # Whose call it is, as a session's cookie would say.
        cookie = {"Set-Cookie": f"call={flask.request.form['CallSid']}; Path=/"} if path in CALLS else {}
        return text, headers | cookie

    app.on(path, view)


def waits(app, queue, **attributes):
    """Callers wait in this queue and hear MUSIC; afterwards the application is told at /queued and hangs up."""
    attributes = {"wait_url": "/wait", "action": "/queued", **attributes}
    answering(app, "/caller", lambda document: document.enqueue(queue, **attributes))
    answering(app, "/wait", lambda document: document.play(f"/{MUSIC}.wav"))
    answering(app, "/queued", lambda document: document.hangup())


def takes(app, queue, **attributes):
    def agent(document):
        dial = Dial(action="/dialed", timeout=20)
        dial.queue(queue, **attributes)
        document.append(dial)

    answering(app, "/agent", agent)
    answering(app, "/dialed", lambda document: document.hangup())


def the_queue(rest, name):
    (queue,) = [queue for queue in rest.queues.list() if queue.friendly_name == name]
    return queue


def members(rest, name):
    return wait_for("members", lambda: rest.queues(the_queue(rest, name).sid).members.list())


def calls(phone, rtp, server, who="caller", ends="wait", steps=""):
    """A phone that calls, and what it hears and says."""
    media = rtp()
    return phone(caller(who, steps, ends=ends), target=server.sip, media=media), media


def test_an_agent_takes_the_first_caller_and_only_this_caller_hears_the_whisper(server, app, rest, phone, rtp):
    waits(app, "support")
    takes(app, "support", url="/whisper")
    answering(app, "/whisper", lambda document: document.play(f"/{SOON}.wav"))

    first_phone, first = calls(phone, rtp, server)
    first.wait_for_tone(MUSIC)
    (wait,) = app.to("/wait")
    sid = the_queue(rest, "support").sid
    assert wait["QueueSid"] == sid and wait["QueuePosition"] == "1" and wait["CurrentQueueSize"] == "1"
    assert wait["QueueTime"] == "0" and wait["AvgQueueTime"] == "0" and wait["MaxQueueSize"] == "1000"
    assert wait["CallStatus"] == "in-progress"

    second_phone, second = calls(phone, rtp, server)
    second.wait_for_tone(MUSIC)
    (voice, other) = app.to("/caller")
    queue = rest.queues(sid).fetch()
    assert (queue.current_size, queue.max_size) == (2, 1000) and queue.average_wait_time >= 0
    both = members(rest, "support")
    assert [(one.call_sid, one.position) for one in both] == [(voice["CallSid"], 1), (other["CallSid"], 2)]
    assert both[0].queue_sid == sid and both[0].wait_time >= both[1].wait_time
    assert rest.queues(sid).members("Front").fetch().call_sid == voice["CallSid"]
    assert rest.queues(sid).members(other["CallSid"]).fetch().position == 2
    with pytest.raises(TwilioRestException) as refused:
        rest.queues(sid).delete()
    assert refused.value.status == 400

    agent_phone, agent = calls(phone, rtp, server, "agent", ends="bye", steps=until_told())
    first.wait_for_tone(SOON)
    (whisper,) = app.wait("/whisper")
    agent_call = app.to("/agent")[0]["CallSid"]
    assert whisper["CallSid"] == voice["CallSid"] and whisper["QueueSid"] == sid
    assert whisper["DequeingCallSid"] == agent_call and int(whisper["QueueTime"]) >= 0
    # The other one has moved up meanwhile, and hears the music.
    (left,) = members(rest, "support")
    assert (left.call_sid, left.position) == (other["CallSid"], 1)

    # Joined: each hears the other.
    for speaker, hertz, listener in [(first, CALLER, agent), (agent, AGENT, first)]:
        saying = threading.Thread(target=speaker.play, args=(tone(hertz, 3),))
        saying.start()
        listener.wait_for_tone(hertz)
        saying.join()
    # What was for the caller only, it alone has heard.
    whole = agent.heard()
    assert not any(share(whole[at : at + 800], SOON) > 0.5 for at in range(0, len(whole) - 800, 400))
    assert not app.to("/queued")
    agent_phone.hang_up()
    first_phone.finish()
    (queued,) = app.wait("/queued")
    assert queued["QueueResult"] == "bridged" and queued["QueueSid"] == sid and queued["CallSid"] == voice["CallSid"]
    assert int(queued["QueueTime"]) <= 20
    (dialed,) = app.wait("/dialed")
    assert dialed["DialCallStatus"] == "completed" and dialed["DialBridged"] == "true"
    assert dialed["DialCallSid"] == voice["CallSid"] and dialed["CallSid"] == agent_call
    for request in (queued, dialed, whisper, wait):
        assert request.headers["cookie"] == f"call={request['CallSid']}", "two calls became one, and keep their cookies"

    # The SDK takes the next one out.
    answering(app, "/elsewhere", lambda document: document.play(f"/{SOON}.wav"))
    taken = rest.queues(sid).members("Front").update(url=f"{app.url}/elsewhere", method="GET")
    assert (taken.call_sid, taken.position) == (other["CallSid"], 1)
    second.wait_for_tone(SOON)
    second_phone.finish()
    (elsewhere,) = app.to("/elsewhere")
    assert elsewhere.method == "GET" and elsewhere["CallSid"] == other["CallSid"]
    (_, queued) = app.wait("/queued", 2)
    assert queued["QueueResult"] == "redirected" and queued["CallSid"] == other["CallSid"]
    with pytest.raises(TwilioRestException) as refused:
        rest.queues(sid).members("Front").update(url=f"{app.url}/elsewhere")
    assert (refused.value.status, refused.value.code) == (404, 20404)
    rest.queues(sid).delete()


def test_an_agent_waits_for_the_first_caller(server, app, rest, phone, rtp):
    waits(app, "sales")
    takes(app, "sales")
    agent_phone, _ = calls(phone, rtp, server, "agent", ends="wait")
    app.wait("/agent")
    caller_phone, heard = calls(phone, rtp, server, ends="bye", steps=pause(1500))
    caller_phone.finish()
    agent_phone.finish()
    (dialed,) = app.wait("/dialed")
    assert dialed["DialCallStatus"] == "completed" and 1 <= int(dialed["DialCallDuration"]) <= 3
    (queued,) = app.wait("/queued")
    assert queued["QueueResult"] == "bridged" and queued["QueueTime"] == "0"
    assert queued["CallStatus"] == "completed"
    assert the_queue(rest, "sales").current_size == 0


def test_a_dial_to_an_empty_queue_ends_after_its_timeout(server, app, phone, rtp):
    takes(app, "nobody")
    answering(app, "/agent", lambda document: document.append(_taking("nobody")))
    agent_phone, heard = calls(phone, rtp, server, "agent", ends="wait")
    agent_phone.finish()
    (dialed,) = app.wait("/dialed")
    assert dialed["DialCallStatus"] == "no-answer" and dialed["DialBridged"] == "false"
    assert "DialCallSid" not in dialed.form


def test_concurrent_agents_take_each_caller_once(server, app, rest, phone, rtp):
    """Eight callers who hang up when they like, three agents who take one after the other, two requests for the first."""
    waits(app, "rush")
    answering(app, "/agent", lambda document: document.append(_taking("rush")))
    answering(app, "/front", lambda document: document.pause(length=20))

    def again():
        nobody = flask.request.form["DialCallStatus"] == "no-answer"
        return twiml("<Response><Hangup/></Response>" if nobody else "<Response><Redirect>/agent</Redirect></Response>")

    app.on("/dialed", again)
    callers = [calls(phone, rtp, server, ends="bye", steps=pause(1500 + 450 * place))[0] for place in range(8)]
    app.wait("/wait", 8)
    sid = the_queue(rest, "rush").sid
    fronts = []

    def front():
        fronts.append(client(server).queues(sid).members("Front").update(url=f"{app.url}/front").call_sid)

    pulling = [threading.Thread(target=front) for _ in range(2)]
    [thread.start() for thread in pulling]
    agents = [calls(phone, rtp, server, "agent")[0] for _ in range(3)]
    [thread.join() for thread in pulling]
    assert len(set(fronts)) == 2
    for one in callers + agents:
        one.finish()

    outcomes = {one["CallSid"]: one["QueueResult"] for one in app.wait("/queued", 8)}
    assert len(app.to("/queued")) == len(outcomes) == 8, "each is told of once"
    assert all(outcomes[call] == "redirected" for call in fronts)
    taken = [one["DialCallSid"] for one in app.to("/dialed") if one["DialBridged"] == "true"]
    assert sorted(taken) == sorted(call for call, result in outcomes.items() if result == "bridged")
    assert len(taken) >= 3 and set(outcomes.values()) <= {"bridged", "redirected", "hangup"}
    assert the_queue(rest, "rush").current_size == 0


def _taking(name):
    dial = Dial(action="/dialed", timeout=2)
    dial.queue(name)
    return dial


def test_a_queued_caller_hears_default_music_and_its_hangup_is_reported(server, app, rest, phone, rtp):
    answering(app, "/caller", lambda document: document.enqueue("default", action="/queued"))
    answering(app, "/queued", lambda document: document.say("Nobody is here any more."))
    caller_phone, heard = calls(phone, rtp, server, ends="bye", steps=until_told())
    heard.wait_for_sound()
    assert len(members(rest, "default")) == 1
    caller_phone.hang_up()
    (queued,) = app.wait("/queued")
    assert queued["QueueResult"] == "hangup" and queued["CallStatus"] == "completed"
    assert the_queue(rest, "default").current_size == 0


def test_a_digit_leaves_the_queue_and_the_document_continues(server, app, phone, rtp):
    def voice(document):
        document.enqueue("leaving", wait_url="/wait", wait_url_method="GET")
        document.play(f"/{SOON}.wav")

    def wait(document):
        gather = Gather(num_digits=1, action="/pressed", timeout=1)
        gather.play(f"/{MUSIC}.wav")
        document.append(gather)

    answering(app, "/caller", voice)
    answering(app, "/wait", wait)
    answering(app, "/pressed", lambda document: document.leave())
    caller_phone, media = calls(phone, rtp, server)
    # More than once round.
    app.wait("/wait", 2)
    media.wait_for_tone(MUSIC)
    media.press("1")
    media.wait_for_tone(SOON)
    caller_phone.finish()
    (pressed,) = app.to("/pressed")
    assert pressed["Digits"] == "1" and pressed["QueuePosition"] == "1" and int(pressed["QueueTime"]) >= 2
    assert {one.method for one in app.to("/wait")} == {"GET"}


def test_a_full_queue_is_reported_and_the_sdk_creates_and_updates_queues(server, app, rest, phone, rtp):
    queue = rest.queues.create(friendly_name="small", max_size=1)
    assert (queue.friendly_name, queue.max_size, queue.current_size, queue.average_wait_time) == ("small", 1, 0, 0)
    assert queue.sid.startswith("QU") and queue.date_created and queue.account_sid == server.account_sid
    for taken, code in [({"friendly_name": "small"}, 22003), ({"friendly_name": "x" * 65}, 22001)]:
        with pytest.raises(TwilioRestException) as refused:
            rest.queues.create(**taken)
        assert (refused.value.status, refused.value.code) == (400, code)
    with pytest.raises(TwilioRestException) as refused:
        rest.queues(queue.sid).update(max_size=5001)
    assert refused.value.code == 22002

    waits(app, "small")
    first_phone, first = calls(phone, rtp, server, ends="bye", steps=until_told())
    first.wait_for_tone(MUSIC)
    second_phone, _ = calls(phone, rtp, server)
    second_phone.finish()
    (full,) = app.wait("/queued")
    assert full["QueueResult"] == "queue-full" and "QueueSid" not in full.form and "QueueTime" not in full.form
    notified = wait_for("a notification", rest.calls(full["CallSid"]).notifications.list)
    assert [one.error_code for one in notified] == ["14207"]

    changed = rest.queues(queue.sid).update(friendly_name="larger", max_size=2)
    assert (changed.friendly_name, changed.max_size, changed.current_size) == ("larger", 2, 1)
    first_phone.hang_up()
    app.wait("/queued", 2)
    assert rest.queues(queue.sid).delete()
    with pytest.raises(TwilioRestException) as refused:
        rest.queues(queue.sid).fetch()
    assert refused.value.status == 404


def test_the_list_of_queues_is_paged(server, rest):
    made = [rest.queues.create(friendly_name=f"page {number}").sid for number in range(5)]
    names = [queue.sid for queue in rest.queues.list(page_size=2)]
    assert [sid for sid in names if sid in made] == made[::-1] and len(set(names)) == len(names)
    for sid in made:
        rest.queues(sid).delete()


def test_workflows_and_unknown_queues_are_refused(server, app, rest, phone, rtp):
    def voice(document):
        enqueue = Enqueue(workflow_sid="WW00000000000000000000000000000001")
        enqueue.task("{}")
        document.append(enqueue)
        document.redirect("/after")

    answering(app, "/caller", voice)
    answering(app, "/after", lambda document: document.hangup())
    caller_phone, _ = calls(phone, rtp, server)
    caller_phone.finish()
    assert app.to("/after")
    with pytest.raises(TwilioException, match="20404"):
        rest.queues("QU00000000000000000000000000000001").members.list()
