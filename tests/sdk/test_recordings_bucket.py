"""Recordings in an S3 bucket: `recordings.url = "s3://..."` with a real server, which is away at times."""

import pytest
import requests
from twilio.twiml.voice_response import VoiceResponse

from harness.audio import is_heard, mp3_samples, read_wav, speech, without_silent_ends, write_capture
from harness.bucket import Bucket
from harness.phone import caller, play
from harness.resources import table
from harness.server import Tandem
from harness.waiting import wait_for
from twilio_app import client

KEY = "Y2hhbmdlLW1lLWNoYW5nZS1tZS1jaGFuZ2UtbWUhISE="
SPOKEN = without_silent_ends(speech(4))


def recording():
    response = VoiceResponse()
    response.record(finish_on_key="#", max_length=20, play_beep=False)
    return table("numbers", number="700", account="acme", twiml=str(response))


@pytest.fixture(scope="module")
def bucket(tmp_path_factory):
    one = Bucket(tmp_path_factory.mktemp("bucket"))
    yield one
    one.stop()


@pytest.fixture
def record(phone, tmp_path):
    """Calls the number, says something, and returns the finished recording: record(server)."""

    def make(server):
        pcap = tmp_path / "message.pcap"
        write_capture(pcap, " " * 10, SPOKEN, "  #  ")
        known = {one.sid for one in client(server).recordings.list()}
        phone(caller("700", play(pcap), ends="wait"), target=server.sip).finish()

        def finished():
            return [one for one in client(server).recordings.list() if one.sid not in known and one.status == "completed"]

        return wait_for("the recording", finished)[0]

    return make


def uploaded(server, bucket, recording):
    """Waits until a recording is in the bucket, and its file is a copy. Returns the object."""
    name = recording.sid.removeprefix("RE")
    wait_for("the copy", (server.data / "recordings/copies" / f"{name}.wav").exists, 30)
    return bucket.read(f"eu/1/{name}.wav")


def fetch(server, recording, form="", **headers):
    url = f"{server.http}/2010-04-01/Accounts/{server.account_sid}/Recordings/{recording.sid}{form}"
    return requests.get(url, headers=headers, timeout=20)


def problems(server):
    auth = server.account_sid, server.auth_token
    return [one["cause"] for one in requests.get(f"{server.http}/console/errors", auth=auth, timeout=5).json()["errors"]]


def waiting(server):
    page = requests.get(f"{server.http}/metrics", timeout=5).text
    return page.split("\ntandem_recordings_waiting ")[1].split("\n")[0]


def test_a_recording_is_in_the_bucket_and_is_played_and_deleted_from_there(start_tandem, bucket, record, tmp_path):
    server = start_tandem(recording() + bucket.settings())
    one = record(server)
    whole = uploaded(server, bucket, one)
    copies = server.data / "recordings/copies"
    assert whole[:4] == b"RIFF"
    wait_for("the bucket as the place", lambda: f"s3://calls/eu/1/{one.sid[2:]}.wav" in show(server), 10)
    # Another machine, or later: nothing is on the disk.
    for left in copies.iterdir():
        left.unlink()
    assert fetch(server, one).content == whole
    assert fetch(server, one, Range="bytes=100-199").content == whole[100:200]
    assert mp3_samples(fetch(server, one, ".mp3").content) == (len(whole) - 44) // 2
    wav = tmp_path / "one.wav"
    wav.write_bytes(whole)
    assert is_heard(SPOKEN, read_wav(wav)[0][:, 0])
    client(server).recordings(one.sid).delete()
    wait_for("the deletion of the object", lambda: bucket.read(f"eu/1/{one.sid[2:]}.wav") is None, 20)
    assert not list(copies.iterdir())
    assert fetch(server, one).status_code == 404


def show(server):
    auth = server.account_sid, server.auth_token
    return requests.get(f"{server.http}/console/calls/last", auth=auth, timeout=5).text


def test_an_encrypted_recording_is_encrypted_in_the_bucket_too(start_tandem, bucket, record):
    server = start_tandem(recording() + bucket.settings(more=f'encryption_key = "{KEY}"\nkeep_local_hours = 0\n'))
    one = record(server)
    name = f"eu/1/{one.sid[2:]}.wav"
    wait_for("the object", lambda: bucket.read(name), 30)
    assert b"RIFF" not in bucket.read(name)
    assert fetch(server, one).content[:4] == b"RIFF"


@pytest.mark.parametrize("wrong, says", [({"key": "wrong"}, "signature"), ({"name": "nothing"}, "bucket")])
def test_a_bucket_that_refuses_ends_the_start_with_one_line(bucket, tmp_path, wrong, says):
    with pytest.raises(AssertionError):
        Tandem(tmp_path / "tandem", recording() + bucket.settings(**wrong)).process.kill()
    log = (tmp_path / "tandem/tandem.log").read_text()
    assert "recordings.url: s3://" in log and says in log, log


def test_recordings_wait_for_a_bucket_that_is_away_and_outlive_a_crash(bucket, record, tmp_path):
    config = recording() + bucket.settings()
    server = Tandem(tmp_path / "tandem", config)
    there = record(server)
    whole = uploaded(server, bucket, there)
    bucket.stop()
    try:
        missed = record(server)
        wait_for("the problem", lambda: "recordings-bucket" in problems(server), 60)
        assert waiting(server) == "1"
        # The disk has the new one. The other one is only in the bucket.
        (server.data / "recordings/copies" / f"{there.sid[2:]}.wav").unlink()
        assert fetch(server, missed).content[:4] == b"RIFF"
        assert fetch(server, there).status_code == 503
    finally:
        server.process.kill()
        server.process.wait()
    server = Tandem(server.data, config)
    try:
        assert "recordings wait on the disk until the bucket answers" in server.log()
        assert fetch(server, missed).content[:4] == b"RIFF"
        bucket.start()
        assert uploaded(server, bucket, missed)[:4] == b"RIFF"
        assert fetch(server, there).content == whole
        wait_for("an empty queue", lambda: waiting(server) == "0", 20)
    finally:
        server.process.terminate()
        server.process.wait(timeout=20)
