"""Conferences, seen from their phones, from the web application and through the SDK: who hears whom, what is told, what is
recorded, and what is left of them."""


import pytest
import requests
from twilio.base.exceptions import TwilioRestException
from twilio.twiml.voice_response import Dial, VoiceResponse

from harness.audio import read_wav, speech
from harness.party import Party
from harness.phone import callee, caller
from harness.rtp import is_tone, tone
from harness.waiting import wait_for
from twilio_app import answering, number, twiml

FROM = "+15550001111"
ALL = "start end join leave mute hold modify speaker announcement"


@pytest.fixture(scope="module")
def server(start_tandem, module_webapp):
    return start_tandem(number("6*", module_webapp, "/voice"))


@pytest.fixture
def app(app):
    """Its /N.wav is a tone of N Hz."""
    app.on("/conference")
    for hertz in (300, 350, 400, 700):
        app.sound(f"/{hertz}.wav", tone(hertz, 6.0 if hertz == 400 else 2.0))
    for path, hertz in (("/hold", 300), ("/wait", 350), ("/announce", 700)):
        answering(app, path, lambda document, hertz=hertz: document.play(f"/{hertz}.wav"))
    app.on("/after", twiml("<Response><Hangup/></Response>"))
    return app


@pytest.fixture
def joins(server, app, phone, rtp):
    """A phone calls in, and is sent into the conference with these attributes: joins("601", name="standup", label="agent")."""
    rooms = {}

    def voice():
        asked = app.to("/voice")[-1]
        response = VoiceResponse()
        dial = Dial(action="/after")
        attributes = dict(rooms[asked["To"]])
        dial.conference(attributes.pop("name"), **attributes)
        response.append(dial)
        return twiml(response)

    app.on("/voice", voice)

    def start(to, name="standup", ends="wait", **attributes):
        usual = {"wait_url": "", "beep": False, "status_callback": "/conference", "status_callback_event": ALL}
        rooms[to] = {"name": name, **usual, **attributes}
        return Party(phone, rtp, caller(to, ends=ends), target=server.sip)

    return start


def told(app, but=("participant-speech-start", "participant-speech-stop")):
    """What was told of conferences, in order."""
    return [event for event in app.to("/conference") if event["StatusCallbackEvent"] not in but]


def waits(app, event, count=1, **fields):
    """The first event of this name with these fields, once there are `count`."""
    fits = lambda one: one["StatusCallbackEvent"] == event and all(one.get(k) == v for k, v in fields.items())
    return app.wait("/conference", count, where=fits)[count - 1]


