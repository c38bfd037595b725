//! Live speech for engines that take files: utterances are cut out of the audio at pauses, and asked for one by one.

use std::collections::VecDeque;
use std::pin::Pin;
use std::time::Duration;

use tandem_call::hearing::{Heard, Listening, Words};
use tokio::sync::mpsc;

use super::RecogniseError;
use super::ears::{Ears, FRAME};
use super::file::{FileEngine, wav};

/// Audio before the moment that somebody is known to speak: 400 ms, of which speech has lasted 100 or 200.
const BEFORE: usize = 20 * FRAME;
/// Frames of silence that end an utterance: 500 ms, with the 200 ms after which a pause is known.
const AFTER: u16 = 15;
/// Longest utterance, samples: 30 s; what is longer is cut there.
const LONGEST: usize = 30 * 8_000;
/// Utterances that wait for the engine; it is given up when more do.
const WAITING: usize = 8;

type Answer<'a> = Pin<Box<dyn Future<Output = Result<Words, String>> + Send + 'a>>;

/// Listens until no more audio comes and everything has been answered.
pub(super) async fn run(
    engine: &FileEngine,
    how: &Listening,
    mut ears: Ears,
    heard: &mpsc::Sender<Result<Heard, RecogniseError>>,
) -> Result<(), String> {
    let time = Duration::from_secs(engine.config.timeout_seconds.into());
    let mut cutter = Cutter::default();
    let mut waiting: VecDeque<Vec<i16>> = VecDeque::new();
    let mut asked: Option<Answer<'_>> = None;
    let mut listening = true;
    // What was asked last, or waits, is all of the utterance up to a pause in it.
    let mut at_pause = false;
    loop {
        if asked.is_none() {
            asked = waiting
                .pop_front()
                .map(|samples| Box::pin(engine.transcribe(wav(&samples).into(), how, time)) as Answer<'_>);
        }
        if !listening && asked.is_none() {
            return Ok(());
        }
        tokio::select! {
            frame = ears.frame(), if listening => {
                let Some(frame) = frame else {
                    listening = false;
                    waiting.extend(cutter.cut());
                    continue;
                };
                let paused = frame.edge == Some(Heard::Paused);
                if let Some(edge) = frame.edge && heard.send(Ok(edge)).await.is_err() {
                    return Ok(());
                }
                let cut = cutter.push(&frame.samples, ears.speaking());
                match how.at_pauses && !ears.speaking() {
                    // It was asked for at the pause: now its end is certain.
                    true if cut.is_some() => at_pause = false,
                    true if paused => {
                        waiting.push_back(cutter.so_far());
                        at_pause = true;
                    }
                    true => {}
                    false => {
                        // They go on: all of it is asked for at the next pause. The engine may stop.
                        if std::mem::take(&mut at_pause) && waiting.pop_back().is_none() {
                            asked = None;
                        }
                        waiting.extend(cut);
                    }
                }
                if waiting.len() > WAITING {
                    return Err("the engine is too slow".to_owned());
                }
            }
            answer = answered(&mut asked) => {
                asked = None;
                if waiting.is_empty() && std::mem::take(&mut at_pause) {
                    cutter.cut();
                }
                if heard.send(Ok(Heard::Final(answer?))).await.is_err() {
                    return Ok(());
                }
            }
            () = heard.closed() => return Ok(()),
        }
    }
}

/// The answer to what was asked; never without.
async fn answered(asked: &mut Option<Answer<'_>>) -> Result<Words, String> {
    match asked {
        Some(answer) => answer.await,
        None => std::future::pending().await,
    }
}

/// Cuts utterances out of frames. Pure.
#[derive(Default)]
struct Cutter {
    audio: Vec<i16>,
    /// Within an utterance.
    within: bool,
    /// Frames since the last one in which somebody spoke.
    silent: u16,
}

impl Cutter {
    /// The next 20 ms; the utterance that ends with them.
    fn push(&mut self, frame: &[i16], speaking: bool) -> Option<Vec<i16>> {
        self.audio.extend_from_slice(frame);
        if speaking {
            self.within = true;
            self.silent = 0;
        } else if self.within {
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

    /// A copy of the utterance so far.
    fn so_far(&self) -> Vec<i16> {
        self.audio.clone()
    }

    /// The utterance so far; the next one begins.
    fn cut(&mut self) -> Option<Vec<i16>> {
        self.silent = 0;
        let audio = std::mem::take(&mut self.audio);
        std::mem::take(&mut self.within).then_some(audio)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_utterance_has_a_little_silence_before_and_after_it_and_is_not_endless() {
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
