"""Somebody on a phone who speaks and listens."""

import contextlib
import threading

import numpy as np

from .rtp import share, tone
from .waiting import wait_for


class Party:
    """A `phone` and its audio, `rtp`; who waits to be called is called at `uri`."""

    def __init__(self, phone, rtp, scenario, **options):
        """`phone` and `rtp`: the fixtures. `options`: what a phone can be started with."""
        self.rtp = rtp()
        self.phone = phone(scenario, media=self.rtp, **options)
        self.uri = self.phone.uri

    def hang_up(self):
        """Ends a call that waits at until_told()."""
        self.phone.hang_up()

    @contextlib.contextmanager
    def says(self, samples):
        """Says this over and over."""
        over = threading.Event()

        def speak():
            while not over.is_set():
                self.rtp.play(samples)

        thread = threading.Thread(target=speak)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join(10)

    def sounds(self, hertz):
        """Says a tone over and over."""
        return self.says(tone(hertz, 0.5))

    def hears(self, *hertz):
        """Waits for each of these tones."""
        for one in hertz:
            self.rtp.wait_for_tone(one)

    def hears_exactly(self, *hertz, of):
        """Waits for 200 ms of these tones together, and of none other `of` those."""

        def rings():
            recent = self.rtp.heard(1600)
            if len(recent) < 1600:
                return False
            shares = {one: share(recent, one) for one in of}
            return all((shares[one] > 0.15) if one in hertz else (shares[one] < 0.01) for one in of)

        self.rtp.wait(f"{hertz} of {of}", rings)

    def hears_nothing(self):
        """For 300 ms, once what is under way has been heard."""

        def is_quiet():
            recent = self.rtp.heard(2400)
            return len(recent) == 2400 and abs(recent).max() < 1000

        wait_for("silence", is_quiet, 5)


def is_deaf_to(party, hertz, seconds=1.0):
    """Whether nothing of that frequency is in what it hears in the next while."""
    start = len(party.rtp.heard())
    party.rtp.wait("more audio", lambda: len(party.rtp._heard) >= start + int(8000 * seconds))
    heard = party.rtp.heard()[start:].astype(float)
    wave = np.exp(-2j * np.pi * hertz / 8000 * np.arange(len(heard)))
    return abs(heard @ wave) / len(heard) < 100
