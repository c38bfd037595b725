"""How fast an agent falls silent and answers, at a phone's ear, with engines that take no time. Run by hand:

    TANDEM_PROFILE=release .venv/bin/python tests/sdk/measure_agents.py [INTERRUPTIONS]

One call. The phone interrupts a long answer again and again, and asks a short question in between. Times are by the phone's clock: from
the first sample that it sends to the last packet with sound in it (and its 20 ms), and from its last sample to the first packet with sound.
"""

import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from harness.audio import RATE, chatter
from harness.models import ChatModel, SpeechToText, TextToSpeech
from harness.phone import Phone, caller, until_told
from harness.rtp import LINEAR, PCMU, Rtp
from harness.server import Tandem

STORY = "There was a very long story that went on and on without any end in sight of the people who heard it. " * 8


class TimedRtp(Rtp):
    """Knows when each packet came and whether there is sound in it."""

    def __init__(self):
        self.packets = []
        super().__init__()

    def _receive(self):
        while True:
            packet, remote = self._socket.recvfrom(2048)
            at = time.monotonic()
            if not packet:
                return
            with self._changed:
                self._remote = remote
                if packet[1] & 0x7F == PCMU:
                    samples = LINEAR[np.frombuffer(packet[12:], dtype=np.uint8)]
                    self.packets.append((at, abs(samples).max() > 1000))
                    self._heard += packet[12:]
                self._changed.notify_all()

    def loud_since(self, start):
        return [at for at, loud in list(self.packets) if loud and at >= start]


def percentile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def main():
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    model, ears, voice = ChatModel(), SpeechToText(), TextToSpeech()
    questions = {"long": "Tell me a story.", "short": "What time is it?"}
    wanted = ["long"]
    ears.hears = lambda samples: questions[wanted[0]]
    model.answer = lambda messages: STORY if "story" in messages[-1]["content"] else "It is noon."
    directory = tempfile.mkdtemp()
    server = Tandem(directory, f"""
[speech]
tts = "{voice.url}/v1/audio/speech"
stt = "{ears.url}/v1/audio/transcriptions"
[[numbers]]
number = "700"
account = "acme"
agent = "a"
[[agents]]
name = "a"
prompt = "p"
max_seconds = 86400
model = {{ url = "{model.url}/v1" }}
""")
    media = TimedRtp()
    phone = Phone(Path(directory) / "phone", caller("700", until_told()), target=server.sip, media=media, seconds=3_600)
    silences, answers = [], []
    try:
        media.wait("the call", lambda: media._remote)
        while len(silences) < count:
            wanted[0] = "long"
            media.play(np.concatenate([chatter(0.9), np.zeros(160)]))
            spoken = time.monotonic()
            first = media.wait("the answer", lambda: media.loud_since(spoken), 20)[0]
            answers.append(first - spoken + 0.02)
            media.play(np.zeros(int(RATE * random.uniform(0.6, 1.4)) // 160 * 160))
            # The interruption: silence at the ear is when no packet with sound follows.
            wanted[0] = "short"
            start = time.monotonic()
            media.play(np.concatenate([chatter(0.8), np.zeros(160)]))
            asked = time.monotonic()
            first = media.wait("the answer", lambda: media.loud_since(asked), 20)[0]
            last = [at for at in media.loud_since(start) if at < start + 0.8]
            silences.append((last[-1] + 0.02 - start) if last else 0.0)
            answers.append(first - asked + 0.02)
            media.play(np.zeros(RATE * 8 // 10))
    finally:
        phone.stop()
        server.end()
        server.process.wait()
        for one in (model, ears, voice):
            one.stop()
    ms = lambda seconds: round(seconds * 1000)
    print(f"{len(silences)} interruptions, first sample to silence: median {ms(statistics.median(silences))} ms, "
          f"p90 {ms(percentile(silences, 0.9))}, p99 {ms(percentile(silences, 0.99))}, most {ms(max(silences))}")
    print(f"{len(answers)} turns, last sample to first word: median {ms(statistics.median(answers))} ms, "
          f"p90 {ms(percentile(answers, 0.9))}, p99 {ms(percentile(answers, 0.99))}, most {ms(max(answers))}")


if __name__ == "__main__":
    main()