def test_participants_are_muted_held_coached_announced_to_and_removed_with_events_in_order(
    twilio, app, joins
):
    agent = joins("601", participant_label="agent", end_conference_on_exit=True)
    sid = waits(app, "participant-join", ParticipantLabel="agent")["ConferenceSid"]
    # Who is alone in it can be found there, though it is yet to begin.
    assert twilio.conferences(sid).fetch().status == "in-progress"
    assert sid in [one.sid for one in twilio.conferences.list(status="in-progress")]
    customer = joins("602", participant_label="customer")
    waits(app, "conference-start")
    third = joins("603")
    waits(app, "participant-join", 3)
    conference = twilio.conferences(sid).fetch()
    assert (conference.status, conference.friendly_name, conference.reason_conference_ended) == (
        "in-progress",
        "standup",
        None,
    )
    there = twilio.conferences(sid).participants.list()
    assert [one.label for one in there] == [None, "customer", "agent"] and {one.status for one in there} == {"connected"}
    assert [one.call_sid for one in twilio.conferences(sid).participants.list(page_size=1)] == [
        one.call_sid for one in there
    ]
    third_sid = there[0].call_sid
    customer_of = twilio.conferences("standup").participants("customer")

    # Who hears whom.
    with agent.sounds(440):
        customer.hears(440), third.hears(440)
        agent.hears_nothing()

    # Muted: heard by nobody.
    muted = customer_of.update(muted=True)
    assert muted.muted and [one.label for one in twilio.conferences(sid).participants.list(muted=True)] == ["customer"]
    with customer.sounds(500):
        agent.hears_nothing(), third.hears_nothing()
        customer_of.update(muted=False)
        agent.hears(500), third.hears(500)

    # Held: hears the document of HoldUrl instead, by GET, and is not heard.
    assert customer_of.update(hold=True, hold_url=f"{app.url}/hold").hold
    with agent.sounds(440), customer.sounds(500):
        customer.hears(300), third.hears(440)
    (held,) = app.wait("/hold")[:1]
    assert (held.method, held["ConferenceSid"], held["FriendlyName"]) == ("GET", sid, "standup")
    assert held["CallSid"] == muted.call_sid
    assert not customer_of.update(hold=False).hold
    with agent.sounds(440):
        customer.hears(440)

    # Coaching: only the agent hears the third one.
    agent_sid = there[2].call_sid
    coach = twilio.conferences(sid).participants(third_sid).update(coaching=True, call_sid_to_coach=agent_sid)
    assert coach.coaching and coach.call_sid_to_coach == agent_sid
    with third.sounds(600):
        agent.hears(600)
        customer.hears_nothing()
    twilio.conferences(sid).participants(third_sid).update(coaching=False)
    with third.sounds(600):
        agent.hears(600), customer.hears(600)

    # Announcements: to all, then to one alone.
    twilio.conferences(sid).update(announce_url=f"{app.url}/announce")
    agent.hears(700), customer.hears(700), third.hears(700)
    everybody = app.wait("/announce")[0]
    assert everybody.get("CallSid") is None and everybody["ConferenceSid"] == sid
    waits(app, "announcement-end")
    for party in (agent, customer, third):
        party.hears_nothing()
    customer_of.update(announce_url=f"{app.url}/announce", announce_method="GET")
    customer.hears(700)
    agent.hears_nothing()
    waits(app, "announcement-end", ParticipantLabel="customer")
    customer_of.update(announce_url=f"{app.url}/nothing.xml")
    failed = waits(app, "announcement-fail")
    assert failed["AnnounceUrl"] == f"{app.url}/nothing.xml" and "404" in failed["ReasonAnnouncementFailed"]

    # Who speaks.
    with agent.says(speech(1.5)):
        began = waits(app, "participant-speech-start", ParticipantLabel="agent")
    assert began["CallSid"] == agent_sid
    waits(app, "participant-speech-stop", ParticipantLabel="agent")

    # Put out: its document goes on.
    assert customer_of.delete()
    customer.phone.finish()
    assert app.wait("/after")[0]["DialCallStatus"] == "answered"
    with pytest.raises(TwilioRestException) as gone:
        customer_of.fetch()
    assert gone.value.status == 404

    # The agent's end is everybody's.
    agent_call = twilio.calls(agent_sid)
    agent_call.update(status="completed")
    agent.phone.finish(), third.phone.finish()
    end = waits(app, "conference-end")
    assert (end["CallSidEndingConference"], end["ParticipantLabelEndingConference"]) == (agent_sid, "agent")
    assert end["ReasonConferenceEnded"] == "participant-with-end-conference-on-exit-left" and end["Reason"]

    events = told(app)
    names = [(event["StatusCallbackEvent"], event.get("ParticipantLabel")) for event in events]
    assert names == [
        ("participant-join", "agent"),
        ("participant-join", "customer"),
        ("conference-start", None),
        ("participant-join", None),
        ("participant-mute", "customer"),
        ("participant-unmute", "customer"),
        ("participant-hold", "customer"),
        ("participant-unhold", "customer"),
        ("participant-modify", None),
        ("participant-modify", None),
        ("announcement-end", None),
        ("announcement-end", "customer"),
        ("announcement-fail", "customer"),
        ("participant-leave", "customer"),
        ("participant-leave", "agent"),
        ("participant-leave", None),
        ("conference-end", None),
    ]
    numbers = [int(event["SequenceNumber"]) for event in app.to("/conference")]
    assert numbers == list(range(1, len(numbers) + 1)), "each one more than the one before"
    for event in events:
        assert event["ConferenceSid"] == sid and event["FriendlyName"] == "standup" and event["Timestamp"]
    joined = events[1]
    fields = ["Muted", "Hold", "Coaching", "EndConferenceOnExit", "StartConferenceOnEnter"]
    assert [joined[field] for field in fields] == ["false", "false", "false", "false", "true"]
    left = {event["CallSid"]: event for event in events if event["StatusCallbackEvent"] == "participant-leave"}
    why = lambda call: (left[call]["ReasonParticipantLeft"], left[call]["ParticipantCallStatus"])
    assert why(muted.call_sid) == ("participant_updated_via_api", "in-progress")
    assert why(agent_sid) == ("participant_updated_via_api", "completed")
    assert why(third_sid) == ("moderator_ended_conference", "in-progress")

    # What is over stays on record, with those who were there.
    over = wait_for("the end on record", lambda: (one := twilio.conferences(sid).fetch()).status == "completed" and one)
    assert over.call_sid_ending_conference == agent_sid
    assert over.reason_conference_ended == "participant-with-end-conference-on-exit-left"
    assert sid in [one.sid for one in twilio.conferences.list(status="completed", friendly_name="standup")]
    assert twilio.conferences.list(status="in-progress", friendly_name="standup") == []
    assert twilio.conferences(sid).participants.list() == []
    past = twilio.conferences(sid).participants.list  # the SDK has no word for it
    answer = twilio.request("GET", f"{API(twilio)}/Conferences/{sid}/Participants.json", params={"Status": "completed"})
    assert past() == [] and '"complete"' in answer.text and answer.text.count('"call_sid"') == 3


