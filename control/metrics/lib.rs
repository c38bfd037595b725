//! The metrics of calls and audio for `/metrics`.
#![forbid(unsafe_code)]

pub mod engines;
pub mod families;
mod histogram;
mod page;
mod process;
pub mod quality;
pub mod stir;
pub mod timings;
mod totals;
mod trunks;
pub mod turns;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use parking_lot::Mutex;
use tandem_call::event::{CallEvent, EventKind};
use tandem_call::leg::{Direction, EndCause};
use tandem_causes::Cause;
use tandem_host::clock;
use tandem_id::{AccountName, LegId};
use tandem_media as media;
use tandem_sip::Throttle;

use crate::quality::Histograms;
use foldhash::{HashMap, HashSet};

pub use page::{Page, Rows};
pub use process::Build;
use timings::Timings;
pub use totals::{Sum, Totals};
use trunks::Trunks;

/// The number of problems of each cause, in the order of [`Cause::ALL`].
#[derive(Debug)]
struct Problems([AtomicU64; Cause::ALL.len()]);

impl Default for Problems {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::default()))
    }
}

/// The counters since the start of the server.
#[derive(Default, Debug)]
pub struct Counters {
    /// Results of STIR verification and signing.
    pub stir: stir::Tally,
    /// Response times of applications and speech engines.
    pub timings: Arc<Timings>,
    build: Build,
    started: Timestamp,
    inbound: AtomicU64,
    outbound: AtomicU64,
    answered: AtomicU64,
    ended: [AtomicU64; EndCause::ALL.len()],
    refused: AtomicU64,
    unauthorized: AtomicU64,
    /// The number of problems by cause.
    problems: Problems,
    /// Limits the number of log lines for each cause of failure. The map has at most one entry per cause.
    log_lines: Mutex<HashMap<Cause, Throttle>>,
    /// Limits the number of log lines about unplaced calls of each account. The number of accounts limits the map.
    unplaced_lines: Mutex<HashMap<AccountName, Throttle>>,
    /// Limits the number of stored problems of ended calls.
    late_problems: Mutex<Throttle>,
    documents_failed: AtomicU64,
    playbacks_failed: AtomicU64,
    recordings_failed: AtomicU64,
    streams_failed: AtomicU64,
    bodies_refused: AtomicU64,
    packets_lost: AtomicU64,
    unrecorded_ms: AtomicU64,
    /// The complete recordings that are not in the bucket yet.
    recordings_waiting: AtomicU64,
    rtcp_foreign: AtomicU64,
    srtp_refused: AtomicU64,
    webrtc_refused: AtomicU64,
    suppression_shed: AtomicU64,
    impaired: [AtomicU64; quality::CAUSES.len()],
    /// The answered legs whose far ends should send audio and send none. The number of live legs limits the set.
    without_audio: Mutex<HashSet<LegId>>,
    trunks: Trunks,
    quality: Mutex<Histograms>,
}

impl Counters {
    /// Creates the counters with the value zero, for a server that starts now. The speech engines share `timings` with
    /// the counters.
    pub fn new(build: Build, timings: Arc<Timings>) -> Self {
        Self { timings, build, started: clock::time(), ..Self::default() }
    }

