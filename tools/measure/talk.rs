//! One measured call: asks questions, interrupts answers, and keeps the waveforms of both directions.

use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use tandem_media as media;
use tandem_sip as sip;
use tandem_speech::recognise;
use tokio::signal::unix::Signal;
use tokio::time::{Instant, timeout_at};

use super::mouth::{FRAME, Mouth, Said};
use super::questions::{Questions, Recording};
use super::waveform::{self, Answer, RATE, Sound, Stop, sounds};
use crate::call::phone::{Input, Phone};

/// Maximum time until the call is answered.
const RING: Duration = Duration::from_secs(30);
/// Maximum time until the end of a call that this phone ends.
const LEAVE: Duration = Duration::from_secs(3);
/// Maximum time until the first word of the greeting, and of an answer, in ms.
const GREETING_MS: usize = 4_000;
const ANSWER_MS: usize = 15_000;
/// Maximum length of an answer, in ms. A longer answer is interrupted by the next question.
const LONGEST_MS: usize = 40_000;
/// The far end has finished its answer after this time of silence, in ms. It is longer than the pause between two
/// sentences, and than the pause after a phrase such as "One moment.".
const QUIET_MS: usize = 3_000;
/// Time from the beginning of an answer to its interruption, in ms. Each interruption comes at another time.
const SPOKEN_MS: usize = 900;
const SPREAD_MS: usize = 700;
/// Maximum time from the end of an interruption to silence, in ms.
const STOP_MS: usize = 4_000;
/// Maximum time until the far end replies to an interruption, in ms. It need not reply.
const REPLY_MS: usize = 5_000;
/// Time of silence after which the far end has stopped, in ms.
const STOPPED_MS: usize = 500;
/// Audio that the phone has in advance, in frames.
const AHEAD: usize = 3;
/// The last part of the received audio that is searched for sounds while the call runs, in seconds.
const RECENT: usize = 6;
/// Longest delay of a recording on a slow machine, in ms.
const LATE_MS: usize = 2_000;
const UNMEASURED: &str = "not measured: this machine was too slow";
/// Time between two searches, in ms.
const SEARCH_MS: usize = 200;
/// Maximum length of a call, in frames (20 minutes).
const MAX_FRAMES: usize = 20 * 60 * 50;

/// The measurements of one call.
#[derive(Debug, Default)]
pub(super) struct Measured {
    /// Each question with its answer. A question after the far end has hung up has no answer.
    pub(super) answers: Vec<(String, Answer)>,
    /// Each interruption with what the far end did.
    pub(super) stops: Vec<(String, Stop)>,
    /// The number of recordings that were not found in the sent audio, because this machine was too slow.
    pub(super) unmeasured: usize,
    /// The number of questions that were not asked, because this phone has ended the call.
    pub(super) not_asked: usize,
}

/// The reason why a call is over.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Over {
    /// The far end has hung up.
    HungUp,
    /// The call has its maximum length.
    TooLong,
    /// The user wants to stop.
    Interrupted,
}

impl std::fmt::Display for Over {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::HungUp => "the agent has hung up",
            Self::TooLong => "the call has its maximum length of 20 minutes",
            Self::Interrupted => "stopped",
        })
    }
}

/// A call that was answered.
pub(super) struct Talk<'a> {
    phone: Phone,
    tap: media::TapReader,
    writer: media::StreamWriter,
    mouth: Mouth,
    received: Vec<i16>,
    /// The user's wish to stop.
    interrupts: Option<&'a mut Signal>,
    over: Option<Over>,
}

impl<'a> Talk<'a> {
    /// Waits for the answer of a call. Without an answer, the phone cancels the call and stops.
    ///
    /// # Errors
    /// Returns the reason why nobody answered.
    pub(super) async fn begin(
        mut phone: Phone,
        mut tap: media::TapReader,
        mouth: Mouth,
        mut interrupts: Option<&'a mut Signal>,
    ) -> anyhow::Result<Self> {
        let mut has_ended = false;
        let writer = match await_answer(&mut phone, &mut tap, &mut interrupts, &mut has_ended).await {
            Ok(()) => phone.feed(Duration::from_secs(1))?,
            Err(why) => {
                if !has_ended {
                    leave(&mut phone).await;
                }
                phone.stop().await;
                return Err(why);
            }
        };
        let mut talk = Self { phone, tap, writer, mouth, received: Vec::new(), interrupts, over: None };
        (0..AHEAD).for_each(|_| talk.write());
        Ok(talk)
    }

