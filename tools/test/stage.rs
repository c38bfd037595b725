//! One tested call on the virtual clock. The call model is the model of the server; this file is its shell, without SIP
//! and media.
//!
//! ```text
//!   Call ── commands ─► the stage: how long a sentence lasts, who answers ──► events ─► Call
//!        ── requests ─► the application, over HTTP; the clock stands still meanwhile ─► Call
//!   parties: digits, words and hang-ups of their steps ──────────────────────────────► Call
//! ```

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tandem_call::address::Address;
use tandem_call::call::Call;
use tandem_call::event::PlaybackEnd;
use tandem_call::leg::{LegInfo, LegOwner, SipFacts};
use tandem_call::output::{EndReason, LegCommand, LegEvent, Output, Progress};
use tandem_call::recording::{RecordingEnd, RecordingSpec};
use tandem_call::route::{Decision, Route};
use tandem_call::{Callback, Method, StatusEvent, Target};
use tandem_dialect::Dialect;
use tandem_documents::ScriptSlot;
use tandem_http::CookieJar;
use tandem_id::{CallId, LegId, Now, OpId, TranscriptionId};

use super::World;
use super::expectation::{Action, Step, What};
use super::file::{Application, CalledOutcome, Test};
use super::log::{Entry, Fact};
use super::party::Party;
use crate::call::problems::Problem;
use crate::call::steps::Sound;

/// Maximum number of requests in one test. At this number, the test fails: the documents of the application are a loop.
const MAX_REQUESTS: u32 = 1_000;
/// Maximum number of moments of the clock in one test.
const MAX_MOMENTS: u32 = 100_000;

/// One tested call.
pub(super) struct Stage<'a> {
    pub(super) world: &'a World,
    pub(super) test: &'a Test,
    pub(super) dialect: &'a Arc<dyn Dialect>,
    pub(super) call: Call,
    began: Now,
    /// Time since the start of the call, on the virtual clock.
    pub(super) now: Duration,
    /// The events that are due at a time, in the order in which they were planned.
    agenda: BTreeMap<(Duration, u64), (LegId, LegEvent)>,
    planned: u64,
    /// The caller is the first party.
    pub(super) parties: Vec<Party>,
    recordings: BTreeMap<(LegId, OpId), Running>,
    /// The text of each spoken playback. The party has heard the text when the playback ends.
    pub(super) texts: HashMap<(LegId, OpId), String>,
    pub(super) transcriptions: HashMap<(LegId, OpId), TranscriptionId>,
    pub(super) log: Vec<Entry>,
    pub(super) scripts: HashMap<LegId, ScriptSlot>,
    /// The number of status notices of each leg.
    pub(super) sequences: HashMap<LegId, u32>,
    pub(super) jar: CookieJar,
    pub(super) requests: u32,
    pub(super) problems: Vec<Problem>,
    /// The reason why the test failed.
    pub(super) failure: Option<String>,
    /// The reason why the application was not reached by the first request.
    pub(super) unreachable: Option<String>,
}

/// A recording that runs.
struct Running {
    began: Duration,
    spec: RecordingSpec,
}

impl<'a> Stage<'a> {
    pub(super) fn new(world: &'a World, test: &'a Test, dialect: &'a Arc<dyn Dialect>) -> Self {
        let began = tandem_host::clock::now();
        let call = Call::new(CallId::new(began.time, &mut rand::rng()), rand::random(), began);
        Self {
            world,
            test,
            dialect,
            call,
            began,
            now: Duration::ZERO,
            agenda: BTreeMap::new(),
            planned: 0,
            parties: Vec::new(),
            recordings: BTreeMap::new(),
            texts: HashMap::new(),
            transcriptions: HashMap::new(),
            log: Vec::new(),
            scripts: HashMap::new(),
            sequences: HashMap::new(),
            jar: CookieJar::default(),
            requests: 0,
            problems: Vec::new(),
            failure: None,
            unreachable: None,
        }
    }

