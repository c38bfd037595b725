//! A session as data: all that a session knows, without the handles that it holds. A session that is made from this data
//! continues the same RTP streams.
//!
//! These parts are not data: sockets, audio, stream sources, taps, and the files of recordings. The application gives them
//! again with the commands that gave them at first ([`RunningOperations`]). The codec states and the audio in the jitter
//! buffers are not data either: the far end may hear a gap of some frames in transcoded audio.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tandem_webrtc::Identity;

use super::capture::{Capture, CaptureState};
use super::digit_input::{DigitInput, DigitInputState};
use super::gap_watch::GapWatch;
use super::inbound::Inbound;
use super::outbound::{Outbound, OutboundState};
use super::playout::{Playout, PlayoutState};
use super::quality_reports::QualityReports;
use super::routing::{Joined, Routing};
use super::schedule::Schedule;
use super::{MediaSession, Suppression};
use crate::command::{LegId, OpId, Track, Tracks};
use crate::event::EventSink;
use crate::network::{MediaClock, units_of};
use crate::recorder::RecordingPosition;
use crate::sdp::MediaPlan;
use crate::transport::{Transport, TransportSnapshot};

/// A session as data.
#[derive(Serialize, Deserialize)]
pub(crate) struct SessionState {
    pub(crate) key: LegId,
    /// The NTP time of the snapshot.
    taken: u64,
    /// The time from the snapshot to the session's next frame.
    next_frame: Duration,
    /// The media clock at the snapshot, in units of the RTP clock rate of the received stream.
    units: u32,
    plan: Option<MediaPlan>,
    transport: TransportSnapshot,
    inbound: Inbound,
    bridged_with: Option<LegId>,
    in_room: bool,
    echo: bool,
    codec_mismatch: bool,
    outbound: OutboundState,
    playout: PlayoutState,
    digit_input: DigitInputState,
    capture: CaptureState,
    suppressed: Vec<Tracks>,
    detection: Option<OpId>,
    quality: QualityReports,
    gap_watch: GapWatch,
    schedule: Schedule,
    /// The number of events that the sink had not accepted yet. They are lost.
    undelivered: usize,
}

/// The operations of a session that hold handles. After [`Engine::resume`](crate::Engine::resume), the application gives
/// these handles again, by the commands that began the operations.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunningOperations {
    /// The running `Play` or `Tone`. The same command with the same id continues at the position of the snapshot. Until
    /// then the far end gets silence.
    pub playback: Option<OpId>,
    /// The attached `Source`.
    pub source: Option<OpId>,
    /// The `Tap` commands.
    pub taps: Vec<OpId>,
    /// The recordings. A `Start` command with the same id continues the limits and the pause of the recording, in the file
    /// that the command names.
    pub recordings: Vec<RecordingPosition>,
    /// The running `DetectMachine`. It begins again.
    pub detection: Option<OpId>,
    /// The other session of the bridge. The bridge continues by itself if both sessions resume on one worker. If they do
    /// not, the `Bridge` command brings them together.
    pub bridged_with: Option<LegId>,
    /// Whether the session was in a room. The `Join` command brings it back.
    pub in_room: bool,
    /// The number of events that the sink had not accepted at the snapshot. These events are lost.
    pub undelivered_events: usize,
}

/// What a session that continues from data needs.
pub(crate) struct Resumed {
    pub(crate) state: SessionState,
    pub(crate) events: EventSink,
    /// Whether the configuration lets a leg get silence when there is no other audio.
    pub(crate) send_silence: bool,
    pub(crate) relatch_probation: Option<Duration>,
    /// The highest number of packets that the session may have sent since the snapshot. Their sequence numbers and SRTP
    /// indices are not used again.
    pub(crate) skipped: u16,
    /// Our certificate for DTLS.
    pub(crate) identity: Option<Arc<Identity>>,
}

/// The length of a frame.
const FRAME_TIME: Duration = Duration::from_millis(20);

impl SessionState {
    /// Returns the operations that the application has to give again.
    pub(crate) fn running(&self) -> RunningOperations {
        RunningOperations {
            playback: self.playout.playback(),
            source: self.playout.source(),
            taps: self.capture.taps(),
            recordings: self.capture.recordings(),
            detection: self.detection,
            bridged_with: self.bridged_with,
            in_room: self.in_room,
            undelivered_events: self.undelivered,
        }
    }
}

