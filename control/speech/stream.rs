//! Speech that is played while it is still being made.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tandem_call::engine::ESPEAK_SPEAKS;
use tandem_call::program::instruction::Speech;
use tandem_id::AccountName;
use tandem_metrics::timings::{Count, Timing};
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::maker::{Broken, Engine, Voicing, parts};
use super::socket::VoiceLine;
use super::ssml::Part;
use super::{CALL_TIMEOUT, ENGINE_RETRY_AFTER, LONGEST_TEXT, SpeechError, Spoken, Voice, key};

/// Number of parts that wait for their reader.
const PARTS: usize = 16;
/// Number of letters that a usual voice speaks in a second.
const LETTERS_PER_SECOND: usize = 15;

/// The connection of one conversation to the voice. Engines with a WebSocket interface keep one connection for all texts of
/// the conversation.
pub struct VoiceSession(Mutex<Option<(Arc<Option<Engine>>, VoiceLine)>>);

/// The speech for a text, in parts. Dropping the value cancels the work of the engine.
pub struct SpeechStream {
    parts: mpsc::Receiver<Result<SpokenPart, SpeechError>>,
    task: AbortHandle,
}

/// A part of the speech for a text.
#[derive(Clone, PartialEq, Debug)]
pub enum SpokenPart {
    /// Samples at 8,000 Hz, with one channel.
    Samples(Arc<[i16]>),
    /// The configured engine failed, for this reason. espeak-ng speaks the rest of the text.
    InsteadOf(String),
}

impl SpeechStream {
    /// Returns the next part. `None` at the end of the speech, and after an error. Cancel-safe.
    pub async fn next(&mut self) -> Option<Result<SpokenPart, SpeechError>> {
        self.parts.recv().await
    }
}

impl Drop for SpeechStream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

type Parts = mpsc::Sender<Result<SpokenPart, SpeechError>>;

/// The texts that an engine speaks now, by their cache keys.
pub(super) type Makings = Mutex<HashMap<[u8; 32], Weak<Making>>>;

/// A text that an engine speaks now. All callers who need the text meanwhile hear the same audio. Dropping the last reference
/// cancels the work of the engine.
pub(super) struct Making {
    made: watch::Receiver<Made>,
    task: AbortHandle,
}

/// The speech for a text so far.
#[derive(Default)]
struct Made {
    parts: Vec<Arc<[i16]>>,
    end: Option<Result<(), Broken>>,
}

impl Drop for Making {
    fn drop(&mut self) {
        if self.made.borrow().end.is_none() {
            self.task.abort();
        }
    }
}

impl Voice {
    /// Creates the session of a conversation. An engine with a WebSocket interface opens its connection now, so that the
    /// first text does not wait for the connection. The function must run within a tokio runtime.
    pub fn session(&self) -> VoiceSession {
        let session = VoiceSession(Mutex::default());
        self.line(&session, true);
        session
    }

    /// Starts to speak a text of this account for a caller who waits. If the engine needs more than 3 s for the first audio,
    /// or for the next audio, or if it fails, espeak-ng speaks the rest of the text. After that, espeak-ng also speaks the
    /// texts of the next 10 s.
    pub fn stream(self: &Arc<Self>, session: &VoiceSession, account: &AccountName, speech: &Speech) -> SpeechStream {
        let line = self.line(session, false);
        let (sender, parts) = mpsc::channel(PARTS);
        let (voice, account, speech) = (Arc::clone(self), account.clone(), speech.clone());
        let task = tokio::spawn(async move {
            if let Err(why) = voice.speak_in_parts(line.as_ref(), &account, &speech, &sender).await {
                voice.timings.count(Count::TtsFailed, 1);
                // The reader may have dropped the stream.
                let _ = sender.send(Err(why)).await;
            }
        });
        SpeechStream { parts, task: task.abort_handle() }
    }