    /// Runs the call to its end, and executes the steps of all parties.
    pub(super) async fn run(&mut self) {
        self.arrive();
        for moment in 0.. {
            self.perform().await;
            if self.act() {
                continue;
            }
            if self.call.is_finished() {
                break;
            }
            let over = match self.next_due() {
                _ if moment > MAX_MOMENTS => Some("the call does too much".to_owned()),
                _ if self.requests > MAX_REQUESTS => {
                    Some(format!("the call made {MAX_REQUESTS} requests: its documents are a loop"))
                }
                None => Some("the call waits for something that a test does not have".to_owned()),
                Some(due) if due > self.test.settings.timeout => Some(format!(
                    "the call still runs after {} s of the virtual clock: let a step end it (\"hangup\"), or set timeout",
                    self.test.settings.timeout.as_secs_f64()
                )),
                Some(due) => {
                    self.clock_to(due);
                    None
                }
            };
            if let Some(why) = over {
                self.fail(why);
                self.end_all().await;
                break;
            }
        }
        self.judge();
    }

    /// The call arrives at the number of the application.
    fn arrive(&mut self) {
        let settings = &self.test.settings;
        let leg = LegId::new(self.began.time, &mut rand::rng());
        let owner = LegOwner::new(self.world.account.name.clone(), settings.provider.as_str());
        let (from, to) = (Address::from(settings.from.as_str()), Address::from(settings.to.as_str()));
        let info = LegInfo {
            sip: SipFacts { call_id: Some(leg.to_string().into()), trunk: Some("test".into()), ..SipFacts::default() },
            ..LegInfo::inbound(leg, self.call.id(), owner.clone(), from, to, self.began.time)
        };
        let target = |url: &str, method| Target { url: url.into(), method };
        let decision = match &settings.application {
            Some(Application::Url(url)) => Decision::Document {
                target: target(url, settings.voice_method),
                fallback: settings.fallback_url.as_deref().map(|url| target(url, Method::Post)),
            },
            Some(Application::Document(text)) => match self.world.document(&settings.provider, text) {
                Ok(program) => Decision::Program(program),
                Err(why) => {
                    self.fail(format!("document: {why}"));
                    return;
                }
            },
            None => return,
        };
        let status = settings.status_callback.as_deref();
        let status = status.map(|url| Callback::new(target(url, Method::Post), vec![StatusEvent::Completed]));
        self.note("", format!("{} calls {}", settings.from, settings.to));
        self.parties.push(Party::new(leg, "caller".to_owned(), self.test.steps.clone(), self.now));
        self.call.handle_incoming(self.began, info, Route { owner, status, record: None, decision });
    }

    // ----- the clock ----------------------------------------------------------------------------------------------

    pub(super) fn instant(&self) -> Now {
        let gone = jiff::SignedDuration::try_from(self.now).unwrap_or_default();
        Now {
            instant: self.began.instant + self.now,
            time: self.began.time.saturating_add(gone).unwrap_or(self.began.time),
        }
    }

    /// Plans an event of a leg.
    pub(super) fn plan(&mut self, after: Duration, leg: LegId, event: LegEvent) {
        self.planned += 1;
        self.agenda.insert((self.now + after, self.planned), (leg, event));
    }

    /// Returns the next time at which something happens.
    fn next_due(&self) -> Option<Duration> {
        let timer = self.call.poll_timeout().map(|due| due.saturating_duration_since(self.began.instant));
        let planned = self.agenda.first_key_value().map(|((due, _), _)| *due);
        let recorded = self.recordings.iter().filter_map(|((leg, _), running)| self.recording_due(*leg, running));
        let parties = self.parties.iter().filter_map(|party| Self::party_due(party, self.now));
        timer
            .into_iter()
            .chain(planned)
            .chain(recorded.map(|(due, _)| due))
            .chain(parties)
            .min()
            .map(|due| due.max(self.now))
    }

    /// Returns the time at which a recording ends by itself.
    fn recording_due(&self, leg: LegId, running: &Running) -> Option<(Duration, RecordingEnd)> {
        let spoke =
            self.parties.iter().find(|party| party.leg == leg).map_or(Duration::ZERO, |party| party.spoke_until);
        let silence = running.spec.silence_timeout.map(|time| (spoke.max(running.began) + time, RecordingEnd::Silence));
        let length = running.spec.max_length.map(|time| (running.began + time, RecordingEnd::MaxLength));
        silence.into_iter().chain(length).min_by_key(|(due, _)| *due)
    }

