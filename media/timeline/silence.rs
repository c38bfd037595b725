//! Intended silence: the pauses of a talker, with comfort noise (RFC 3389) or without comfort noise. Such silence does
//! not count as loss.

use super::ring::{Position, Ring};

/// The number of remembered pauses. A reader whose position is far behind the newest audio needs earlier pauses.
const MAX_PAUSES: usize = 4;
/// The number of samples that are produced in one piece.
const PIECE: usize = 160;

/// The pauses of a stream.
#[derive(Debug)]
pub(super) struct Pauses {
    pauses: [Pause; MAX_PAUSES],
    newest: usize,
    /// Whether the newest pause has not ended.
    open: bool,
    random: u32,
}

#[derive(Debug, Clone, Copy, Default)]
struct Pause {
    from: Position,
    until: Position,
    /// The peak of the comfort noise, or 0 if the pause has no noise.
    peak: i32,
}

impl Pauses {
    pub(super) fn new() -> Pauses {
        Pauses { pauses: [Pause::default(); MAX_PAUSES], newest: 0, open: false, random: 0x2545_F491 }
    }

    pub(super) fn is_open(&self) -> bool {
        self.open
    }

    /// Starts a pause at `at`. `level` is the level of the noise in -dBov, if the pause has noise.
    pub(super) fn begin(&mut self, at: Position, level: Option<u8>) {
        // The level is a power relative to a full-scale square wave. The squared peak of uniform noise is three times
        // its power. The mean of two such values has half the power. Together this is a factor of six.
        let peak = level.map_or(0.0, |level| 32_768.0 * 10f32.powf(f32::from(level.min(127)) / -20.0) * 6.0f32.sqrt());
        if self.open {
            match self.pauses.get_mut(self.newest) {
                Some(pause) if at <= pause.from => return,
                Some(pause) => pause.until = at,
                None => {}
            }
        }
        self.open = true;
        self.newest = (self.newest + 1) % MAX_PAUSES;
        if let Some(pause) = self.pauses.get_mut(self.newest) {
            *pause = Pause { from: at, until: Position::MAX, peak: peak.min(32_767.0) as i32 };
        }
    }

    /// Ends the pause, because audio has arrived for `at`.
    pub(super) fn end(&mut self, at: Position) {
        if let Some(pause) = self.pauses.get_mut(self.newest)
            && at >= pause.from
        {
            pause.until = at;
            self.open = false;
        }
    }

    /// Returns the sound of the pause at `at`, and the end of this pause. If there is no pause at `at`, returns `None`
    /// and the start of the next pause. The returned position is at most `to`. If the pause has noise, this function
    /// writes the noise to the ring.
    pub(super) fn fill(&mut self, ring: &mut Ring, at: Position, to: Position) -> (Option<Comfort>, Position) {
        let Some(pause) = self.pauses.iter().find(|pause| (pause.from..pause.until).contains(&at)).copied() else {
            let next = self.pauses.iter().map(|pause| pause.from).filter(|from| *from > at).min();
            return (None, next.map_or(to, |next| next.min(to)));
        };
        let to = to.min(pause.until);
        if pause.peak == 0 {
            return (Some(Comfort::Silence), to);
        }
        let mut piece = [0; PIECE];
        let mut from = at;
        while from < to {
            let count = PIECE.min((to - from) as usize);
            let Some(piece) = piece.get_mut(..count) else { break };
            let mut before = self.next(pause.peak);
            for sample in &mut *piece {
                // The mean of two neighbouring values sounds softer than white noise.
                let now = self.next(pause.peak);
                *sample = ((before + now) / 2) as i16;
                before = now;
            }
            ring.write_synthesised(from, piece);
            from += count as i64;
        }
        (Some(Comfort::Noise), to)
    }

    /// Returns a random number between -`peak` and `peak`.
    fn next(&mut self, peak: i32) -> i32 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 17;
        self.random ^= self.random << 5;
        ((i64::from(self.random.cast_signed()) * i64::from(peak)) >> 31) as i32
    }
}

/// The sound of a pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comfort {
    Noise,
    Silence,
}
