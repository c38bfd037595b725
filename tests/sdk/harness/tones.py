"""Words as tones: a stand-in for a voice says each word as a tone of its own, and a test reads at the phone which words were heard.

A word's pitch and length follow from the word itself. Where two words of one vocabulary would have the same pitch, the later one takes
the next that is free: so a word that was cut is never taken for another, and a vocabulary has room for 58 words. Behind each word are
60 ms of silence."""

import string
import zlib

import numpy as np

PITCHES = tuple(range(400, 3300, 50))  # Hz
LENGTHS = (0.1, 0.16, 0.22)  # seconds
GAP = 0.06  # seconds of silence behind each word
_TOLERANCE = 0.025  # seconds that a word may be longer or shorter than it was said
_HOP = 40  # samples at 8 kHz from one look at the sound to the next
_WINDOW = 160  # samples at 8 kHz of a look
_QUIET = 300  # mean amplitude of silence, at most


class Vocabulary:
    """The tones of the words that were said so far."""

    def __init__(self):
        self._codes = {}  # word -> (pitch, length)
        self._words = {}  # pitch -> word

    def code(self, word):
        """The pitch (Hz) and the length (seconds) of a word. A word that is new gets one."""
        if word not in self._codes:
            number = zlib.crc32(word.encode())
            first = number % len(PITCHES)
            free = [one for one in PITCHES[first:] + PITCHES[:first] if one not in self._words]
            assert free, f"a vocabulary has room for {len(PITCHES)} words"
            self._codes[word] = free[0], LENGTHS[number % len(LENGTHS)]
            self._words[free[0]] = word
        return self._codes[word]

    def speak(self, text, rate=24_000):
        """The samples of a text, 16 bit at `rate`."""
        parts = [np.zeros(0)]
        for word in words_of(text):
            pitch, length = self.code(word)
            parts += [sine(pitch, length, rate), np.zeros(int(GAP * rate))]
        return np.concatenate(parts).astype("<i2")

    def heard(self, samples):
        """The words in these samples of 8 kHz, in order. A word that was cut is not among them."""
        words = []
        for hertz, seconds in tones(samples):
            word = self._words.get(hertz)
            if word and abs(self._codes[word][1] - seconds) <= _TOLERANCE:
                words.append(word)
        return words

    def wait_until_heard(self, rtp, text, seconds=10):
        """Waits until a phone has heard the words of this text, one directly after the other."""
        wanted = words_of(text)

        def found():
            heard = self.heard(rtp.heard())
            return any(heard[at : at + len(wanted)] == wanted for at in range(len(heard) - len(wanted) + 1))

        rtp.wait(f"the words {text!r}", found, seconds)


def words_of(text):
    """The words of a text: lower case, without punctuation at their ends."""
    stripped = (word.strip(string.punctuation).lower() for word in text.split())
    return [word for word in stripped if word]


def sine(hertz, seconds, rate=24_000, amplitude=9_000):
    """A tone, as samples of 16 bit."""
    times = np.arange(int(rate * seconds)) / rate
    return (amplitude * np.sin(2 * np.pi * hertz * times)).astype("<i2")


def tones(samples):
    """The tones in samples of 8 kHz: (pitch, seconds) of each, the pitch one of PITCHES."""
    samples = np.asarray(samples, dtype=float)
    if len(samples) < _WINDOW:
        return []
    windows = np.lib.stride_tricks.sliding_window_view(samples, _WINDOW)[::_HOP]
    loud = np.abs(windows).mean(axis=1) > _QUIET
    found, start = [], None
    for at, is_loud in enumerate([*loud, False]):
        if is_loud and start is None:
            start = at
        elif not is_loud and start is not None:
            sound = samples[start * _HOP : (at - 1) * _HOP + _WINDOW]
            edges = np.flatnonzero(np.abs(sound) > 2 * _QUIET)
            seconds = (edges[-1] - edges[0] + 1) / 8000 if len(edges) else 0.0
            hertz = pitch(sound)
            found.append((min(PITCHES, key=lambda one: abs(one - hertz)), seconds))
            start = None
    return found


def pitch(samples, rate=8_000):
    """The strongest frequency in these samples, in Hz; 0 if they are silent."""
    samples = np.asarray(samples, dtype=float)
    if not len(samples) or np.abs(samples).max() < _QUIET:
        return 0.0
    size = 1 << max(len(samples) - 1, 4095).bit_length()
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)), size))
    spectrum[: size * 100 // rate] = 0
    return float(np.argmax(spectrum)) * rate / size


def nearest(answers, samples, rate=8_000):
    """What a person said: the value in `answers` (frequency in Hz -> words) whose frequency is at most 5 % from the pitch of
    the samples; "" without one."""
    hertz = pitch(samples, rate)
    near = min(answers, key=lambda one: abs(one - hertz), default=0)
    return answers[near] if near and abs(near - hertz) <= 0.05 * near else ""
