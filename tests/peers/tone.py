"""Tones: every phone says one of its own, so that what the others hear tells who is heard, and when."""

import math
import struct
import wave

RATE = 8000
LOUD = 500  # root mean square of 16-bit samples; what phones play is at 5,600


def write(path, hertz, seconds=240):
    """A WAV file of a sine, whole periods in whole seconds. At its end baresip hangs up, and Linphone begins again."""
    step = 2 * math.pi * hertz / RATE
    samples = [round(8000 * math.sin(step * at)) for at in range(RATE)]
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(struct.pack(f"<{RATE}h", *samples) * seconds)


def rms(samples):
    """Root mean square, 0 for none."""
    return math.sqrt(sum(each * each for each in samples) / len(samples)) if samples else 0.0


def share(samples, hertz, rate=RATE):
    """How much of the energy is at this frequency, 0 to 1 (Goertzel)."""
    if rms(samples) < LOUD:
        return 0.0
    turn = 2 * math.cos(2 * math.pi * hertz / rate)
    last = before = 0.0
    for each in samples:
        last, before = each + turn * last - before, last
    power = last * last + before * before - turn * last * before
    return 2 * power / len(samples) / sum(each * each for each in samples)
