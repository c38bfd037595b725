//! Where in a recording somebody speaks: what is left of it when its silent ends are cut away.
//!
//! ```text
//!   |--- noise ---|h|ello .......... bye|--- noise ---|      the detector of voices finds the words, whatever noise there is;
//!              first                    end                what stands out of the noise and leads up to them belongs to them
//! ```
//!
//! Where nobody speaks at all it may be music, or a tone: then the level alone decides.

use std::io;

use crate::codec::SampleRate;
use crate::recorded::RecordedFile;
use crate::rtp::FRAME;
use crate::vad::VoiceActivity;
use crate::wav::WavFormat;

/// Mean level up to which a frame is quiet, about -46 dBFS.
const QUIET: u32 = 160;
/// Frames before the first word that is surely one, and after the last, that may belong to what is said: 1 s; and a gap in them:
/// 200 ms.
const AROUND: u64 = 50;
const GAP: u64 = 10;
/// Frames looked at together from the end on, and those before them by which the detector gets to know the noise: 10 and 3 s.
const STRETCH: u64 = 500;
const BEFORE: u64 = 150;

/// Where the first frame begins that is to be kept, and where the last one ends, in octets of samples; `None`: there is nothing
/// but silence. `start`: where the samples begin in `file`. Takes some 10 us of a processor for each frame at the ends, and for
/// each frame of a recording in which nobody speaks.
pub(crate) fn find(file: &mut RecordedFile, form: WavFormat, start: u64) -> io::Result<Option<(u64, u64)>> {
    let whole = (file.len() - start) / form.frame().max(1);
    let octets = |(first, last): (u64, u64)| (first * form.frame(), (last + 1) * form.frame());
    let mut loud: Option<(u64, u64)> = None;
    // What has stood out until now, without a gap.
    let mut run: Option<(u64, u64)> = None;
    let mut first = None;
    let mut ears = Ears::new(file, form, start);
    for at in 0..whole {
        let Some(heard) = ears.hear(at)? else { break };
        if heard.loud {
            loud = Some((loud.map_or(at, |(first, _)| first), at));
        }
        run = run.filter(|(_, last)| at - last <= GAP);
        if heard.sound || heard.speech {
            run = Some((run.map_or(at, |(first, _)| first), at));
        }
        if heard.speech {
            first = run.map(|(first, _)| (first.max(at.saturating_sub(AROUND)), at));
            break;
        }
    }
    let Some((first, spoken)) = first else { return Ok(loud.map(octets)) };
    let (mut until, mut last) = (whole, spoken);
    while until > spoken {
        let from = until.saturating_sub(STRETCH).max(spoken);
        let end = (until + AROUND).min(whole);
        if let Some(found) = Ears::new(ears.file, form, start).last_word(from, until, end)? {
            last = found;
            break;
        }
        until = from;
    }
    Ok(Some(octets((first, last))))
}

/// A frame of all channels: one silent side must not hide the other.
struct Heard {
    speech: bool,
    sound: bool,
    loud: bool,
}

struct Ears<'a> {
    file: &'a mut RecordedFile,
    form: WavFormat,
    start: u64,
    activity: Vec<VoiceActivity>,
    frame: Vec<u8>,
    samples: Vec<i16>,
    channel: Vec<i16>,
}

impl Ears<'_> {
    fn new(file: &mut RecordedFile, form: WavFormat, start: u64) -> Ears<'_> {
        let activity = (0..form.channels).map(|_| VoiceActivity::new(SampleRate::Hz8000)).collect();
        let frame = vec![0; form.frame() as usize];
        Ears { file, form, start, activity, frame, samples: Vec::new(), channel: Vec::with_capacity(FRAME) }
    }

    /// The next frame; `None`: the file is shorter.
    fn hear(&mut self, at: u64) -> io::Result<Option<Heard>> {
        if self.file.read_at(self.start + at * self.form.frame(), &mut self.frame)? < self.frame.len() {
            return Ok(None);
        }
        self.samples.clear();
        self.form.coding.decode(&self.frame, &mut self.samples);
        let mut heard = Heard { speech: false, sound: false, loud: false };
        let channels = self.activity.len();
        for (number, activity) in self.activity.iter_mut().enumerate() {
            self.channel.clear();
            self.channel.extend(self.samples.iter().skip(number).step_by(channels));
            let activity = activity.handle_frame(&self.channel);
            heard.speech |= activity.active;
            heard.sound |= activity.sound;
            heard.loud |= is_loud(&self.channel);
        }
        Ok(Some(heard))
    }

    /// Where the last word ends of those that are spoken from `from` until `until`; what follows it may last to `end`.
    fn last_word(&mut self, from: u64, until: u64, end: u64) -> io::Result<Option<u64>> {
        let mut found: Option<(u64, u64)> = None;
        for at in from.saturating_sub(BEFORE)..end {
            let Some(heard) = self.hear(at)? else { break };
            if heard.speech && (from..until).contains(&at) {
                found = Some((at, at));
            } else if let Some((word, last)) = &mut found
                && heard.sound
                && at - *last <= GAP
                && at - *word <= AROUND
            {
                *last = at;
            }
        }
        Ok(found.map(|(_, last)| last))
    }
}

fn is_loud(samples: &[i16]) -> bool {
    let sum: u32 = samples.iter().map(|sample| u32::from(sample.unsigned_abs())).sum();
    sum > QUIET.saturating_mul(samples.len() as u32)
}

#[cfg(test)]
mod tests;