    /// Returns the line of a session to the engine. A reload may have replaced the engine.
    fn line(&self, session: &VoiceSession, ahead: bool) -> Option<VoiceLine> {
        let engine = self.engine.load_full();
        let Some(Engine::Other(other, _)) = Option::as_ref(&engine) else { return None };
        let mut kept = session.0.lock();
        match &*kept {
            Some((known, line)) if Arc::ptr_eq(known, &engine) => Some(line.clone()),
            _ => {
                let line = other.line(ahead)?;
                *kept = Some((Arc::clone(&engine), line.clone()));
                Some(line)
            }
        }
    }

    async fn speak_in_parts(
        self: &Arc<Self>,
        line: Option<&VoiceLine>,
        account: &AccountName,
        speech: &Speech,
        sender: &Parts,
    ) -> Result<(), SpeechError> {
        let engine = self.engine.load_full();
        let (other, espeak) = match Option::as_ref(&engine) {
            Some(Engine::Other(other, espeak)) if is_speakable(speech) && other.speaks(speech) => (other, espeak),
            _ => {
                let Spoken { samples, instead_of } = self.say(account, speech).await?;
                send(sender, samples).await;
                if let Some(why) = instead_of {
                    let _ = sender.send(Ok(SpokenPart::InsteadOf(why))).await;
                }
                return Ok(());
            }
        };
        let voicing = other.voicing(speech);
        let rests = self.retry_at.lock().is_some_and(|until| until > Instant::now());
        if rests && !self.knows(&voicing, speech).await {
            send(sender, self.by_espeak(espeak, account, speech).await?).await;
            return Ok(());
        }
        let mut failed = false;
        for part in parts(speech) {
            let text = match part {
                Part::Words(text) => text,
                // There are 8 samples per millisecond.
                Part::Break(length) => {
                    send(sender, vec![0; length.as_millis() as usize * 8].into()).await;
                    continue;
                }
            };
            // An engine has no sound for a text without a letter, such as "...".
            if !text.contains(char::is_alphanumeric) {
                continue;
            }
            let mut words = Speech { text, ssml: false, ..speech.clone() };
            if let Some(samples) = self.known(&key(&voicing.identity, &words)).await {
                send(sender, samples).await;
                continue;
            }
            if !failed {
                let making = self.making(&engine, line, account, &voicing, &words);
                let Err(Broken { heard, why }) = making.read(sender).await else { continue };
                failed = true;
                self.timings.count(Count::TtsFailed, 1);
                if why.is_of_engine() {
                    *self.retry_at.lock() = Some(Instant::now() + ENGINE_RETRY_AFTER);
                }
                let why = format!("speech.tts: {why}; {ESPEAK_SPEAKS}");
                let _ = sender.send(Ok(SpokenPart::InsteadOf(why))).await;
                words.text = rest(&words.text, heard).to_owned();
            }
            if !words.text.trim().is_empty() {
                send(sender, self.by_espeak(espeak, account, &words).await?).await;
            }
        }
        Ok(())
    }

    /// Speaks a plain text with an engine other than espeak-ng, and stores the whole audio in the cache.
    fn making(
        self: &Arc<Self>,
        engine: &Arc<Option<Engine>>,
        line: Option<&VoiceLine>,
        account: &AccountName,
        voicing: &Voicing,
        words: &Speech,
    ) -> Arc<Making> {
        let key = key(&voicing.identity, words);
        let mut makings = self.makings.lock();
        let known = makings.get(&key).and_then(Weak::upgrade);
        if let Some(known) = known.filter(|known| known.made.borrow().end.is_none()) {
            return known;
        }
        makings.retain(|_, making| making.strong_count() > 0);
        let (sender, made) = watch::channel(Made::default());
        let (voice, engine, line) = (Arc::clone(self), Arc::clone(engine), line.cloned());
        let (account, voicing, text) = (account.clone(), voicing.clone(), words.text.clone());
        let task = tokio::spawn(async move {
            let Some(Engine::Other(other, _)) = Option::as_ref(&engine) else { return };
            let began = Instant::now();
            let mut reader = |samples| sender.send_modify(|made| made.parts.push(samples));
            let all =
                other.in_chunks(line.as_ref(), &account, &voicing, &text, (CALL_TIMEOUT, Some(&mut reader))).await;
            let (end, samples) = match all {
                Ok(all) => (Ok(()), Some(Arc::from(all))),
                Err(broken) => (Err(broken), None),
            };
            if let Some(samples) = &samples {
                voice.timings.took(Timing::TextToSpeech, began.elapsed());
                voice.cache.insert(key, Arc::clone(samples)).await;
            }
            // No caller waits for the disk.
            sender.send_modify(|made| made.end = Some(end));
            if let Some(samples) = samples {
                voice.disk.write(&key, &samples).await;
            }
        });
        let making = Arc::new(Making { made, task: task.abort_handle() });
        makings.insert(key, Arc::downgrade(&making));
        making
    }

