//! The calls whose audio reaches the gateway. These are the gateway's own calls, and the calls of an external provider.

use std::time::{Duration, Instant};

use axum::extract::ws::Utf8Bytes;
use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::frontends::FrontendMessage;

/// Capacity of a call's queue for audio from frontends, in frames of 20 ms. The queue can contain 500 ms.
const WORDS: usize = 25;
/// If a frontend sends no audio for this time, another frontend may speak.
const SPEAKER_TIMEOUT: Duration = Duration::from_millis(500);

/// All calls. The newest call comes last.
#[derive(Debug, Default)]
pub(super) struct Upstreams(Mutex<UpstreamTable>);

#[derive(Debug, Default)]
struct UpstreamTable {
    last: u64,
    all: Vec<Upstream>,
}

#[derive(Debug)]
struct Upstream {
    id: u64,
    control_id: String,
    /// The id of the stream. Empty until the stream starts.
    stream_id: String,
    words: mpsc::Sender<FrontendMessage>,
    /// Whether the gateway drops the audio of frontends.
    muted: bool,
    /// Whether the call has ended. The last audio of the call may still arrive after the end.
    over: bool,
    /// The frontend that speaks, and the time of this frontend's last frame.
    speaker: Option<(u64, Instant)>,
}

/// The ids with which a frontend selects a call. If both ids are `None`, any call matches.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct CallSelector<'a> {
    pub(super) stream_id: Option<&'a str>,
    pub(super) control_id: Option<&'a str>,
}

impl CallSelector<'_> {
    pub(super) fn anything(self) -> bool {
        self.stream_id.is_none() && self.control_id.is_none()
    }

    pub(super) fn fits(self, control_id: &str, stream_id: &str) -> bool {
        self.stream_id.is_none_or(|id| id == stream_id) && self.control_id.is_none_or(|id| id == control_id)
    }
}

impl Upstreams {
    /// Adds a call. Returns the call's number, and a receiver for the messages that frontends send to the call.
    /// `control_id` is empty until the id is known.
    pub(super) fn open(&self, control_id: &str) -> (u64, mpsc::Receiver<FrontendMessage>) {
        let (words, received) = mpsc::channel(WORDS);
        let mut known = self.0.lock();
        known.last += 1;
        let id = known.last;
        let control_id = control_id.to_owned();
        known.all.push(Upstream {
            id,
            control_id,
            stream_id: String::new(),
            words,
            muted: false,
            over: false,
            speaker: None,
        });
        (id, received)
    }

    /// Stores the ids of a call's stream at the start of the stream.
    pub(super) fn begin(&self, id: u64, control_id: &str, stream_id: &str) {
        if let Some(one) = self.0.lock().all.iter_mut().find(|one| one.id == id) {
            one.stream_id = stream_id.to_owned();
            if one.control_id.is_empty() {
                one.control_id = control_id.to_owned();
            }
        }
    }

    /// Mutes or unmutes the frontends in a call. Returns `false` if there is no such call.
    pub(super) fn mute(&self, control_id: &str, muted: bool) -> bool {
        let mut known = self.0.lock();
        let found = known.all.iter_mut().find(|one| one.control_id == control_id);
        found.map(|one| one.muted = muted).is_some()
    }

    /// Marks a call as ended. Frontends can no longer speak to the call.
    pub(super) fn end(&self, id: u64) {
        self.0.lock().all.iter_mut().filter(|one| one.id == id).for_each(|one| one.over = true);
    }

    /// Removes a call after the end of the call's stream.
    pub(super) fn close(&self, id: u64) {
        self.0.lock().all.retain(|one| one.id != id);
    }

    /// Returns the newest call that has not ended.
    pub(super) fn newest(&self) -> Option<u64> {
        self.0.lock().all.iter().rfind(|one| !one.over).map(|one| one.id)
    }

    /// Returns the control id and the stream id of a call.
    pub(super) fn ids(&self, id: u64) -> Option<(String, String)> {
        let known = self.0.lock();
        let one = known.all.iter().find(|one| one.id == id)?;
        Some((one.control_id.clone(), one.stream_id.clone()))
    }