    /// Asks all questions and interrupts the answers of the long ones. `call` is the number of this call, from 0. `progress`
    /// gets a line for each measurement.
    pub(super) async fn measure(
        &mut self,
        questions: &Questions,
        call: usize,
        mut progress: impl FnMut(String),
    ) -> Measured {
        let mut measured = Measured::default();
        self.await_sound(self.now(), GREETING_MS).await;
        self.await_quiet().await;
        let short = questions.short.iter().map(|question| (question, false));
        let long = questions.long.iter().map(|question| (question, true));
        let mut interruptions = call * questions.long.len();
        for (question, is_long) in short.chain(long) {
            let said = self.say(question).await;
            let answer = match (said, self.over) {
                (Some(said), _) => self.answer(said).await,
                (None, Some(Over::HungUp)) => Answer::Missing,
                (None, Some(over)) => {
                    progress(line(&question.name, &format!("not asked: {over}")));
                    measured.not_asked += 1;
                    continue;
                }
                (None, None) => {
                    progress(line(&question.name, UNMEASURED));
                    measured.unmeasured += 1;
                    continue;
                }
            };
            let text = match (answer, self.over) {
                (Answer::After(ms), _) => format!("answer after {ms} ms"),
                (Answer::Early, _) => "the agent spoke before the end of the question".to_owned(),
                (Answer::Missing, Some(over)) => format!("no answer: {over}"),
                (Answer::Missing, None) => "no answer".to_owned(),
            };
            progress(line(&question.name, &text));
            measured.answers.push((question.name.clone(), answer));
            if is_long && answer != Answer::Missing && !questions.stops.is_empty() {
                let stop = questions.stops.get(interruptions % questions.stops.len());
                if let Some(stop) = stop {
                    self.interrupt(stop, interruptions, &mut measured, &mut progress).await;
                }
                interruptions += 1;
            }
            self.await_quiet().await;
        }
        measured
    }

    /// Hangs up, and stops the phone. Returns why the call was over before.
    pub(super) async fn end(mut self) -> Option<Over> {
        if self.over != Some(Over::HungUp) {
            leave(&mut self.phone).await;
        }
        self.phone.close();
        self.phone.stop().await;
        self.over
    }

    /// Waits for the answer to a question.
    async fn answer(&mut self, said: Said) -> Answer {
        self.await_sound(said.ended, ANSWER_MS).await;
        waveform::answer_after(&sounds(&self.received), said.ended, said.ended + ANSWER_MS)
    }

    /// Interrupts the far end, which has begun to speak.
    async fn interrupt(
        &mut self,
        recording: &Recording,
        number: usize,
        measured: &mut Measured,
        progress: &mut impl FnMut(String),
    ) {
        let wait = SPOKEN_MS + number * 137 % SPREAD_MS;
        self.run_until(self.now() + wait).await;
        let Some(said) = self.say(recording).await else {
            let Some(over) = self.over else {
                measured.unmeasured += 1;
                return progress(line(&recording.name, UNMEASURED));
            };
            return progress(line(&recording.name, &format!("not measured: {over}")));
        };
        let until = said.ended + STOP_MS;
        let is_over = |sounds: &[Sound], now: usize| {
            sounds.iter().all(|sound| sound.began >= said.ended || sound.ended + STOPPED_MS < now)
        };
        self.run_until_sounds(until, is_over).await;
        let stop = waveform::stop_after(&sounds(&self.received), said.began, said.ended, until);
        let text = match stop {
            Stop::After(ms) => format!("silent after {ms} ms"),
            Stop::WentOn => "the agent went on".to_owned(),
            Stop::WasSilent => "the agent was silent already".to_owned(),
        };
        progress(line(&recording.name, &text));
        measured.stops.push((recording.name.clone(), stop));
        // A late reply to the interruption must not count as the answer to the next question.
        self.await_sound(said.ended, REPLY_MS).await;
    }

    /// Sends a recording. Returns when its voice began and ended, or `None` if the call ended first.
    async fn say(&mut self, recording: &Recording) -> Option<Said> {
        let saying = self.mouth.say(recording);
        while !self.mouth.has_said(saying) {
            if !self.next_frame().await {
                return None;
            }
        }
        if let Some(said) = self.mouth.said(saying, recording) {
            return Some(said);
        }
        // This machine is too slow for the phone: the recording comes later.
        self.run_until(self.now() + LATE_MS).await;
        self.mouth.said(saying.late(LATE_MS), recording)
    }

    /// Waits until a sound begins after `since`, at most `limit` ms.
    async fn await_sound(&mut self, since: usize, limit: usize) {
        self.run_until_sounds(since + limit, |sounds, _| sounds.iter().any(|sound| sound.ended > since)).await;
    }

    /// Waits until the far end is silent.
    async fn await_quiet(&mut self) {
        let until = self.now() + LONGEST_MS;
        self.run_until_sounds(until, |sounds, now| sounds.last().is_none_or(|last| last.ended + QUIET_MS <= now)).await;
    }

    async fn run_until(&mut self, time: usize) {
        while self.now() < time && self.next_frame().await {}
    }