    /// Whether the cache has the whole speech for a text.
    async fn knows(&self, voicing: &Voicing, speech: &Speech) -> bool {
        for part in parts(speech) {
            if let Part::Words(text) = part {
                let words = Speech { text, ssml: false, ..speech.clone() };
                if self.known(&key(&voicing.identity, &words)).await.is_none() {
                    return false;
                }
            }
        }
        true
    }

    async fn known(&self, key: &[u8; 32]) -> Option<Arc<[i16]>> {
        if let Some(samples) = self.cache.get(key).await {
            return Some(samples);
        }
        let samples = self.disk.read(key).await?;
        self.cache.insert(*key, Arc::clone(&samples)).await;
        Some(samples)
    }
}

impl Making {
    /// Passes all parts of the speech to a reader.
    async fn read(&self, reader: &Parts) -> Result<(), Broken> {
        let (mut made, mut sent, mut heard) = (self.made.clone(), 0, 0);
        loop {
            let news = made.wait_for(|made| made.parts.len() > sent || made.end.is_some()).await;
            let news = news.map(|made| (made.parts.get(sent..).unwrap_or_default().to_vec(), made.end.clone()));
            // An error means that the task has ended without a result.
            let failed = || SpeechError::Failed("the engine has failed".to_owned());
            let (parts, end) = news.map_err(|_| Broken { heard, why: failed() })?;
            sent += parts.len();
            for part in parts {
                heard += part.len();
                send(reader, part).await;
            }
            if let Some(end) = end {
                return end;
            }
        }
    }
}

/// Whether an engine gets the text. [`Voice::say`] handles the other texts.
fn is_speakable(speech: &Speech) -> bool {
    speech.text.len() <= LONGEST_TEXT && !speech.text.trim().is_empty()
}

async fn send(sender: &Parts, samples: Arc<[i16]>) {
    if !samples.is_empty() {
        // If the reader has dropped the stream, this task is aborted.
        let _ = sender.send(Ok(SpokenPart::Samples(samples))).await;
    }
}

/// Returns the rest of a text after this number of samples. The rest begins with a whole word. Because the engines do not
/// report which words they have spoken, the result is an estimate.
fn rest(text: &str, heard: usize) -> &str {
    let letters = heard * LETTERS_PER_SECOND / 8_000;
    let Some((at, _)) = text.char_indices().nth(letters) else { return "" };
    let (before, after) = text.split_at(at);
    match before.is_empty() || before.ends_with(char::is_whitespace) {
        true => after,
        false => after.split_once(char::is_whitespace).map_or("", |(_, rest)| rest),
    }
}

#[cfg(test)]
mod tests {
    use super::rest;

    #[test]
    fn the_rest_of_a_broken_text_begins_with_a_whole_word() {
        let text = "We are open from nine to five.";
        assert_eq!(rest(text, 0), text);
        assert_eq!(rest(text, 8_000), "nine to five.");
        assert_eq!(rest(text, 5_000), "from nine to five.");
        assert_eq!(rest(text, 20_000), "");
        assert_eq!(rest("Fünf Äpfel", 2_700), "Äpfel");
    }
}
