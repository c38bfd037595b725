//! The registration of this server at a trunk (RFC 3261 §10.2). The state machine registers, refreshes and unregisters.
//! If a server of the trunk fails, the state machine tries the next server.
//!
//! ```text
//!                  addresses              2xx
//!  Waiting ─> Locating ────────> Registering ────> Waiting (registered: until the refresh is due)
//!     ^           │ none           │ 401, 407: once more, with credentials
//!     │           │                │ 423: once more, with the lifetime in Min-Expires
//!     │           │                │ 408, 5xx, no response: the next address
//!     └───────────┴────────────────┴─ no address left, or any other refusal: a pause that doubles
//! ```
//!
//! `stop` removes the registration with `Expires: 0`, and ends the state machine.

use std::fmt;
use std::time::{Duration, Instant};

use rand::Rng;

use crate::digest;
use crate::flow::Target;
use crate::header;
use crate::leg::EndCause;
use crate::message::Response;
use crate::trunk::{Register, Registered};
use tandem_net::digest::Challenge;

/// Minimum and maximum pause after a missing response or a server failure.
const PAUSE: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));
/// Minimum and maximum pause after a refusal. A new attempt will probably get the same refusal. The values come from
/// RFC 5626 §4.5.
const REFUSED_PAUSE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(1_800));
/// Maximum value, in seconds, that this server accepts from a registrar for the lifetime and for Retry-After.
const MAX_LIFETIME: u32 = 7 * 24 * 3_600;
/// Maximum number of addresses of a registrar that are tried.
const MAX_TARGETS: usize = 16;

/// The last failure of a registration, with the details that the log shows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Failure {
    why: FailureReason,
    /// The address that was tried last. `None` if the name of the registrar resolved to no address.
    target: Option<Target>,
    /// Time from the failure to the next attempt.
    next_attempt_in: Duration,
}

#[derive(Debug, Clone, Copy)]
enum FailureReason {
    /// The registrar sent a final response with this status.
    Response(u16),
    /// The registrar sent no final response.
    NoResponse(EndCause),
    /// The name of the registrar has no address.
    NoAddress,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.target {
            Some(Target { transport, address, .. }) => {
                write!(f, "{}:{address}", transport.token().to_ascii_lowercase())?;
            }
            None => f.write_str("the registrar's host name")?,
        }
        match self.why {
            FailureReason::Response(status) => write!(f, " answered {status}")?,
            FailureReason::NoResponse(EndCause::Timeout) => f.write_str(" did not answer (RFC 3261 Timer F)")?,
            FailureReason::NoResponse(cause) => write!(f, ": {cause}")?,
            FailureReason::NoAddress => f.write_str(" has no address")?,
        }
        write!(f, "; next attempt in {:.0} s", self.next_attempt_in.as_secs_f64().ceil())
    }
}

/// The next step of a registration, which the endpoint executes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Wait until the time in [`Registration::next_timeout`].
    Wait,
    /// Send a REGISTER to [`Registration::target`].
    Send,
}

/// The parts of a final response that a registration needs.
#[derive(Debug, Default)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// Granted lifetime in seconds, if the response contains a lifetime.
    pub(crate) expires: Option<u32>,
    /// Min-Expires of a 423, in seconds.
    pub(crate) min_expires: Option<u32>,
    /// Value of Retry-After, in seconds.
    pub(crate) retry_after: Option<u32>,
    pub(crate) challenges: Vec<Challenge>,
    /// Value of `nextnonce` in Authentication-Info.
    pub(crate) next_nonce: Option<String>,
}

impl Reply {
    /// Reads a final response. A 200 may list several Contacts; `token` identifies the Contact of this server.
    pub(crate) fn of(response: &Response, token: u128) -> Self {
        let content = &response.content;
        let seconds = |name: &'static str| content.value(name).and_then(|value| leading_number(&value));
        Self {
            status: response.status,
            expires: granted(&content.values("Contact"), token).or_else(|| seconds("Expires")),
            min_expires: seconds("Min-Expires"),
            retry_after: seconds("Retry-After"),
            challenges: digest::challenges(response),
            next_nonce: digest::next_nonce(response),
        }
    }
}