    /// Returns the time at which the running step of a party ends or fails.
    fn party_due(party: &Party, now: Duration) -> Option<Duration> {
        match party.step()? {
            Step::Wait(time) => Some(party.since + *time),
            Step::Expect { what, within } => {
                let deadline = party.since + *within;
                let silence = match what {
                    What::Sound(Sound::Silence(time)) if party.is_silent() => Some(party.silent_since + *time),
                    _ => None,
                };
                silence.filter(|due| *due >= now && *due <= deadline).or(Some(deadline))
            }
            _ => party.busy_until,
        }
    }

    /// Advances the clock, and feeds everything that is due.
    fn clock_to(&mut self, due: Duration) {
        self.now = due;
        while let Some(entry) = self.agenda.first_entry().filter(|entry| entry.key().0 <= due) {
            let (leg, event) = entry.remove();
            self.feed_planned(leg, event);
        }
        let ends: Vec<_> = self
            .recordings
            .iter()
            .filter_map(|(key, running)| Some((*key, self.recording_due(key.0, running)?)))
            .filter(|(_, (at, _))| *at <= due)
            .collect();
        for ((leg, op), (_, end)) in ends {
            self.end_recording(leg, op, end);
        }
        self.call.handle_timeout(self.instant());
    }

    pub(super) fn feed(&mut self, leg: LegId, event: LegEvent) {
        self.call.handle_leg(self.instant(), leg, event);
    }

    /// Feeds a planned event, unless something has stopped it.
    fn feed_planned(&mut self, leg: LegId, event: LegEvent) {
        if let LegEvent::PlayFinished { op, .. } = &event {
            let (op, now) = (*op, self.now);
            if !self.party(leg).is_some_and(|party| party.ends_playing(op, now)) {
                return;
            }
            let text = self.texts.remove(&(leg, op));
            if let (Some(text), Some(party)) = (text, self.party(leg)) {
                party.heard(&text);
            }
        }
        if let LegEvent::Answered { .. } = &event
            && let Some(party) = self.party(leg)
        {
            party.answered = true;
        }
        self.feed(leg, event);
    }

    // ----- the parties --------------------------------------------------------------------------------------------

    pub(super) fn party(&mut self, leg: LegId) -> Option<&mut Party> {
        self.parties.iter_mut().find(|party| party.leg == leg)
    }

    pub(super) fn name(&self, leg: LegId) -> String {
        self.parties.iter().find(|party| party.leg == leg).map_or_else(String::new, |party| party.name.clone())
    }

    /// Lets every party continue with its steps. Returns whether anything happened.
    fn act(&mut self) -> bool {
        (0..self.parties.len()).any(|place| self.failure.is_none() && self.act_one(place))
    }

    fn act_one(&mut self, place: usize) -> bool {
        let (now, finished) = (self.now, self.call.is_finished());
        let Some(party) = self.parties.get_mut(place) else { return false };
        let (leg, over) = (party.leg, party.over);
        let Some(step) = party.step().cloned() else {
            let listens = party.steps.last().is_none_or(|last| !matches!(last, Step::Expect { .. }));
            // The caller hangs up after a final expectation, as the phone of `tandem call` does.
            if place == 0 && !listens && !over {
                self.hang_up(leg);
                return true;
            }
            return false;
        };
        let ended = |what: &dyn std::fmt::Display| format!("{what}: the call with the party had ended before");
        match step {
            Step::Wait(time) if over || now >= party.since + time => party.step_done(now),
            Step::Hangup => {
                party.step_done(now);
                if !over {
                    self.hang_up(leg);
                }
            }
            // The end of the call ends the step.
            Step::Press(_) | Step::Say(_) if over && party.busy_until.is_some() => party.step_done(now),
            Step::Press(_) | Step::Say(_) if over => {
                let why = ended(&step);
                self.fail_step(place, why);
            }
            Step::Press(digits) if party.busy_until.is_none() && party.answered => self.press(place, &digits),
            Step::Say(text) if party.busy_until.is_none() && party.answered => self.speak(place, &text),
            Step::Say(text) if party.busy_until.is_some_and(|until| now >= until) => {
                party.step_done(now);
                self.has_spoken(leg, &text);
            }
            Step::Press(_) if party.busy_until.is_some_and(|until| now >= until) => party.step_done(now),
            Step::Expect { ref what, within } => {
                let met = match what {
                    What::Sound(Sound::Problem(expected)) => self.problems.iter().any(|one| expected.is(one)),
                    what => party.meets(what, &self.log, now),
                };
                if met {
                    party.step_done(now);
                } else if finished
                    || over && matches!(what, What::Sound(_)) && !matches!(what, What::Sound(Sound::Problem(_)))
                {
                    let heard = party.latest_words();
                    self.fail_step(place, format!("expected {what}, but the call ended{}", after_words(&heard)));
                } else if now >= party.since + within {
                    let (heard, limit) = (party.latest_words(), within.as_secs_f64());
                    self.fail_step(place, format!("expected {what} within {limit} s{}", after_words(&heard)));
                } else {
                    return false;
                }
            }
            _ => return false,
        }
        true
    }