impl MediaSession {
    /// Returns the session as data at `now`. `next_frame` is the time until the session's next frame. Returns `None` if
    /// the session is closing.
    pub(crate) fn state(&self, now: Instant, next_frame: Duration, clock: &MediaClock) -> Option<SessionState> {
        if self.is_closing() {
            return None;
        }
        let suppressed = [(Track::Inbound, Tracks::Inbound), (Track::Outbound, Tracks::Outbound)];
        Some(SessionState {
            key: self.key,
            taken: clock.ntp(now),
            next_frame,
            units: clock.units(now, self.inbound.receiver.rate()),
            plan: self.plan.clone(),
            transport: self.transport.snapshot(now),
            inbound: self.inbound.clone(),
            bridged_with: self.routing.bridged_with().map(|leg| leg.key).or(self.routing.awaited),
            in_room: self.routing.room().is_some(),
            echo: self.routing.echo,
            codec_mismatch: self.routing.codec_mismatch,
            outbound: self.outbound.state(),
            playout: self.playout.state(),
            digit_input: self.digit_input.state(now),
            capture: self.capture.state(),
            suppressed: suppressed
                .into_iter()
                .filter(|(track, _)| self.suppression.is_on(*track))
                .map(|(_, one)| one)
                .collect(),
            detection: self.detection.as_ref().map(|detection| detection.op),
            quality: self.quality.clone(),
            gap_watch: self.gap_watch.clone(),
            schedule: self.schedule.clone(),
            undelivered: self.events.backlog(),
        })
    }

    /// Creates a session from data at `now`. The function also returns the time until the session's next frame.
    pub(crate) fn resume(resumed: Resumed, now: Instant, clock: &MediaClock) -> (MediaSession, Duration) {
        let Resumed { state, events, send_silence, relatch_probation, skipped, identity } = resumed;
        let elapsed = clock.since(state.taken, now);
        let (missed, next_frame) = missed_frames(state.next_frame, elapsed);
        let taken = now.checked_sub(elapsed).unwrap_or(now);
        let mut session = MediaSession::new(state.key, 0, events, send_silence);
        session.transport = Transport::resume(state.transport, [taken, now], skipped, identity);
        session.transport.set_relatch_probation(relatch_probation);
        session.inbound = state.inbound;
        // The origin of the media clock is another one now.
        let receiver = &mut session.inbound.receiver;
        let units = clock.units(now, receiver.rate()).wrapping_sub(units_of(elapsed, receiver.rate()));
        receiver.shift_clock(units.wrapping_sub(state.units));
        session.routing = Routing {
            joined: Joined::Nothing,
            awaited: state.bridged_with,
            echo: state.echo,
            codec_mismatch: state.codec_mismatch,
            ..Routing::default()
        };
        session.outbound = Outbound::resume(state.outbound, missed, skipped);
        session.playout = Playout::resume(state.playout, send_silence);
        session.digit_input = DigitInput::resume(state.digit_input, taken);
        session.capture = Capture::resume(state.capture);
        session.quality = state.quality;
        session.gap_watch = state.gap_watch;
        session.schedule = state.schedule;
        let mut suppression = Suppression::default();
        state.suppressed.into_iter().for_each(|tracks| suppression.set(tracks, true));
        session.suppression = suppression;
        session.plan = state.plan;
        if session.wants_inbound_frames() {
            session.add_live_reader(false);
        }
        (session, next_frame)
    }
}

/// Returns the number of frames that were due in `elapsed`, and the time until the next frame. `next_frame` was this time
/// at the start.
fn missed_frames(next_frame: Duration, elapsed: Duration) -> (u32, Duration) {
    let Some(late) = elapsed.checked_sub(next_frame).filter(|late| !late.is_zero()) else {
        return (0, next_frame.saturating_sub(elapsed));
    };
    let missed = late.as_nanos().div_ceil(FRAME_TIME.as_nanos());
    let next = missed * FRAME_TIME.as_nanos() - late.as_nanos();
    (u32::try_from(missed).unwrap_or(u32::MAX), Duration::from_nanos(u64::try_from(next).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_that_were_due_while_no_session_existed_are_counted() {
        let ms = Duration::from_millis;
        assert_eq!(missed_frames(ms(7), ms(0)), (0, ms(7)));
        assert_eq!(missed_frames(ms(7), ms(7)), (0, ms(0)));
        assert_eq!(missed_frames(ms(7), ms(8)), (1, ms(19)));
        assert_eq!(missed_frames(ms(7), ms(27)), (1, ms(0)));
        assert_eq!(missed_frames(ms(0), ms(1_001)), (51, ms(19)));
    }
}