/// The state machine of one registration.
#[derive(Debug)]
pub(crate) struct Registration {
    register: Register,
    /// The token in this server's Contact. A call to this Contact belongs to the trunk of this registration, even if
    /// the source of the call is unknown.
    pub(crate) token: u128,
    pub(crate) call_id: String,
    pub(crate) tag: u64,
    pub(crate) cseq: u32,
    pub(crate) session: Option<digest::Session>,
    attempts: digest::Attempts,
    state: State,
    targets: Vec<Target>,
    /// Index in `targets` of the address that is currently tried.
    target_index: usize,
    /// Lifetime, in seconds, that the REGISTER requests.
    lifetime: u32,
    lifetime_raised: bool,
    /// Time at which the granted lifetime ends. `None` if the registrar has no Contact of this server.
    registered_until: Option<Instant>,
    failures: u32,
    failure: Option<Failure>,
    status: Registered,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting(Instant),
    Locating,
    Registering,
    Withdrawing,
    Stopped,
}

impl Registration {
    /// Creates a registration, which starts at a random time within a second after `now`.
    pub(crate) fn new(now: Instant, register: Register, session: Option<digest::Session>, rng: &mut impl Rng) -> Self {
        let random = |rng: &mut dyn FnMut() -> u64| u128::from(rng()) << 64 | u128::from(rng());
        let mut draw = || rng.next_u64();
        let lifetime = u32::try_from(register.expires.as_secs()).unwrap_or(MAX_LIFETIME).clamp(1, MAX_LIFETIME);
        Self {
            register,
            token: random(&mut draw),
            call_id: format!("{:032x}", random(&mut draw)),
            tag: draw(),
            cseq: (draw() & 0xffff) as u32 + 1,
            session,
            attempts: digest::Attempts::default(),
            state: State::Waiting(now + Duration::from_millis(draw() % 1_000)),
            targets: Vec::new(),
            target_index: 0,
            lifetime,
            lifetime_raised: false,
            registered_until: None,
            failures: 0,
            failure: None,
            status: Registered::Pending,
        }
    }

    pub(crate) fn register(&self) -> &Register {
        &self.register
    }

    pub(crate) fn status(&self) -> Registered {
        self.status
    }

    /// Returns the last failure. `None` if there was no failure since the last success.
    pub(crate) fn failure(&self) -> Option<Failure> {
        self.failure
    }

    /// Returns the destination of the next REGISTER.
    pub(crate) fn target(&self) -> Option<Target> {
        self.targets.get(self.target_index).copied()
    }

    /// Returns the lifetime, in seconds, that the next REGISTER requests. 0 removes the registration.
    pub(crate) fn expires(&self) -> u32 {
        if self.state == State::Withdrawing { 0 } else { self.lifetime }
    }