def API(twilio):
    return f"https://api.twilio.com/2010-04-01/Accounts/{twilio.account_sid}"


def test_waiting_participants_hear_the_wait_document_until_the_conference_starts(app, joins):
    guest = joins("604", name="webinar", start_conference_on_enter=False, wait_url="/wait", wait_method="GET")
    # A file, and one that is longer than a document may be.
    other = joins("605", name="webinar", start_conference_on_enter=False, wait_url="/400.wav")
    guest.hears(350), other.hears(400)
    assert (app.wait("/wait")[0].method, app.wait("/400.wav")[0].method) == ("GET", "POST")
    host = joins("606", name="webinar", end_conference_on_exit=True, ends="bye")
    waits(app, "conference-start")
    host.phone.finish()
    guest.phone.finish(), other.phone.finish()
    assert [event["StatusCallbackEvent"] for event in told(app)][:4] == ["participant-join"] * 3 + ["conference-start"]
    ends = waits(app, "conference-end")
    assert ends["ReasonConferenceEnded"] == "participant-with-end-conference-on-exit-left"


def test_missing_hold_music_causes_one_notification(server, twilio, app, joins):
    silence = "<Response><Play>/nowhere.wav</Play></Response>"
    app.sounds.add("/nowhere.wav")  # a sound is asked for without a signature
    app.on("/silence", (silence, {"Content-Type": "text/xml"}))
    guest = joins("612", name="quiet", start_conference_on_enter=False, wait_url="/silence")
    (voice,) = app.wait("/voice")
    noted = lambda: [note.error_code for note in twilio.calls(voice["CallSid"]).notifications.list()]
    wait_for("the notification", noted)
    assert noted() == ["11200"] and "nowhere.wav" in server.log()
    twilio.calls(voice["CallSid"]).update(status="completed")
    guest.phone.finish()


def test_a_conference_is_recorded_from_its_start_paused_stopped_and_fetched(server, twilio, app, joins, tmp_path):
    app.on("/recorded")
    events = "in-progress completed absent"
    recorded = {"record": "record-from-start", "trim": "do-not-trim", "recording_status_callback": "/recorded"}
    one = joins("607", name="minutes", recording_status_callback_event=events, **recorded)
    sid = waits(app, "participant-join")["ConferenceSid"]
    other = joins("608", name="minutes")
    (begun,) = app.wait("/recorded")
    assert (begun["RecordingStatus"], begun["RecordingSource"], begun["RecordingChannels"]) == (
        "in-progress",
        "Conference",
        "1",
    )
    assert begun["ConferenceSid"] == sid and begun.get("CallSid") is None
    with one.sounds(440):
        other.hears(440)
        other.rtp.wait_for_more(1)
    current = twilio.conferences(sid).recordings("Twilio.CURRENT")
    assert current.update(status="paused", pause_behavior="skip").status == "paused"
    with one.sounds(700):
        other.hears(700)
    assert current.update(status="in-progress").status == "in-progress"
    with other.sounds(500):
        one.hears(500)
        one.rtp.wait_for_more(1)
    assert current.update(status="stopped").status == "stopped"
    (done,) = app.wait("/recorded", where=lambda told: told["RecordingStatus"] == "completed")
    assert done["RecordingSid"] == begun["RecordingSid"]
    (tmp_path / "minutes.wav").write_bytes(requests.get(done["RecordingUrl"], timeout=5).content)
    samples = read_wav(tmp_path / "minutes.wav")[0]
    assert samples.shape[1] == 1 and abs(len(samples) / 8000 - int(done["RecordingDuration"])) < 1
    mix = samples[:, 0]
    assert is_tone(loud(mix)[:6000], 440) and is_tone(loud(mix)[-6000:], 500)
    (listed,) = twilio.conferences(sid).recordings.list()
    assert (listed.sid, listed.source, listed.status) == (done["RecordingSid"], "Conference", "completed")
    assert [found.sid for found in twilio.recordings.list(conference_sid=sid)] == [listed.sid]
    assert twilio.conferences(sid).recordings(listed.sid).delete()
    assert twilio.conferences(sid).recordings.list() == []
    assert twilio.conferences(sid).update(status="completed").status == "completed"
    one.phone.finish(), other.phone.finish()
    left = waits(app, "participant-leave", 2, ConferenceSid=sid)
    assert left["ReasonParticipantLeft"] == "conference_ended_via_api"
    assert waits(app, "conference-end", ConferenceSid=sid)["ReasonConferenceEnded"] == "conference-ended-via-api"


