"""The provider's own pages and files, which applications name in their documents: the server has them itself, offline too."""

from urllib.parse import quote

import pytest
from twilio.twiml.voice_response import Dial, VoiceResponse

from harness.phone import caller, until_told
from harness.waiting import wait_for
from twilio_app import answering, client, number

MUSIC = "http://com.twilio.music.classical.s3.amazonaws.com/BusyStrings.mp3"


def page(name, url):
    return f'[[numbers]]\nnumber = "{name}"\naccount = "acme"\nprovider = "twilio"\nvoice_url = "{url}"\n'


@pytest.fixture(scope="module")
def server(start_tandem, module_webapp):
    response = VoiceResponse()
    response.play(MUSIC)
    echo = "http://twimlets.com/echo?Twiml=" + quote(str(response))
    own = number("703", module_webapp, "/voice", f'status_callback = "{module_webapp.url}/status"\n')
    twimlets = [
        page("704", "http://twimlets.com/message?Message=good+morning+to+all+of+you"),
        page("705", "http://twimlets.com/message?Message%5B0%5D=good+morning&Message%5B1%5D=to+all+of+you"),
        page("706", "http://twimlets.com/message?Mesage=good+morning"),
    ]
    return start_tandem(page("701", "http://demo.twilio.com/docs/voice.xml") + page("702", echo) + "".join(twimlets) + own)


@pytest.mark.parametrize("name", ["701", "702", "704", "705"])
def test_example_documents_and_music_of_twilio_play_without_twilio(server, phone, rtp, name):
    media = rtp()
    handset = phone(caller(name, until_told()), target=server.sip, media=media)
    media.wait_for_sound()
    handset.hang_up()
    call = client(server).calls.list(to=name)[0]
    events = wait_for("the call's requests", lambda: call.events.list())
    assert [event.response["response_code"] for event in events] == [200]
    assert not client(server).calls(call.sid).notifications.list()


def test_a_twimlet_without_its_parameter_is_silent_and_warns(server, phone):
    phone(caller("706", ends="wait"), target=server.sip).finish()
    call = client(server).calls.list(to="706")[0]
    (odd,) = wait_for("the warning", lambda: client(server).calls(call.sid).notifications.list())
    assert (odd.error_code, odd.log) == ("12200", "1") and "no+Message" in odd.message_text


def test_a_waiting_participant_hears_the_music_of_the_wait_url(server, app, phone, rtp):
    def voice(response):
        dial = Dial()
        wait = "http://twimlets.com/holdmusic?Bucket=com.twilio.music.guitars"
        dial.conference("room", wait_url=wait, start_conference_on_enter=False)
        response.append(dial)

    answering(app, "/voice", voice)
    media = rtp()
    handset = phone(caller("703", until_told()), target=server.sip, media=media)
    media.wait_for_sound()
    handset.hang_up()
    app.wait("/status")
