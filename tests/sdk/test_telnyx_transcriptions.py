"""What was said in Telnyx's recordings, with telnyx-python: written down by a recogniser, told, listed and deleted."""

import pytest
import telnyx

from harness.audio import speech
from harness.engines import KEY
from harness.party import Party
from harness.phone import callee
from harness.telnyx_app import CONNECTION, NUMBER, serve


@pytest.fixture(scope="module")
def server(start_tandem, module_webapp, engine):
    more = f'[speech]\nstt = "{engine.url}/v1/audio/transcriptions"\nstt_key = "{KEY}"\n'
    yield from serve(start_tandem, module_webapp, more)


def test_the_transcription_of_a_recording_is_created_listed_and_deleted(server, engine, phone, rtp):
    engine.words = ["Please call me back."]
    app = server.telnyx_app
    one = Party(phone, rtp, callee())
    one.leg = app.client.calls.dial(connection_id=CONNECTION, to=one.uri, from_=NUMBER).data.call_control_id
    app.wait("call.answered", one.leg)
    app.actions.start_recording(one.leg, format="wav", channels="dual", transcription=True)
    one.rtp.play(speech(1))
    app.actions.stop_recording(one.leg)
    saved = app.wait("call.recording.saved", one.leg)
    told = app.wait("call.recording.transcription.saved", one.leg)
    assert (told["transcription_text"], told["recording_id"]) == ("Please call me back.", saved["recording_id"])
    texts = app.client.recording_transcriptions
    (listed,) = texts.list().data
    assert (listed.id, listed.status) == (told["recording_transcription_id"], "completed")
    assert listed.duration_millis > 500
    assert texts.retrieve(listed.id).data.transcription_text == "Please call me back."
    assert texts.delete(listed.id).data.id == listed.id
    with pytest.raises(telnyx.NotFoundError):
        texts.retrieve(listed.id)
    app.actions.hangup(one.leg)
    app.wait("call.hangup", one.leg)
    one.phone.finish()
    assert not app.refused