def loud(samples):
    """Without its silent frames."""
    frames = samples[: len(samples) // 160 * 160].reshape(-1, 160)
    return frames[abs(frames).max(axis=1) > 3000].reshape(-1)


def test_created_participants_are_called_into_the_conference_and_an_unanswered_call_is_reported(twilio, app, phone, rtp):
    first, second = (Party(phone, rtp, callee()) for _ in range(2))
    busy = phone(callee(reject="486 Busy Here"))
    participants = twilio.conferences("called").participants
    create = lambda to, **more: participants.create(from_=FROM, to=to.uri, beep="false", **more)
    made = create(
        first.phone,
        label="first",
        early_media=True,
        max_participants=3,
        conference_status_callback=f"{app.url}/conference",
        conference_status_callback_event=ALL.split(),
    )
    assert made.conference_sid.startswith("CF") and made.label == "first" and made.queue_time == "0"
    waits(app, "participant-join", ParticipantLabel="first")
    # Alone it hears music, of the server's own.
    first.rtp.wait_for_sound()
    failed = create(busy, label="busy")
    busy.finish()
    left = waits(app, "participant-leave", ParticipantLabel="busy")
    assert (left["ReasonParticipantLeft"], left["ParticipantCallStatus"]) == ("participant_add_failed", "busy")
    assert left["CallSid"] == failed.call_sid
    create(second.phone, label="second", muted=True)
    waits(app, "conference-start")
    fetched = participants("second").fetch()
    assert (fetched.status, fetched.muted, fetched.conference_sid) == ("connected", True, made.conference_sid)
    with first.sounds(440):
        second.hears(440)

    def refused(code, **more):
        with pytest.raises(TwilioRestException) as refusal:
            create(second.phone, **more)
        assert (refusal.value.status, refusal.value.code) == (400, code)

    refused(16026, label="second")
    refused(16023, label=made.call_sid)
    refused(16028, coaching=True, call_sid_to_coach=failed.call_sid)
    with pytest.raises(TwilioRestException) as unknown:
        twilio.conferences("CF" + "0" * 32).participants.create(from_=FROM, to=second.phone.uri)
    assert unknown.value.status == 404
    # Put out, one who was called has nothing left to do.
    assert participants("second").delete()
    second.phone.finish()
    first.phone.stop()
    twilio.calls(made.call_sid).update(status="completed")
    waits(app, "conference-end")


def test_a_conference_is_created_without_a_participant(twilio, app):
    form = {"FriendlyName": "later", "StatusCallback": f"{app.url}/conference", "StatusCallbackEvent": "start end"}
    answer = twilio.request("POST", f"{API(twilio)}/Conferences.json", data=form)
    assert answer.status_code == 201
    (opened,) = twilio.conferences.list(friendly_name="later")
    every = [one.sid for one in twilio.conferences.list()]
    assert every[0] == opened.sid and [one.sid for one in twilio.conferences.list(page_size=1)] == every
    assert [one.sid for one in twilio.conferences.list(status="init")] == [opened.sid]
    assert opened.status == "init" and opened.sid in answer.text
    assert twilio.request("POST", f"{API(twilio)}/Conferences.json", data=form).status_code == 409
    ended = twilio.conferences(opened.sid).update(status="completed")
    assert ended.reason_conference_ended == "conference-ended-via-api"
    assert waits(app, "conference-end")["ConferenceSid"] == opened.sid