    fn press(&mut self, place: usize, digits: &str) {
        let mut at = Duration::ZERO;
        let Some(party) = self.parties.get_mut(place) else { return };
        party.acts(&self.log);
        let (leg, other) = (party.leg, party.bridged);
        let mut events = Vec::new();
        for digit in digits.chars() {
            if matches!(digit, 'w' | 'W') {
                at += Duration::from_millis(500);
            } else {
                events.push((at, digit.to_ascii_uppercase()));
                at += Duration::from_millis(200);
            }
        }
        party.busy_until = Some(self.now + at);
        self.note_of(leg, format!("presses {digits}"), Fact::Note);
        if let Some(other) = other {
            self.note_of(other, format!("hears the keys {digits}"), Fact::Keys(other, digits.to_ascii_uppercase()));
        }
        for (at, digit) in events {
            self.plan(at, leg, LegEvent::Dtmf(digit));
        }
        // The first digit is due now.
        self.clock_to(self.now);
    }

    fn hang_up(&mut self, leg: LegId) {
        let Some(party) = self.party(leg) else { return };
        party.over = true;
        let reason = if party.answered { EndReason::HungUp } else { EndReason::Cancelled };
        self.note_of(leg, "hangs up".to_owned(), Fact::Note);
        self.feed(leg, LegEvent::Ended { reason, sip_status: None, detail: None });
    }

    fn fail_step(&mut self, place: usize, why: String) {
        let Some(party) = self.parties.get(place) else { return };
        let who = if place == 0 { String::new() } else { format!("{}: ", party.name) };
        let step = party.next + 1;
        self.fail(format!("{who}step {step}: {why}"));
    }

    pub(super) fn fail(&mut self, why: String) {
        self.failure.get_or_insert(why);
        if let Some(leg) = self.parties.first().filter(|party| !party.over).map(|party| party.leg) {
            self.hang_up(leg);
        }
    }

    /// Ends all legs after a failure, so that the application gets its last notices.
    async fn end_all(&mut self) {
        self.call.handle_shutdown(self.instant());
        self.perform().await;
    }

    /// Fails a test whose call had a problem that no step expects. Such a problem often is the reason of another failure.
    fn judge(&mut self) {
        let steps = self.parties.iter().flat_map(|party| &party.steps);
        let expected: Vec<_> = steps
            .filter_map(|step| match step {
                Step::Expect { what: What::Sound(Sound::Problem(expected)), .. } => Some(expected),
                _ => None,
            })
            .collect();
        let found = self.problems.iter().find(|problem| !expected.iter().any(|one| one.is(problem)));
        let Some(problem) = found else { return };
        let advice = problem.advice.as_deref().unwrap_or_default();
        let why = format!("the call had the problem {}: {}. {advice}", problem.cause, problem.message);
        self.failure = Some(self.failure.take().map_or_else(|| why.clone(), |failure| format!("{failure}; {why}")));
    }

    // ----- outputs of the call --------------------------------------------------------------------------------------

    /// Performs all outputs of the call. Requests are sent meanwhile, and the clock stands still.
    async fn perform(&mut self) {
        while let Some(output) = self.call.poll_output() {
            match output {
                Output::Leg { leg, command } => self.command(leg, *command).await,
                Output::Fetch(fetch) => self.fetch(*fetch).await,
                Output::Event(event) => {
                    self.event(&event);
                    self.notify(&event).await;
                }
            }
        }
    }