    /// Runs the call until the condition holds for the sounds of the last seconds and the current time, or until `limit`.
    async fn run_until_sounds(&mut self, limit: usize, holds: impl Fn(&[Sound], usize) -> bool) {
        while self.now() < limit {
            // The search can cost more than the duration of a frame, so not every frame has one.
            self.run_until(self.now() + SEARCH_MS).await;
            if self.over.is_some() {
                return;
            }
            let from = self.received.len().saturating_sub(RECENT * RATE);
            let shift = from * 1_000 / RATE;
            let mut recent = sounds(self.received.get(from..).unwrap_or_default());
            for sound in &mut recent {
                sound.began += shift;
                sound.ended += shift;
            }
            if holds(&recent, self.now()) {
                return;
            }
        }
    }

    /// Handles events until the next frame of both directions. Returns false if the call is over.
    async fn next_frame(&mut self) -> bool {
        while self.over.is_none() {
            tokio::select! {
                input = self.phone.inputs.recv() => match input {
                    Some(Input::Sip(sip::Event::Offered { sdp, .. })) => self.phone.answer_offer(sdp.as_deref()),
                    Some(Input::Sip(sip::Event::RefreshDue { .. })) => self.phone.refresh(),
                    Some(Input::Sip(sip::Event::Referred { .. })) => self.phone.refuse_transfer(),
                    Some(Input::Sip(sip::Event::Ended { .. })) | None => self.over = Some(Over::HungUp),
                    Some(_) => {}
                },
                () = interrupted(&mut self.interrupts) => self.over = Some(Over::Interrupted),
                frame = self.tap.next() => match frame {
                    Some(frame) => {
                        let samples = recognise::samples(&frame);
                        let at = usize::try_from(frame.timestamp_ms).unwrap_or(usize::MAX).min(MAX_FRAMES * 20);
                        if frame.track == media::Track::Outbound {
                            self.mouth.handle_sent(&samples, at);
                            continue;
                        }
                        // A frame that the tap dropped counts as silence.
                        self.received.resize(at * RATE / 1_000, 0);
                        self.received.extend(&samples);
                        self.mouth.handle_received(&samples);
                        self.write();
                        if self.received.len() >= MAX_FRAMES * FRAME {
                            self.over = Some(Over::TooLong);
                        }
                        return true;
                    }
                    None => self.over = Some(Over::HungUp),
                },
            }
        }
        false
    }

    /// The length of the received audio, in ms. The frames of both directions have the same clock.
    fn now(&self) -> usize {
        self.received.len() * 1_000 / RATE
    }

    fn write(&mut self) {
        let octets: Vec<u8> = self.mouth.next_frame().iter().flat_map(|sample| sample.to_le_bytes()).collect();
        // The buffer holds 1 s. If the far end's clock is slower, the frame is dropped, and the next one follows.
        let _ = self.writer.audio(Bytes::from(octets));
    }
}

/// Completes when the user wants to stop.
async fn interrupted(interrupts: &mut Option<&mut Signal>) {
    match interrupts {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}

/// Waits for the answer. Sets `has_ended` if the call has ended instead.
async fn await_answer(
    phone: &mut Phone,
    tap: &mut media::TapReader,
    interrupts: &mut Option<&mut Signal>,
    has_ended: &mut bool,
) -> anyhow::Result<()> {
    let deadline = Instant::now() + RING;
    loop {
        let input = tokio::select! {
            input = timeout_at(deadline, phone.inputs.recv()) => input,
            () = interrupted(interrupts) => anyhow::bail!("given up before the answer"),
            // The frames before the answer are of no interest.
            Some(_) = tap.next() => continue,
        };
        let input = input.ok().with_context(|| format!("nobody answered within {} s", RING.as_secs()))?;
        match input.context("the phone has ended")? {
            Input::Sip(sip::Event::Answered { sdp, .. }) => {
                if let Some(sdp) = sdp {
                    phone.accept(&sdp)?;
                }
                return Ok(());
            }
            Input::Sip(sip::Event::Provisional { sdp: Some(sdp), .. }) => drop(phone.accept(&sdp)?),
            Input::Sip(sip::Event::Ended { cause, status, reason, .. }) => {
                *has_ended = true;
                let status = status.map(|status| format!(" {status}")).unwrap_or_default();
                let reason = reason.map(|reason| format!(" {reason}")).unwrap_or_default();
                anyhow::bail!("the call was not answered:{status}{reason} ({cause})");
            }
            _ => {}
        }
    }
}

/// Hangs up or cancels the call, and waits for its end.
async fn leave(phone: &mut Phone) {
    phone.hang_up();
    let deadline = Instant::now() + LEAVE;
    while let Ok(Some(input)) = timeout_at(deadline, phone.inputs.recv()).await {
        if matches!(input, Input::Sip(sip::Event::Ended { .. })) {
            return;
        }
    }
}

fn line(name: &str, text: &str) -> String {
    format!("  {name:<16}{text}")
}