    /// Counts a problem.
    pub fn problem(&self, cause: Cause) {
        if let Some(counter) = self.problems.0.get(cause as usize) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Returns `Some` if the server must log a problem with this cause now. The value is the number of lines that were
    /// suppressed since the last log line.
    pub fn log_line(&self, cause: Cause, now: Instant) -> Option<u64> {
        self.log_lines.lock().entry(cause).or_default().pass(now)
    }

    /// Returns `Some` if the server must log now that a leg of this account ended at once, before it was answered. One
    /// document can cause hundreds of such legs. The value is the number of lines about the account that were suppressed
    /// since the last log line.
    pub fn unplaced_line(&self, account: &AccountName, now: Instant) -> Option<u64> {
        let mut lines = self.unplaced_lines.lock();
        if let Some(throttle) = lines.get_mut(account) {
            return throttle.pass(now);
        }
        lines.entry(account.clone()).or_default().pass(now)
    }

    /// Returns whether a problem of an ended call may be stored now.
    pub fn late_problem(&self, now: Instant) -> bool {
        self.late_problems.lock().pass(now).is_some()
    }

    /// Counts an event of a leg. The counted events are failures and the progress of the leg.
    pub fn count(&self, event: &CallEvent) {
        match (&event.kind, event.leg.direction) {
            (EventKind::Ringing { .. }, Direction::OutboundApi | Direction::OutboundDial) => {
                self.trunks.rings(&event.leg, event.at);
            }
            (EventKind::Ended, _) => self.trunks.ended(&event.leg, event.at),
            _ => {}
        }
        let counter = match (&event.kind, event.leg.direction) {
            (EventKind::Initiated, Direction::Inbound) => &self.inbound,
            (EventKind::Initiated, _) => &self.outbound,
            (EventKind::Answered { .. }, _) => &self.answered,
            (EventKind::Ended, _) => {
                let cause = event.leg.end.as_ref().map_or(EndCause::Unspecified, |end| end.cause);
                let Some(counter) = self.ended.get(cause as usize) else { return };
                counter
            }
            (EventKind::FetchFailed { .. }, _) => &self.documents_failed,
            (EventKind::PlaybackEnded(..), _) if Cause::of_event(&event.kind).is_some() => &self.playbacks_failed,
            (EventKind::Recording(_), _) if Cause::of_event(&event.kind).is_some() => &self.recordings_failed,
            (EventKind::Stream(_), _) if Cause::of_event(&event.kind).is_some() => &self.streams_failed,
            _ => return,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a failure of a trunk after which the call tried another trunk. `status` is the final response of the
    /// trunk, if the trunk sent a response.
    pub fn failed_over(&self, trunk: &Arc<str>, status: Option<u16>) {
        self.trunks.responded(trunk, false, status);
    }

    /// Counts a call to a number that no account has.
    pub fn refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a request with wrong credentials or without credentials.
    pub fn unauthorized(&self) {
        self.unauthorized.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts an API request whose body could not be decoded.
    pub fn body_refused(&self) {
        self.bodies_refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Adds the statistics of an ended media session.
    pub fn add_media(&self, stats: &media::Stats) {
        self.packets_lost.fetch_add(stats.lost, Ordering::Relaxed);
        self.rtcp_foreign.fetch_add(stats.dropped_rtcp, Ordering::Relaxed);
        self.srtp_refused.fetch_add(stats.dropped_srtp, Ordering::Relaxed);
        self.webrtc_refused.fetch_add(stats.dropped_connection, Ordering::Relaxed);
        self.quality.lock().add(stats);
    }

    /// Counts a leg whose audio became bad.
    pub fn impaired(&self, cause: media::Impairment) {
        let counter = quality::CAUSES.iter().position(|(one, _)| *one == cause).and_then(|at| self.impaired.get(at));
        if let Some(counter) = counter {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Notes that no audio arrives from a leg.
    pub fn audio_missing(&self, leg: LegId) {
        self.without_audio.lock().insert(leg);
    }

    /// Notes that audio arrives from a leg again, or that the leg has ended.
    pub fn audio_resumed(&self, leg: LegId) {
        self.without_audio.lock().remove(&leg);
    }

    /// Whether no audio arrives from a leg although audio should arrive.
    pub fn lacks_audio(&self, leg: LegId) -> bool {
        self.without_audio.lock().contains(&leg)
    }

    /// Counts a leg whose noise suppression was paused because CPU time was short.
    pub fn suppression_shed(&self) {
        self.suppression_shed.fetch_add(1, Ordering::Relaxed);
    }

    /// Adds the duration of the audio that a recording lost. In the recording, silence replaces this audio.
    pub fn add_unrecorded(&self, dropped: Duration) {
        self.unrecorded_ms.fetch_add(u64::try_from(dropped.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Notes the number of complete recordings that are not in the bucket yet.
    pub fn set_recordings_waiting(&self, waiting: usize) {
        self.recordings_waiting.store(waiting as u64, Ordering::Relaxed);
    }

    /// Writes the metrics of these counters and of the process.
    pub fn render(&self, page: &mut Page) {
        for (family, counter) in [
            (&families::LEGS_INBOUND, &self.inbound),
            (&families::LEGS_OUTBOUND, &self.outbound),
            (&families::LEGS_ANSWERED, &self.answered),
            (&families::CALLS_REFUSED, &self.refused),
            (&families::HTTP_UNAUTHORIZED, &self.unauthorized),
            (&families::DOCUMENTS_FAILED, &self.documents_failed),
            (&families::PLAYBACKS_FAILED, &self.playbacks_failed),
            (&families::RECORDINGS_FAILED, &self.recordings_failed),
            (&families::STREAMS_FAILED, &self.streams_failed),
            (&families::API_BODIES_REFUSED, &self.bodies_refused),
            (&families::RTP_PACKETS_LOST, &self.packets_lost),
            (&families::RECORDINGS_DROPPED_MILLISECONDS, &self.unrecorded_ms),
            (&families::RECORDINGS_WAITING, &self.recordings_waiting),
            (&families::RTCP_FOREIGN, &self.rtcp_foreign),
            (&families::SUPPRESSION_SHED, &self.suppression_shed),
            (&families::SRTP_REFUSED, &self.srtp_refused),
            (&families::WEBRTC_REFUSED, &self.webrtc_refused),
        ] {
            page.value(family, counter.load(Ordering::Relaxed));
        }
        page.value(&families::LEGS_WITHOUT_AUDIO, self.without_audio.lock().len());
        let seconds = self.unrecorded_ms.load(Ordering::Relaxed) as f64 / 1_000.0;
        page.value(&families::RECORDINGS_DROPPED_SECONDS, seconds);
        // The values of these labels must have no spaces.
        let ended = EndCause::ALL.iter().map(|cause| cause.to_string().replace(' ', "_"));
        page.counters(&families::LEGS_ENDED, "cause", ended.zip(&self.ended));
        page.counters(&families::PROBLEMS, "cause", Cause::ALL.iter().zip(&self.problems.0));
        let impaired = quality::CAUSES.iter().map(|(_, cause)| cause).zip(&self.impaired);
        page.counters(&families::RTP_IMPAIRED, "cause", impaired);
        self.trunks.render(page);
        self.stir.render(page);
        self.quality.lock().render(page);
        self.timings.render(page);
        process::render(page, &self.build, self.started);
    }
}
