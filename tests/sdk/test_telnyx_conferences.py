"""Telnyx's conferences, with telnyx-python: what is heard there, what is told of it, what is recorded."""

import io
import itertools
import urllib.request
import wave

import pytest
import telnyx

from harness.audio import speech
from harness.party import Party
from harness.phone import callee
from harness.rtp import tone
from harness.telnyx_app import CONNECTION, NUMBER, serve, state
from harness.waiting import wait_for

names = (f"room {number}" for number in itertools.count(1))


@pytest.fixture(scope="module")
def server(start_tandem, module_webapp):
    module_webapp.sound("/tone.wav", tone(1500, 0.6))
    module_webapp.sound("/hold.wav", tone(900, 0.6))
    yield from serve(start_tandem, module_webapp)


@pytest.fixture
def app(server):
    app = server.telnyx_app
    yield app
    assert not app.refused


@pytest.fixture
def files(module_webapp):
    return module_webapp.url


@pytest.fixture
def dials(app, phone, rtp):
    """A phone that is called and answers: its `leg`."""

    def dial(**parameters):
        one = Party(phone, rtp, callee())
        dialled = app.client.calls.dial(connection_id=CONNECTION, to=one.uri, from_=NUMBER, **parameters).data
        one.leg, one.session = dialled.call_control_id, dialled.call_session_id
        app.wait("call.answered", one.leg)
        return one

    return dial


class Room:
    """A conference of two, by its `id`; `act` is the SDK's client.conferences.actions."""

    def __init__(self, app, dials, **parameters):
        self.app, self.act = app, app.client.conferences.actions
        self.one, self.two = dials(), dials()
        self.name = next(names)
        created = app.client.conferences.create(call_control_id=self.one.leg, name=self.name, **parameters).data
        self.id, self.created = created.id, created
        self.act.join(self.id, call_control_id=self.two.leg)
        self.told("conference.participant.joined", self.two.leg)

    def told(self, event, leg=None, **payload):
        return self.app.wait(event, leg, conference_id=self.id, **payload)

    def events(self):
        return [event["event_type"] for event in self.app.events() if event["payload"].get("conference_id") == self.id]

    def end(self):
        """Ends it: whoever is there is hung up."""
        self.act.end_conference(self.id)
        for one in (self.one, self.two):
            self.app.wait("call.hangup", one.leg)
            one.phone.finish()
        return self.told("conference.ended")


@pytest.fixture
def room(app, dials):
    return lambda **parameters: Room(app, dials, **parameters)


def test_a_conference_sends_its_events_in_order(app, dials):
    one, two = dials(client_state=state("one")), dials()
    made = app.client.conferences.create(call_control_id=one.leg, name="told", region="Europe").data
    assert (made.name, made.connection_id, made.region) == ("told", CONNECTION, "Europe")
    created = app.wait("conference.created", one.leg)
    assert (created["conference_id"], created["client_state"]) == (made.id, state("one"))
    assert created["call_session_id"] == one.session and created["connection_id"] == CONNECTION
    app.client.conferences.actions.join(made.id, call_control_id=two.leg, client_state=state("two"))
    assert app.wait("conference.participant.joined", two.leg)["client_state"] == state("two")
    app.actions.hangup(two.leg)
    app.wait("conference.participant.left", two.leg)
    app.actions.hangup(one.leg)
    assert app.wait("conference.ended", one.leg)["reason"] == "all_left"
    told = [event["event_type"] for event in app.events() if event["payload"].get("conference_id") == made.id]
    assert [one for one in told if one != "conference.floor.changed"] == [
        "conference.created",
        "conference.participant.joined",
        "conference.participant.joined",
        "conference.participant.left",
        "conference.participant.left",
        "conference.ended",
    ]
    over = app.client.conferences.retrieve(made.id).data
    assert (over.status, over.end_reason, over.ended_by.call_control_id) == ("completed", "all_left", one.leg)
    assert {who.status for who in app.client.conferences.list_participants(made.id).data} == {"left"}
    for each in (one, two):
        each.phone.finish()


