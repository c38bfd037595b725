//! Finds the part of a recording that remains when the silence at both ends is removed.
//!
//! ```text
//!   |--- noise ---|h|ello .......... bye|--- noise ---|
//!              first                    end
//! ```
//!
//! Voice activity detection finds the words in any noise. Sound that is louder than the noise also remains if it is
//! directly before the first word or directly after the last word.
//!
//! A tone counts as words. The voice activity detector learns a steady tone as noise, so [`ToneFinder`] finds the tones.
//!
//! A recording without speech and without tones may be music. In this case only the level decides.

use std::io;

use crate::codec::SampleRate;
use crate::recorded::RecordedFile;
use crate::rtp::FRAME;
use crate::vad::VoiceActivity;
use crate::wav::WavFormat;

mod tone;

use self::tone::{TONE_FRAMES, ToneFinder};

/// The highest mean level of a quiet frame: about -46 dBFS.
const QUIET: u32 = 160;
/// The number of frames before the first word, and after the last word, in which sound may still belong to speech. They
/// last 1 s. The next constant, `GAP`, is the largest distance in frames between two successive frames with such sound.
/// This distance is 200 ms.
const AROUND: u64 = 50;
const GAP: u64 = 10;
/// The number of frames that are searched together. They last 10 s. The search begins at the end of the recording and
/// goes backwards. The next constant, `BEFORE`, is the number of earlier frames from which the detector learns the
/// noise. They last 3 s.
const STRETCH: u64 = 500;
const BEFORE: u64 = 150;

/// Returns the start of the first frame to keep and the end of the last frame to keep. Both are offsets in octets from
/// `start`. Returns `None` if the recording is silent. `start` is the offset of the samples in `file`. The search needs
/// somewhat more than 10 us of CPU time for each frame that it reads. It reads the frames at both ends, or every frame if the
/// recording contains no speech.
pub(crate) fn find(file: &mut RecordedFile, form: WavFormat, start: u64) -> io::Result<Option<(u64, u64)>> {
    let whole = (file.len() - start) / form.frame().max(1);
    let octets = |(first, last): (u64, u64)| (first * form.frame(), (last + 1) * form.frame());
    let mut loud: Option<(u64, u64)> = None;
    // The current run of frames with sound. Gaps in a run have at most `GAP` frames.
    let mut run: Option<(u64, u64)> = None;
    let mut first = None;
    let mut scanner = SpeechScanner::new(file, form, start);
    for at in 0..whole {
        let Some(heard) = scanner.next_frame(at)? else { break };
        if heard.loud {
            loud = Some((loud.map_or(at, |(first, _)| first), at));
        }
        run = run.filter(|(_, last)| at - last <= GAP);
        if heard.sound || heard.speech {
            run = Some((run.map_or(at, |(first, _)| first), at));
        }
        if heard.is_wanted() {
            let began = match heard.tone {
                // The tone may begin within the frame before its first whole frame.
                Tone::Goes => {
                    at.saturating_sub(if heard.loud_frames > TONE_FRAMES { TONE_FRAMES } else { TONE_FRAMES - 1 })
                }
                Tone::Ends | Tone::None => at,
            };
            let sound = run.map_or(at, |(first, _)| first).max(at.saturating_sub(AROUND));
            first = Some((sound.min(began), at));
            break;
        }
    }
    let Some((first, spoken)) = first else { return Ok(loud.map(octets)) };
    let (mut until, mut last) = (whole, spoken);
    while until > spoken {
        let from = until.saturating_sub(STRETCH).max(spoken);
        let end = (until + AROUND).min(whole);
        if let Some(found) = SpeechScanner::new(scanner.file, form, start).last_speech(from, until, end)? {
            last = found;
            break;
        }
        until = from;
    }
    Ok(Some(octets((first, last))))
}

/// The properties of one frame. A flag is set if at least one channel has the property, because a silent channel must
/// not hide a channel with sound.
struct FrameKind {
    speech: bool,
    sound: bool,
    loud: bool,
    tone: Tone,
    /// The number of successive loud frames up to this frame, in the channel with the most.
    loud_frames: u64,
}

impl FrameKind {
    /// Whether the frame must remain.
    fn is_wanted(&self) -> bool {
        self.speech || self.tone != Tone::None
    }
}

/// The part of a tone in a frame.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tone {
    None,
    /// The frame ends at least 100 ms after the start of a tone that continues.
    Goes,
    /// The frame is loud and follows a tone, so the tone may end within this frame.
    Ends,
}

struct SpeechScanner<'a> {
    file: &'a mut RecordedFile,
    form: WavFormat,
    start: u64,
    channels: Vec<ChannelScanner>,
    frame: Vec<u8>,
    samples: Vec<i16>,
    channel: Vec<i16>,
}

/// The state of one channel.
struct ChannelScanner {
    activity: VoiceActivity,
    tones: ToneFinder,
    /// Whether the previous frame belongs to a tone.
    in_tone: bool,
    loud_frames: u64,
}

impl SpeechScanner<'_> {
    fn new(file: &mut RecordedFile, form: WavFormat, start: u64) -> SpeechScanner<'_> {
        let channel = |_| ChannelScanner {
            activity: VoiceActivity::new(SampleRate::Hz8000),
            tones: ToneFinder::default(),
            in_tone: false,
            loud_frames: 0,
        };
        let channels = (0..form.channels).map(channel).collect();
        let frame = vec![0; form.frame() as usize];
        SpeechScanner { file, form, start, channels, frame, samples: Vec::new(), channel: Vec::with_capacity(FRAME) }
    }

    /// Analyses frame number `at`. Returns `None` if the file ends before this frame.
    fn next_frame(&mut self, at: u64) -> io::Result<Option<FrameKind>> {
        if self.file.read_at(self.start + at * self.form.frame(), &mut self.frame)? < self.frame.len() {
            return Ok(None);
        }
        self.samples.clear();
        self.form.coding.decode(&self.frame, &mut self.samples);
        let mut heard = FrameKind { speech: false, sound: false, loud: false, tone: Tone::None, loud_frames: 0 };
        let count = self.channels.len();
        for (number, scanner) in self.channels.iter_mut().enumerate() {
            self.channel.clear();
            self.channel.extend(self.samples.iter().skip(number).step_by(count));
            let activity = scanner.activity.handle_frame(&self.channel);
            let loud = is_loud(&self.channel);
            scanner.loud_frames = if loud { scanner.loud_frames + 1 } else { 0 };
            let was_in_tone = std::mem::replace(&mut scanner.in_tone, scanner.tones.handle_frame(&self.channel, loud));
            heard.tone = match (scanner.in_tone, was_in_tone && loud) {
                (true, _) => Tone::Goes,
                (false, true) if heard.tone == Tone::None => Tone::Ends,
                _ => heard.tone,
            };
            heard.speech |= activity.active;
            heard.sound |= activity.sound;
            heard.loud |= loud;
            heard.loud_frames = heard.loud_frames.max(scanner.loud_frames);
        }
        Ok(Some(heard))
    }

    /// Returns the number of the last frame of the last speech, or of the last tone, in `from..until`. Sound directly after the speech counts
    /// as speech. This sound may continue after `until`, but ends before `end`.
    fn last_speech(&mut self, from: u64, until: u64, end: u64) -> io::Result<Option<u64>> {
        let mut found: Option<(u64, u64)> = None;
        for at in from.saturating_sub(BEFORE)..end {
            let Some(heard) = self.next_frame(at)? else { break };
            if heard.is_wanted() && (from..until).contains(&at) {
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
