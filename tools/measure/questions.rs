//! The recordings with which the command asks and interrupts an agent.

use std::path::Path;

use anyhow::{Context, bail};
use tandem_media as media;

use super::waveform::{RATE, sounds};

/// Maximum number of recordings, and maximum length of a recording in seconds.
const MAX_RECORDINGS: usize = 200;
const MAX_SECONDS: usize = 30;

/// The included recordings. The voice is Piper's `en_US-joe-medium` (CC0).
const INCLUDED: [(&str, &[u8]); 9] = [
    ("hours", include_bytes!("questions/hours.wav")),
    ("repair", include_bytes!("questions/repair.wav")),
    ("price", include_bytes!("questions/price.wav")),
    ("place", include_bytes!("questions/place.wav")),
    ("today", include_bytes!("questions/today.wav")),
    ("long-story", include_bytes!("questions/long-story.wav")),
    ("long-tour", include_bytes!("questions/long-tour.wav")),
    ("stop-question", include_bytes!("questions/stop-question.wav")),
    ("stop-wait", include_bytes!("questions/stop-wait.wav")),
];

/// A recording of a caller.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Recording {
    /// The name of the file without `.wav`.
    pub(super) name: String,
    pub(super) samples: Vec<i16>,
    /// The first and the last sample of the voice.
    pub(super) voice: (usize, usize),
}

/// The recordings by their purpose.
#[derive(Debug, Default)]
pub(super) struct Questions {
    /// Questions, whose answers are measured.
    pub(super) short: Vec<Recording>,
    /// Questions with a long answer, which is then interrupted.
    pub(super) long: Vec<Recording>,
    /// Interruptions.
    pub(super) stops: Vec<Recording>,
}

impl Questions {
    /// Returns the included recordings.
    pub(super) fn included() -> anyhow::Result<Self> {
        let mut questions = Self::default();
        for (name, octets) in INCLUDED {
            questions.add(name, octets)?;
        }
        Ok(questions)
    }

    /// Reads all WAV files of a folder, in the order of their names. The name of a file decides about its purpose:
    /// `long-*` is a question with a long answer, `stop-*` an interruption, and all others are questions.
    pub(super) fn read(folder: &Path) -> anyhow::Result<Self> {
        let shown = folder.display();
        let entries = std::fs::read_dir(folder).with_context(|| format!("--questions: {shown}"))?;
        let files = entries.flatten().map(|entry| entry.path());
        let is_wav = |file: &std::path::PathBuf| file.extension().is_some_and(|kind| kind.eq_ignore_ascii_case("wav"));
        let mut files: Vec<_> = files.filter(is_wav).collect();
        files.sort();
        if files.len() > MAX_RECORDINGS {
            bail!("--questions: {shown} has {} WAV files; the maximum is {MAX_RECORDINGS}", files.len());
        }
        let mut questions = Self::default();
        for file in files {
            let octets = std::fs::read(&file).with_context(|| format!("--questions: {}", file.display()))?;
            let name = file.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            questions.add(&name, &octets).with_context(|| format!("--questions: {}", file.display()))?;
        }
        if questions.short.is_empty() && questions.long.is_empty() {
            bail!("--questions: {shown} has no WAV file with a question");
        }
        Ok(questions)
    }

    fn add(&mut self, name: &str, octets: &[u8]) -> anyhow::Result<()> {
        let audio = media::read_wav(octets).context("not a WAV file that can be played")?;
        let recording = Recording::new(name, audio.samples())?;
        let purpose = match name.split('-').next() {
            Some("long") => &mut self.long,
            Some("stop") => &mut self.stops,
            _ => &mut self.short,
        };
        purpose.push(recording);
        Ok(())
    }
}

impl Recording {
    /// Finds the voice in samples at 8,000 Hz.
    ///
    /// # Errors
    /// Returns an error if there is no voice, or if the recording is too long.
    pub(super) fn new(name: &str, samples: &[i16]) -> anyhow::Result<Self> {
        if samples.len() > MAX_SECONDS * RATE {
            bail!("the recording has more than {MAX_SECONDS} s");
        }
        // Silence before and after the recording shows the level of the noise.
        let quiet = vec![0; RATE];
        let found = sounds(&[&quiet, samples, &quiet].concat());
        let (Some(first), Some(last)) = (found.first(), found.last()) else { bail!("the recording has no voice") };
        let sample = |ms: usize| (ms * RATE / 1_000).saturating_sub(RATE).min(samples.len());
        Ok(Self { name: name.to_owned(), samples: samples.to_vec(), voice: (sample(first.began), sample(last.ended)) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_included_recordings_are_short_and_each_has_one_voice() {
        let questions = Questions::included().unwrap();
        assert_eq!((questions.short.len(), questions.long.len(), questions.stops.len()), (5, 2, 2));
        for recording in questions.short.iter().chain(&questions.long).chain(&questions.stops) {
            let (began, ended) = recording.voice;
            assert!(began < 1_600 && ended > began + RATE / 2, "{} {began} {ended}", recording.name);
            assert!(
                recording.samples.len() < 4 * RATE && recording.samples.len() - ended < 3_200,
                "{}",
                recording.name
            );
        }
        assert!(INCLUDED.iter().map(|(_, octets)| octets.len()).sum::<usize>() < 200_000);
    }

    #[test]
    fn the_name_of_a_file_decides_about_its_purpose() {
        let folder = tempfile::tempdir().unwrap();
        let error = |folder: &Path| format!("{:#}", Questions::read(folder).unwrap_err());
        assert!(error(folder.path()).contains("no WAV file"));
        for (name, (_, octets)) in ["b.wav", "a.WAV", "long-1.wav", "stop-it.wav", "notes.txt"].iter().zip(INCLUDED) {
            std::fs::write(folder.path().join(name), octets).unwrap();
        }
        let questions = Questions::read(folder.path()).unwrap();
        let names = |recordings: &[Recording]| recordings.iter().map(|one| one.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&questions.short), ["a", "b"]);
        assert_eq!((names(&questions.long), names(&questions.stops)), (vec!["long-1".into()], vec!["stop-it".into()]));
        std::fs::write(folder.path().join("c.wav"), "text").unwrap();
        assert!(error(folder.path()).contains("c.wav: not a WAV file"), "{}", error(folder.path()));
        assert!(error(&folder.path().join("none")).contains("--questions"));
    }

    #[test]
    fn a_silent_recording_is_refused() {
        assert!(Recording::new("a", &[0; 8_000]).unwrap_err().to_string().contains("no voice"));
        assert!(Recording::new("a", &vec![0; 31 * RATE]).unwrap_err().to_string().contains("more than 30 s"));
    }
}