def test_conferences_and_participants_are_listed_filtered_and_updated(app, room):
    here = room()
    conferences = app.client.conferences
    assert [one.id for one in conferences.list(filter={"name": here.name}).data] == [here.id]
    assert conferences.list(filter={"name": "nobody's"}).data == []
    here.act.mute(here.id, call_control_ids=[here.two.leg])
    there = conferences.list_participants(here.id).data
    assert [(who.call_control_id, who.muted) for who in there] == [(here.one.leg, False), (here.two.leg, True)]
    assert there[0].conference.name == here.name
    muted = conferences.list_participants(here.id, filter={"muted": True}).data
    assert [who.call_control_id for who in muted] == [here.two.leg]
    changed = conferences.update_participant(here.two.leg, id=here.id, soft_end_conference_on_exit=True).data
    assert (changed.soft_end_conference_on_exit, changed.end_conference_on_exit) == (True, False)
    assert conferences.retrieve_participant(here.two.leg, id=here.id).data.soft_end_conference_on_exit
    # It ends the conference when it leaves, and leaves the other one's call as it is.
    app.actions.hangup(here.two.leg)
    assert here.told("conference.ended")["reason"] == "host_left"
    assert conferences.retrieve(here.id).data.end_reason == "host_left"
    assert app.client.calls.retrieve_status(here.one.leg).data.is_alive
    app.actions.hangup(here.one.leg)
    for one in (here.one, here.two):
        one.phone.finish()


def test_a_participant_on_hold_hears_its_file_and_is_not_heard(room, files):
    here = room()
    with here.one.sounds(400), here.two.sounds(700):
        here.two.hears(400)
        here.act.hold(here.id, call_control_ids=[here.two.leg], audio_url=f"{files}/hold.wav")
        here.two.hears(900)
        here.one.hears_nothing()
        here.act.unhold(here.id, call_control_ids=[here.two.leg])
        here.two.hears(400)
        here.one.hears(700)
    assert here.end()["reason"] == "all_left"


def test_audio_and_speech_play_to_all_or_some_participants_and_can_be_stopped(room, files):
    here = room()
    here.act.play(here.id, audio_url=f"{files}/tone.wav", loop="infinity")
    started = here.told("conference.playback.started")
    assert started["media_url"] == f"{files}/tone.wav" and started["creator_call_session_id"] == here.one.session
    here.one.hears(1500)
    here.two.hears(1500)
    here.act.stop(here.id)
    here.told("conference.playback.ended")
    here.one.hears_nothing()
    here.act.play(here.id, audio_url=f"{files}/tone.wav", loop="infinity", call_control_ids=[here.two.leg])
    here.told("conference.participant.playback.started", here.two.leg)
    here.two.hears(1500)
    here.one.hears_nothing()
    here.act.stop(here.id, call_control_ids=[here.two.leg])
    here.told("conference.participant.playback.ended", here.two.leg)
    said = {"payload": "Welcome.", "voice": "female"}
    here.act.speak(here.id, **said)
    here.told("conference.speak.started")
    here.one.rtp.wait_for_sound()
    here.told("conference.speak.ended")
    here.act.speak(here.id, call_control_ids=[here.one.leg], **said)
    here.told("conference.participant.speak.ended", here.one.leg)
    here.end()


def test_a_recording_of_a_conference_is_paused_and_reported(app, room):
    here = room()
    here.act.record_start(here.id, format="wav")
    with here.one.sounds(400):
        here.two.hears(400)
        here.act.record_pause(here.id)
        here.act.record_resume(here.id)
        here.two.hears(400)
    here.act.record_stop(here.id)
    saved = here.told("conference.recording.saved", here.one.leg)
    assert (saved["format"], saved["channels"]) == ("wav", "single")
    with urllib.request.urlopen(saved["recording_urls"]["wav"]) as answer, wave.open(io.BytesIO(answer.read())) as audio:
        assert audio.getnframes() > 0
    [kept] = app.client.recordings.list(filter={"conference_id": here.id}).data
    assert (kept.id, kept.source, kept.conference_id) == (saved["recording_id"], "conference", here.id)
    here.end()


