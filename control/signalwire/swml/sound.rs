//! Sounds in documents: `http://...`, `say:...`, `silence:...`, `ring:...`.

use std::time::Duration;

use tandem_call::program::instruction::{AudioSource, Play, Speech, Tone};

use super::parameters::{WEB, is_url};

/// The default voice.
const VOICE: &str = "Polly.Salli";
/// The default language.
const LANGUAGE: &str = "en-US";
/// Maximum duration of silence and ringing, in seconds.
const LONGEST: f64 = 3_600.0;
/// Default duration of ringing: one cycle of the ringback tone.
const CYCLE: Duration = Duration::from_secs(6);

/// A voice for speech synthesis.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Voice {
    pub(crate) name: String,
    pub(crate) language: String,
}

impl Voice {
    /// The voice with this name and language. SignalWire's defaults replace missing values.
    pub(crate) fn new(name: Option<String>, language: Option<String>) -> Self {
        Self {
            name: name.unwrap_or_else(|| VOICE.to_owned()),
            language: language.unwrap_or_else(|| LANGUAGE.to_owned()),
        }
    }

    /// The audio of this text in this voice.
    pub(crate) fn says(&self, text: &str) -> AudioSource {
        AudioSource::Speech(Speech {
            text: text.to_owned(),
            ssml: false,
            voice: Some(self.name.clone()),
            language: Some(self.language.clone()),
        })
    }
}

/// Parses a sound.
///
/// # Errors
/// A text that says why `text` is not a sound.
pub(crate) fn sound(text: &str, voice: &Voice) -> Result<Play, String> {
    let text = text.trim();
    if is_url(text, WEB) {
        return Ok(Play::once(AudioSource::Url(text.to_owned())));
    }
    let (kind, rest) = text.split_once(':').unwrap_or((text, ""));
    let rest = rest.trim();
    match kind {
        "say" => Ok(Play::once(voice.says(rest))),
        "silence" => length(rest).map(|length| Play::once(AudioSource::Silence(length))),
        "ring" => {
            let (seconds, country) = match rest.split_once(':') {
                Some((seconds, country)) => (length(seconds)?, country),
                None => (CYCLE, rest),
            };
            Ok(ringing(country, seconds))
        }
        _ => Err(format!("{text:?} is not a sound: expected a URL, say:, silence: or ring:")),
    }
}

/// The ringback tone of a country. The tone lasts for `length`.
pub(crate) fn ringing(country: &str, length: Duration) -> Play {
    let country = country.trim().to_ascii_lowercase();
    Play { max_duration: Some(length), ..Play::once(AudioSource::Tone(Tone::Ringback(country))) }
}

fn length(text: &str) -> Result<Duration, String> {
    let seconds = text.trim().parse::<f64>().ok().filter(|seconds| (0.0..=LONGEST).contains(seconds));
    seconds
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| format!("{text:?} is not a number of seconds from 0 to {LONGEST}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_play_url_is_a_file_speech_silence_or_a_ringback_tone() {
        let voice = Voice::new(None, None);
        let of = |text: &str| sound(text, &voice).unwrap();
        assert_eq!(of("https://u:p@h/a.mp3").source, AudioSource::Url("https://u:p@h/a.mp3".into()));
        let AudioSource::Speech(speech) = of("say: Hello: there").source else { panic!() };
        assert_eq!((&*speech.text, speech.voice.as_deref()), ("Hello: there", Some("Polly.Salli")));
        assert_eq!(of("silence:1.5").source, AudioSource::Silence(Duration::from_millis(1_500)));
        let ring = of("ring: 10:UK");
        assert_eq!(ring.source, AudioSource::Tone(Tone::Ringback("uk".into())));
        assert_eq!(ring.max_duration, Some(Duration::from_secs(10)));
        assert_eq!(of("ring:us").max_duration, Some(CYCLE));
        for text in ["", "beep", "silence:x", "silence:-1", "ring:x:us", "file:///etc/passwd"] {
            assert!(sound(text, &voice).is_err(), "{text}");
        }
    }
}
