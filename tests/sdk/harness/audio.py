"""Speech, as samples and as the RTP packets of a phone."""

import io
import shutil
import struct
import subprocess
import wave
from pathlib import Path

import numpy as np

from .server import ROOT

RATE = 8000
FRAME = 160  # samples of a packet: 20 ms
_KEYS = "0123456789*#ABCD"


def speech(seconds):
    """Somebody speaking for so long, 16 bit samples at 8 kHz: a recording where the corpus is at hand, else espeak-ng."""
    recording = ROOT.parent / "shared" / "corpora" / "audio" / "short_nb_voice.wav"
    samples = read_wav(recording)[0][:, 0] if recording.exists() else _espeak()
    wanted = int(seconds * RATE)
    return np.resize(samples, wanted) if len(samples) < wanted else samples[:wanted]


def chatter(seconds):
    """The same without its pauses: somebody who does not stop for breath, such as a machine with its greeting."""
    samples = speech(seconds * 3)
    frames = samples[: len(samples) // 160 * 160].reshape(-1, 160)
    loud = frames[abs(frames.astype(int)).max(axis=1) > 1000]
    return np.resize(loud.reshape(-1), int(seconds * RATE))


def read_wav(path):
    """Samples, one column a channel, and the sample rate."""
    with wave.open(str(path)) as file:
        assert file.getsampwidth() == 2
        samples = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2")
        return samples.reshape(-1, file.getnchannels()), file.getframerate()


def wav(samples):
    """A WAV file of one channel of 16 bit at 8 kHz."""
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setparams((1, 2, RATE, len(samples), "NONE", ""))
        out.writeframes(np.asarray(samples, dtype="<i2").tobytes())
    return file.getvalue()


def write_wav(path, samples):
    """The same, written down."""
    Path(path).write_bytes(wav(samples))


def write_capture(path, *parts):
    """A capture file for SIPp to play: one RTP stream of speech (arrays) and keys (text; a space is a tenth of a second
    of silence). Returns its length in milliseconds."""
    packets = []  # (time in samples, marker, payload type, timestamp, payload)
    now = 0
    for part in parts:
        if not isinstance(part, str):
            frames = ulaw(np.asarray(part))
            for start in range(0, len(frames), FRAME):
                packets.append((now, start == 0, 0, now, frames[start : start + FRAME]))
                now += FRAME
            continue
        for key in part:
            if key == " ":
                for _ in range(5):
                    packets.append((now, False, 0, now, b"\xff" * FRAME))
                    now += FRAME
                continue
            # RFC 4733: 100 ms, then the last packet twice more; the timestamp stays that of the beginning.
            for step in range(1, 6):
                packets.append((now + (step - 1) * FRAME, step == 1, 101, now, _event(key, step * FRAME, step == 5)))
            last = now + 4 * FRAME
            packets += [(last + again, False, 101, now, _event(key, 5 * FRAME, True)) for again in (40, 80)]
            now += 8 * FRAME
    with Path(path).open("wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
        for sequence, (at, marker, kind, timestamp, payload) in enumerate(packets):
            rtp = struct.pack("!BBHII", 0x80, kind | 0x80 * marker, sequence + 1, timestamp, 0x5EED5EED) + payload
            udp = struct.pack("!HHHH", 40000, 40000, 8 + len(rtp), 0) + rtp
            address = bytes([127, 0, 0, 1])
            ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0) + address + address + udp
            frame = bytes(12) + b"\x08\x00" + ip
            microseconds = at * 1_000_000 // RATE
            file.write(struct.pack("<IIII", 1 + microseconds // 1_000_000, microseconds % 1_000_000, len(frame), len(frame)))
            file.write(frame)
    return now * 1000 // RATE


def likeness(sent, heard):
    """The greatest normalised cross-correlation of the two, and by how many samples `heard` is then behind."""
    sent, heard = np.asarray(sent, dtype=float), np.asarray(heard, dtype=float)
    size = 1 << (len(sent) + len(heard)).bit_length()
    product = np.fft.irfft(np.fft.rfft(heard, size) * np.conj(np.fft.rfft(sent, size)), size)
    best = int(np.argmax(product))
    norm = np.linalg.norm(sent) * np.linalg.norm(heard)
    return (product[best] / norm if norm else 0.0), (best if best < size // 2 else best - size)


def is_heard(sent, heard):
    """Whether at least half of what was sent, taken by 400 ms, is in what was heard: this machine may be too busy to send
    in time, so that single parts come with gaps."""
    size = 2 * RATE // 5
    alike = []
    for at in range(0, len(sent) - size + 1, size):
        part = sent[at : at + size]
        behind = max(likeness(part, heard)[1], 0)
        alike.append(likeness(part, heard[behind : behind + size])[0])
    return np.median(alike) > 0.9


def ulaw(samples):
    """G.711 µ-law."""
    samples = samples.astype(np.int32)
    sign = np.where(samples < 0, 0x80, 0)
    magnitude = np.minimum(np.abs(samples), 32635) + 132
    exponent = np.floor(np.log2(magnitude)).astype(np.int32) - 7
    mantissa = (magnitude >> (exponent + 3)) & 0x0F
    return (~(sign | (exponent << 4) | mantissa) & 0xFF).astype(np.uint8).tobytes()


def without_silent_ends(samples, loud=400):
    """What lies between the first and the last frame whose mean level is `loud`: a trimmed recording begins and ends
    there too."""
    frames = samples[: len(samples) // FRAME * FRAME].reshape(-1, FRAME)
    levels = np.abs(frames.astype(int)).mean(axis=1)
    heard = np.flatnonzero(levels >= loud)
    return samples[heard[0] * FRAME : (heard[-1] + 1) * FRAME]


def mp3_samples(octets):
    """How many samples an MP3 file at 8 kHz (MPEG 2.5, layer III) plays, by its frame headers: without the Info frame in front,
    and without the silence that its LAME tag says was added at both ends."""
    kilobits = [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160]
    at = samples = 0
    while at + 4 <= len(octets):
        head = struct.unpack_from("!I", octets, at)[0]
        assert head >> 17 == 0b111_1111_1111_00_01, f"no MPEG 2.5 layer III frame at {at}: {head:08x}"
        assert head >> 10 & 3 == 2, "not 8 kHz"
        at += 72 * 1000 * kilobits[head >> 12 & 15] // RATE + (head >> 9 & 1)
        samples += 576
    # The tag follows the side information: 9 octets of it for one channel, 17 for two.
    tag = 4 + (9 if octets[3] >> 6 == 3 else 17)
    assert octets[tag : tag + 4] == b"Info", "no Info frame"
    added = int.from_bytes(octets[tag + 141 : tag + 144], "big")
    return samples - 576 - (added >> 12) - (added & 0xFFF)


def _event(key, duration, end):
    return struct.pack("!BBH", _KEYS.index(key), 0x80 * end | 10, duration)


def _espeak():
    assert shutil.which("espeak-ng"), "neither recorded speech nor espeak-ng is here"
    text = "The quick brown fox jumps over the lazy dog, while seven wizards box with a very old typewriter."
    done = subprocess.run(["espeak-ng", "--stdout", text], capture_output=True, check=True, timeout=20)
    samples = np.frombuffer(done.stdout[44:], dtype="<i2").astype(float)
    # 22,050 Hz to 8 kHz: cut off above the telephone's band, then interpolate.
    spectrum = np.fft.rfft(samples)
    spectrum[np.fft.rfftfreq(len(samples), 1 / 22050) > 3600] = 0
    smooth = np.fft.irfft(spectrum, len(samples))
    times = np.arange(0, len(samples) / 22050, 1 / RATE)
    return np.interp(times, np.arange(len(samples)) / 22050, smooth).astype(np.int16)