    async fn command(&mut self, leg: LegId, command: LegCommand) {
        match command {
            LegCommand::Invite(invite) => self.invite(leg, &invite.to),
            LegCommand::Play { op, play, .. } => self.play(leg, op, play).await,
            LegCommand::SendDigits { op, digits, .. } => {
                let sent: String = digits.digits.chars().filter(|digit| !matches!(digit, 'w' | 'W')).collect();
                self.note_of(leg, format!("hears the keys {}", digits.digits), Fact::Keys(leg, sent));
                let count = u32::try_from(digits.digits.len()).unwrap_or(u32::MAX).min(1_000);
                self.plays_for(leg, op, Duration::from_millis(200) * count, PlaybackEnd::Completed);
            }
            LegCommand::Stop { op } => {
                let now = self.now;
                self.texts.remove(&(leg, op));
                if let Some(party) = self.party(leg) {
                    party.ends_playing(op, now);
                }
            }
            LegCommand::Record { op, spec, .. } => {
                self.note_of(leg, "is recorded".to_owned(), Fact::Action(Action::Record, Vec::new()));
                self.recordings.insert((leg, op), Running { began: self.now, spec });
            }
            LegCommand::StopRecording { op } => self.end_recording(leg, op, RecordingEnd::Stopped),
            LegCommand::Bridge { with } => {
                for (one, other) in [(leg, with), (with, leg)] {
                    if let Some(party) = self.party(one) {
                        party.bridged = Some(other);
                    }
                }
            }
            LegCommand::Unbridge => {
                let now = self.now;
                let other = self.party(leg).and_then(|party| party.bridged);
                for one in [Some(leg), other].into_iter().flatten() {
                    if let Some(party) = self.party(one) {
                        (party.bridged, party.silent_since) = (None, now);
                    }
                }
            }
            LegCommand::Answer => {
                if let Some(party) = self.party(leg) {
                    party.answered = true;
                }
                self.call.set_codec(leg, "PCMU");
            }
            other => self.engine(leg, other),
        }
    }

    fn invite(&mut self, leg: LegId, to: &Address) {
        let text = to.to_string();
        let called = &self.test.settings.called;
        let Some(called) = called.iter().find(|one| one.address == text || one.address == to.user()).cloned() else {
            self.fail(format!(
                "the application calls {text}, and the test does not say what this party does: add called = {{ \"{text}\" = \"answer\" }}"
            ));
            let reason = EndReason::Unreachable;
            return self.feed(leg, LegEvent::Ended { reason, sip_status: None, detail: None });
        };
        let mut party = Party::new(leg, text, called.steps, self.now);
        party.acts(&self.log);
        party.machine = called.machine;
        self.parties.push(party);
        let progress = Progress { alerting: true, early_media: false };
        match called.outcome {
            CalledOutcome::Refuse(status) => {
                let refused = LegEvent::Ended { reason: EndReason::Rejected, sip_status: Some(status), detail: None };
                self.plan(called.after, leg, refused);
            }
            CalledOutcome::NoAnswer => self.plan(Duration::ZERO, leg, LegEvent::Ringing { progress }),
            CalledOutcome::Answer => {
                self.plan(Duration::ZERO, leg, LegEvent::Ringing { progress });
                let codec = Some("PCMU".to_owned());
                let answered = LegEvent::Answered { codec, headers: Default::default(), dialog: None };
                self.plan(called.after, leg, answered);
            }
        }
    }

    pub(super) fn is_recorded(&self, leg: LegId) -> bool {
        self.recordings.keys().any(|(of, _)| *of == leg)
    }

    fn end_recording(&mut self, leg: LegId, op: OpId, end: RecordingEnd) {
        let Some(running) = self.recordings.remove(&(leg, op)) else { return };
        let duration = self.now.saturating_sub(running.began);
        self.feed(leg, LegEvent::RecordingFinished { op, end, duration, recorded: duration });
    }

    /// Plans the end of a playback.
    pub(super) fn plays_for(&mut self, leg: LegId, op: OpId, time: Duration, end: PlaybackEnd) {
        if let Some(party) = self.party(leg) {
            party.playing.insert(op);
        }
        self.plan(time, leg, LegEvent::PlayFinished { op, end });
    }
}

/// Returns the words that a party heard, for the message of a failed step.
fn after_words(heard: &str) -> String {
    match heard {
        "" => String::new(),
        heard => format!("; heard: \"{heard}\""),
    }
}