    pub(crate) fn is_withdrawing(&self) -> bool {
        self.state == State::Withdrawing
    }

    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        let refresh = match self.state {
            State::Waiting(at) => Some(at),
            _ => None,
        };
        [refresh, self.registered_until].into_iter().flatten().min()
    }

    /// Returns whether the addresses of the registrar are needed now. If so, the caller must look up the addresses and
    /// pass them to [`Registration::handle_located`].
    pub(crate) fn is_due(&mut self, now: Instant) -> bool {
        if self.registered_until.is_some_and(|until| until <= now) {
            self.registered_until = None;
            if self.status == Registered::Yes {
                self.status = Registered::Pending;
            }
        }
        let due = matches!(self.state, State::Waiting(at) if at <= now);
        if due {
            self.state = State::Locating;
        }
        due
    }

    /// Handles the addresses of the registrar, best first. The list is empty if the registrar's name has no address.
    pub(crate) fn handle_located(&mut self, now: Instant, mut targets: Vec<Target>, rng: &mut impl Rng) -> Step {
        if self.state != State::Locating {
            return Step::Wait;
        }
        targets.truncate(MAX_TARGETS);
        // The server that has the Contact is tried first, so that this server refreshes the registration.
        let current = self.registered_until.and_then(|_| self.target());
        self.target_index =
            current.and_then(|current| targets.iter().position(|target| *target == current)).unwrap_or(0);
        self.targets = targets;
        if self.targets.is_empty() {
            self.pause(now, PAUSE, None, FailureReason::NoAddress, rng);
            self.set_failed(Registered::Unanswered);
            return Step::Wait;
        }
        self.send(State::Registering)
    }

    /// Handles a final response to the REGISTER.
    pub(crate) fn handle_reply(&mut self, now: Instant, mut reply: Reply, rng: &mut impl Rng) -> Step {
        if let (Some(session), Some(nonce)) = (&mut self.session, &reply.next_nonce) {
            session.next_nonce(nonce);
        }
        let asks = matches!(self.state, State::Registering | State::Withdrawing);
        if asks && matches!(reply.status, 401 | 407) && self.can_answer(std::mem::take(&mut reply.challenges)) {
            return Step::Send;
        }
        match (self.state, reply.status) {
            (State::Withdrawing, _) => self.end(),
            (State::Registering, 200..=299) => {
                let granted = reply.expires.unwrap_or(self.lifetime).clamp(1, MAX_LIFETIME);
                let lifetime = Duration::from_secs(granted.into());
                // The refresh comes a tenth of the lifetime before the end, and at least 30 s before the end, so that a
                // lost REGISTER can be sent again. For a short lifetime, the refresh comes after half of the lifetime. In
                // both cases, the refresh comes up to 5 % earlier at random.
                let margin = (lifetime / 10).max(Duration::from_secs(30));
                let refresh = lifetime.saturating_sub(margin).max(lifetime / 2);
                self.registered_until = Some(now + lifetime);
                self.state = State::Waiting(now + refresh - spread(refresh / 20, rng));
                self.status = Registered::Yes;
                self.failures = 0;
                self.failure = None;
                self.lifetime_raised = false;
                Step::Wait
            }
            (State::Registering, 423) if !self.lifetime_raised => {
                self.lifetime_raised = true;
                match reply.min_expires.filter(|minimum| *minimum > self.lifetime && *minimum <= MAX_LIFETIME) {
                    Some(minimum) => {
                        self.lifetime = minimum;
                        Step::Send
                    }
                    None => self.handle_refusal(now, 423, reply.retry_after, rng),
                }
            }
            (State::Registering, 408 | 500..=599) => {
                self.handle_failure(now, FailureReason::Response(reply.status), reply.retry_after, rng)
            }
            (State::Registering, status) => self.handle_refusal(now, status, reply.retry_after, rng),
            (State::Waiting(_) | State::Locating | State::Stopped, _) => Step::Wait,
        }
    }

    /// Records that the registrar's current target did not respond or could not be reached.
    pub(crate) fn handle_silence(&mut self, now: Instant, cause: EndCause, rng: &mut impl Rng) -> Step {
        match self.state {
            State::Registering => self.handle_failure(now, FailureReason::NoResponse(cause), None, rng),
            State::Withdrawing => self.end(),
            State::Waiting(_) | State::Locating | State::Stopped => Step::Wait,
        }
    }

    /// Starts the removal of the registration, if the registrar has the Contact. When the removal is finished,
    /// [`Registration::is_withdrawing`] returns `false`.
    pub(crate) fn stop(&mut self) -> Step {
        if self.registered_until.take().is_some() && self.target().is_some() && self.state != State::Withdrawing {
            return self.send(State::Withdrawing);
        }
        self.end()
    }

    fn can_answer(&mut self, challenges: Vec<Challenge>) -> bool {
        self.session.as_mut().is_some_and(|session| session.learn(challenges, &mut self.attempts))
    }

    fn send(&mut self, state: State) -> Step {
        self.state = state;
        self.attempts = digest::Attempts::default();
        Step::Send
    }

    fn end(&mut self) -> Step {
        self.state = State::Stopped;
        self.registered_until = None;
        self.status = Registered::Pending;
        Step::Wait
    }

    /// Tries the next address of the registrar, because the current address failed. If no address is left, starts a
    /// pause.
    fn handle_failure(
        &mut self,
        now: Instant,
        why: FailureReason,
        retry_after: Option<u32>,
        rng: &mut impl Rng,
    ) -> Step {
        if self.target_index + 1 < self.targets.len() {
            self.target_index += 1;
            return self.send(State::Registering);
        }
        self.pause(now, PAUSE, retry_after, why, rng);
        self.target_index = 0;
        self.set_failed(match why {
            FailureReason::Response(status) => Registered::Refused(status),
            FailureReason::NoResponse(_) | FailureReason::NoAddress => Registered::Unanswered,
        });
        Step::Wait
    }

    fn handle_refusal(&mut self, now: Instant, status: u16, retry_after: Option<u32>, rng: &mut impl Rng) -> Step {
        self.pause(now, REFUSED_PAUSE, retry_after, FailureReason::Response(status), rng);
        // A refusal ends the registration, even if an earlier lifetime has not ended yet.
        self.registered_until = None;
        self.set_failed(Registered::Refused(status));
        Step::Wait
    }

    /// Sets the status after a failure. While a granted lifetime lasts, the status does not change. So after a failed
    /// refresh, the status changes only when the lifetime has ended.
    fn set_failed(&mut self, status: Registered) {
        if self.registered_until.is_none() {
            self.status = status;
        }
    }

    fn pause(
        &mut self,
        now: Instant,
        (first, longest): (Duration, Duration),
        minimum: Option<u32>,
        why: FailureReason,
        rng: &mut impl Rng,
    ) {
        let pause = (first * 2_u32.pow(self.failures.min(16))).min(longest);
        self.failures += 1;
        let minimum = Duration::from_secs(minimum.unwrap_or(0).min(MAX_LIFETIME).into());
        let next_attempt_in = minimum.max(pause / 2 + spread(pause / 2, rng));
        self.failure = Some(Failure { why, target: self.target(), next_attempt_in });
        self.state = State::Waiting(now + next_attempt_in);
    }
}

