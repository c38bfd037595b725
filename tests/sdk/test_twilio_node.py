"""twilio-node against a server of ours: twilio_calls.mjs does and checks it all."""

import os
import subprocess
from pathlib import Path

from harness.audio import RATE, speech, write_capture
from harness.phone import callee, play

HERE = Path(__file__).parent


def test_twilio_node_creates_reads_updates_and_deletes_calls(start_tandem, phone, tmp_path):
    spoken = speech(1.5)
    pcap = tmp_path / "spoken.pcap"
    write_capture(pcap, spoken)
    one, many = phone(callee(play(pcap))), phone(callee(), calls=5)
    server = start_tandem()
    environment = {
        "TANDEM": server.http,
        "ACCOUNT_SID": server.account_sid,
        "AUTH_TOKEN": server.auth_token,
        "PHONE": one.uri,
        "MANY": many.uri,
        "SPOKEN_SECONDS": str(len(spoken) / RATE),
    }
    assert (HERE / "node_modules" / "twilio").is_dir(), "run npm ci --prefix tests/sdk"
    done = subprocess.run(
        ["node", "twilio_calls.mjs"],
        cwd=HERE,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    print(done.stdout, done.stderr)
    assert done.returncode == 0
    one.finish()
    many.finish()
