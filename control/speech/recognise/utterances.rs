//! Live speech for engines that accept only files. The audio is cut into utterances at pauses. The engine gets the
//! utterances one by one.

use std::collections::VecDeque;
use std::pin::Pin;
use std::time::Duration;

use tandem_call::recognition::{RecognisedText, RecognitionEvent, RecognitionSpec};
use tokio::sync::mpsc;

use super::RecogniseError;
use super::file::{FileEngine, wav};
use super::frames::{FRAME, FrameReader};

/// Number of samples that an utterance keeps from the time before speech was detected: 400 ms. When speech is detected,
/// it has already lasted for 100 to 200 ms.
const BEFORE: usize = 20 * FRAME;
/// Number of silent frames that end an utterance after a pause was detected: 300 ms. A pause is detected after 200 ms,
/// so the silence lasts 500 ms in total.
const AFTER: u16 = 15;
/// Maximum length of an utterance in samples: 30 s. A longer utterance is cut at this length.
const LONGEST: usize = 30 * 8_000;
/// Maximum number of utterances that wait for the engine. If more utterances wait, the session fails.
const WAITING: usize = 8;

type Answer<'a> = Pin<Box<dyn Future<Output = Result<RecognisedText, String>> + Send + 'a>>;

/// Runs until the audio has ended and the engine has answered all utterances.
pub(super) async fn run(
    engine: &FileEngine,
    how: &RecognitionSpec,
    mut reader: FrameReader,
    results: &mpsc::Sender<Result<RecognitionEvent, RecogniseError>>,
) -> Result<(), String> {
    let time = Duration::from_secs(engine.config.timeout_seconds.into());
    let mut cutter = Cutter::default();
    let mut waiting: VecDeque<Vec<i16>> = VecDeque::new();
    let mut pending: Option<Answer<'_>> = None;
    let mut listening = true;
    // Whether the last request has an utterance that may continue after the pause.
    let mut at_pause = false;
    loop {
        if pending.is_none() {
            pending = waiting
                .pop_front()
                .map(|samples| Box::pin(engine.transcribe(wav(&samples).into(), how, time)) as Answer<'_>);
        }
        if !listening && pending.is_none() {
            return Ok(());
        }
        tokio::select! {
            frame = reader.frame(), if listening => {
                let Some(frame) = frame else {
                    listening = false;
                    waiting.extend(cutter.cut());
                    continue;
                };
                let paused = frame.edge == Some(RecognitionEvent::Paused);
                if let Some(edge) = frame.edge && results.send(Ok(edge)).await.is_err() {
                    return Ok(());
                }
                let cut = cutter.push(&frame.samples, reader.speaking());
                match how.at_pauses && !reader.speaking() {
                    // The utterance was already requested at the pause. Now the utterance has certainly ended.
                    true if cut.is_some() => at_pause = false,
                    true if paused => {
                        waiting.push_back(cutter.so_far());
                        at_pause = true;
                    }
                    true => {}
                    false => {
                        // The speaker continues, so the request is cancelled. At the next pause, the whole utterance is
                        // requested.
                        if std::mem::take(&mut at_pause) && waiting.pop_back().is_none() {
                            pending = None;
                        }
                        waiting.extend(cut);
                    }
                }
                if waiting.len() > WAITING {
                    return Err("the engine is too slow".to_owned());
                }
            }
            answer = answered(&mut pending) => {
                pending = None;
                if waiting.is_empty() && std::mem::take(&mut at_pause) {
                    cutter.cut();
                }
                if results.send(Ok(RecognitionEvent::Final(answer?))).await.is_err() {
                    return Ok(());
                }
            }
            () = results.closed() => return Ok(()),
        }
    }
}

/// Returns the answer to the current request. Without a request, this future never completes.
async fn answered(pending: &mut Option<Answer<'_>>) -> Result<RecognisedText, String> {
    match pending {
        Some(answer) => answer.await,
        None => std::future::pending().await,
    }
}

/// Cuts a sequence of frames into utterances, without I/O.
#[derive(Default)]
struct Cutter {
    audio: Vec<i16>,
    /// Whether an utterance has begun.
    in_utterance: bool,
    /// Number of frames since the last frame with speech.
    silent: u16,
}

impl Cutter {
    /// Adds the next frame of 20 ms. Returns the utterance if this frame ends it.
    fn push(&mut self, frame: &[i16], speaking: bool) -> Option<Vec<i16>> {
        self.audio.extend_from_slice(frame);
        if speaking {
            self.in_utterance = true;
            self.silent = 0;
        } else if self.in_utterance {
            self.silent += 1;
        } else {
            let old = self.audio.len().saturating_sub(BEFORE);
            self.audio.drain(..old);
        }
        if self.silent >= AFTER || self.audio.len() >= LONGEST {
            return self.cut();
        }
        None
    }

    fn so_far(&self) -> Vec<i16> {
        self.audio.clone()
    }

    /// Ends the utterance and returns it.
    fn cut(&mut self) -> Option<Vec<i16>> {
        self.silent = 0;
        let audio = std::mem::take(&mut self.audio);
        std::mem::take(&mut self.in_utterance).then_some(audio)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_utterance_has_silence_at_both_ends_and_a_maximum_length() {
        let mut cutter = Cutter::default();
        let frame = [1; FRAME];
        for _ in 0..100 {
            assert!(cutter.push(&frame, false).is_none());
        }
        for _ in 0..50 {
            assert!(cutter.push(&frame, true).is_none());
        }
        let cut = (0..).find_map(|_| cutter.push(&frame, false)).unwrap();
        assert_eq!(cut.len(), BEFORE + (50 + usize::from(AFTER)) * FRAME);
        assert!(cutter.cut().is_none(), "nothing was said since");
        let cut = (0..).find_map(|_| cutter.push(&frame, true)).unwrap();
        assert_eq!(cut.len(), LONGEST);
    }
}