/// Returns a random duration between 0 and `limit`.
fn spread(limit: Duration, rng: &mut impl Rng) -> Duration {
    limit.mul_f64((rng.next_u64() % 1_000) as f64 / 1_000.0)
}

/// Returns the lifetime, in seconds, that a 200 grants to the Contact with the token. The registrar may have rewritten
/// the Contact, so that no Contact has the token. If such a response has a single Contact, this Contact is used.
fn granted(contacts: &[String], token: u128) -> Option<u32> {
    let mark = format!(";line={token:032x}");
    let mut all = Vec::new();
    for line in contacts {
        let mut rest = line.as_str();
        while !rest.is_empty() && all.len() < 64 {
            let (one, tail) = rest.split_at(header::first_value_end(rest.as_bytes()));
            all.push(one);
            rest = tail.get(1..).unwrap_or_default();
        }
    }
    let ours = all.iter().find(|one| one.contains(&mark)).or_else(|| all.first().filter(|_| all.len() == 1))?;
    let parameters = ours.rsplit_once('>').map_or(*ours, |(_, parameters)| parameters);
    parameters.split(';').find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("expires").then(|| leading_number(value)).flatten()
    })
}

/// Returns the number at the start of the text. For example, the text `120 (I'm in a meeting);duration=60` has the
/// number 120.
fn leading_number(text: &str) -> Option<u32> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let digits = text.get(..end).filter(|digits| !digits.is_empty())?;
    Some(digits.parse().unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests;