    /// Sends a frame of a frontend to a call. If the frontend selects a call, the frame goes to this call. Otherwise
    /// the frame goes to the call that the frontend is `bound` to. If the bound call has ended, the frontend is bound
    /// to the newest call that no frontend has spoken to. Only one frontend at a time speaks to a call. The frame is
    /// dropped if another frontend speaks, if the call is muted, or if the queue is full.
    pub(super) fn speak(
        &self,
        frontend: u64,
        means: CallSelector<'_>,
        bound: &mut Option<u64>,
        frame: Utf8Bytes,
        now: Instant,
    ) {
        let mut known = self.0.lock();
        let found = if means.anything() {
            let own = bound.and_then(|id| known.all.iter().position(|one| one.id == id && !one.over));
            own.or_else(|| known.all.iter().rposition(|one| one.speaker.is_none() && !one.over))
        } else {
            known.all.iter().rposition(|one| !one.over && means.fits(&one.control_id, &one.stream_id))
        };
        let Some(one) = found.and_then(|at| known.all.get_mut(at)) else { return };
        if means.anything() {
            *bound = Some(one.id);
        }
        let taken =
            one.speaker.is_some_and(|(other, at)| other != frontend && now.duration_since(at) < SPEAKER_TIMEOUT);
        if !taken {
            one.speaker = Some((frontend, now));
            if one.muted {
                return;
            }
            let _ = one.words.try_send(FrontendMessage::Text(frame));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(queue: &mut mpsc::Receiver<FrontendMessage>) -> Vec<String> {
        let words = std::iter::from_fn(|| queue.try_recv().ok());
        words
            .map(|out| if let FrontendMessage::Text(text) = out { text.to_string() } else { "closed".to_owned() })
            .collect()
    }

    #[test]
    fn a_frontend_stays_bound_to_the_call_that_was_newest_at_its_connection() {
        let (upstreams, now) = (Upstreams::default(), tandem_host::clock::now().instant);
        let (first, mut to_first) = upstreams.open("v3:1");
        let mut bound = upstreams.newest();
        let (_, mut to_second) = upstreams.open("v3:2");
        upstreams.speak(7, CallSelector::default(), &mut bound, "a".into(), now);
        assert_eq!((received(&mut to_first), received(&mut to_second)), (vec!["a".to_owned()], vec![]));
        upstreams.close(first);
        upstreams.speak(7, CallSelector::default(), &mut bound, "b".into(), now);
        assert_eq!(received(&mut to_second), ["b"], "its own is over");
        upstreams.speak(8, CallSelector::default(), &mut None, "c".into(), now + SPEAKER_TIMEOUT);
        assert!(received(&mut to_second).is_empty(), "that call has its frontend");
    }

    #[test]
    fn a_frontend_that_names_a_call_sends_audio_to_that_call() {
        let (upstreams, now) = (Upstreams::default(), tandem_host::clock::now().instant);
        let (first, mut to_first) = upstreams.open("v3:1");
        let (_, mut to_second) = upstreams.open("v3:2");
        upstreams.begin(first, "", "stream");
        let by_stream = CallSelector { stream_id: Some("stream"), control_id: None };
        upstreams.speak(7, by_stream, &mut None, "a".into(), now);
        let unknown = CallSelector { stream_id: None, control_id: Some("v3:3") };
        upstreams.speak(7, unknown, &mut None, "b".into(), now);
        assert_eq!((received(&mut to_first), received(&mut to_second)), (vec!["a".to_owned()], vec![]));
    }

    #[test]
    fn one_frontend_sends_audio_at_a_time() {
        let (upstreams, now) = (Upstreams::default(), tandem_host::clock::now().instant);
        let (_, mut words) = upstreams.open("v3:1");
        let say = |frontend, text: &'static str, at| {
            upstreams.speak(frontend, CallSelector::default(), &mut upstreams.newest(), text.into(), at);
        };
        say(1, "one", now);
        say(2, "other", now + Duration::from_millis(20));
        say(1, "one again", now + Duration::from_millis(40));
        say(2, "other, later", now + Duration::from_millis(600));
        assert_eq!(received(&mut words), ["one", "one again", "other, later"]);
    }
}