def test_digits_are_gathered_from_one_participant_and_sent_to_all(room, files):
    here = room()
    here.act.gather_dtmf_audio(
        here.id, call_control_id=here.two.leg, audio_url=f"{files}/tone.wav", maximum_digits=2, gather_id="pin"
    )
    here.two.hears(1500)
    here.two.rtp.press("42")
    ended = here.app.wait("call.gather.ended", here.two.leg)
    assert (ended["digits"], ended["status"], ended["gather_id"]) == ("42", "valid", "pin")
    here.act.send_dtmf(here.id, digits="7")
    for one in (here.one, here.two):
        wait_for("a key", lambda one=one: one.rtp.keys == "7", 5)
    here.end()


def test_the_speaking_participant_gets_the_floor(room):
    here = room()
    with here.two.says(speech(2)):
        here.told("conference.floor.changed", here.two.leg)
    here.end()


def test_a_participant_becomes_a_supervisor_by_an_update(room, dials):
    here, third = room(), dials()
    here.act.join(here.id, call_control_id=third.leg)
    with third.sounds(1100), here.one.sounds(400):
        here.two.hears_exactly(400, 1100, of=(400, 1100))
        here.act.update(
            here.id,
            call_control_id=third.leg,
            supervisor_role="whisper",
            whisper_call_control_ids=[here.two.leg],
        )
        here.one.hears_nothing()
        here.two.hears_exactly(400, 1100, of=(400, 1100))
        here.act.update(here.id, call_control_id=third.leg, supervisor_role="monitor")
        here.two.hears_exactly(400, of=(400, 1100))
        third.hears(400)
    here.end()
    third.phone.finish()


def test_participants_hear_the_hold_audio_until_the_start(app, dials, files):
    one, two = dials(), dials()
    room = app.client.conferences.create(
        call_control_id=one.leg, name="waiting", start_conference_on_create=False, hold_audio_url=f"{files}/hold.wav"
    ).data
    assert room.status == "init"
    one.hears(900)
    app.client.conferences.actions.join(room.id, call_control_id=two.leg)
    two.hears(900)
    three = dials()
    app.client.conferences.actions.join(room.id, call_control_id=three.leg, start_conference_on_enter=True)
    with three.sounds(400):
        one.hears(400)
        two.hears(400)
    app.client.conferences.actions.end_conference(room.id)
    for each in (one, two, three):
        each.phone.finish()


def test_a_repeated_command_id_executes_once(room, files):
    here = room()
    for _ in range(2):
        here.act.speak(here.id, payload="Once.", voice="female", command_id="the same")
    here.told("conference.speak.ended")
    assert here.events().count("conference.speak.started") == 1
    here.end()


def test_an_invalid_conference_command_is_refused(app, room):
    here = room()
    refusals = [
        (lambda: here.act.play(here.id), "10004"),
        (lambda: here.act.play(here.id, audio_url="http://x.test/a.wav", call_control_ids=["v3:nobody"]), "90015"),
        (lambda: here.act.speak(here.id, payload="x", voice=None), "10004"),
        (lambda: here.act.update(here.id, call_control_id=here.one.leg, supervisor_role="boss"), "10032"),
        (lambda: here.act.record_start(here.id, format="ogg"), "10032"),
        (lambda: here.act.send_dtmf(here.id, digits="x"), "90014"),
        (lambda: app.client.conferences.retrieve_participant("nobody", id=here.id), "10005"),
    ]
    for act, code in refusals:
        with pytest.raises(telnyx.APIStatusError) as refused:
            act()
        assert refused.value.body["errors"][0]["code"] == code
    here.end()
    with pytest.raises(telnyx.NotFoundError):
        here.act.mute(here.id)


def test_active_calls_of_a_connection_are_listed_by_cursors(app, dials):
    one, two = dials(client_state=state("one")), dials()
    first = app.client.connections.list_active_calls(CONNECTION, extra_query={"page[limit]": 1})
    assert [call.call_control_id for call in first.data] == [two.leg]
    rest = app.client.connections.list_active_calls(CONNECTION, extra_query={"page[limit]": 1, "page[after]": two.leg})
    assert [(call.call_control_id, call.client_state) for call in rest.data] == [(one.leg, state("one"))]
    for each in (one, two):
        app.actions.hangup(each.leg)
        app.wait("call.hangup", each.leg)
        each.phone.finish()
    assert app.client.connections.list_active_calls(CONNECTION).data == []
    with pytest.raises(telnyx.NotFoundError):
        app.client.connections.list_active_calls("1")
