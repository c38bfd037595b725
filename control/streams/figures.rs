//! The figures of a running stream, for people who watch it.

use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;
use tandem_call::recording::Track;
use tandem_call::stream::{StreamSpec, StreamTransport};
use tandem_host::clock;
use tandem_http::without_credentials;

/// A running stream: where its audio goes, and how much. The task of the stream counts; anybody may read.
#[derive(Debug)]
pub struct StreamFigures {
    /// The id in the provider's form.
    pub name: String,
    /// The URL of the application, without credentials. For RTP, the addresses.
    pub url: String,
    /// The directions of the leg's audio that the application receives.
    pub track: Track,
    /// The time at which the stream was started.
    pub since: Timestamp,
    frames_out: AtomicU64,
    octets_out: AtomicU64,
    octets_in: AtomicU64,
    dropped: AtomicU64,
}

/// The counts of a stream at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StreamCounts {
    /// Number of frames of 20 ms that were sent to the application.
    pub frames_out: u64,
    /// Number of octets of audio that were sent to the application.
    pub octets_out: u64,
    /// Number of octets of audio that came from the application.
    pub octets_in: u64,
    /// Number of frames that were dropped because the application was too slow.
    pub dropped: u64,
}

impl StreamFigures {
    pub(super) fn new(name: &str, spec: &StreamSpec) -> Self {
        let url = match spec.transport {
            StreamTransport::Rtp(rtp) => {
                let addresses = [rtp.inbound, rtp.outbound].into_iter().flatten();
                addresses.map(|to| format!("rtp://{to}")).collect::<Vec<_>>().join(" ")
            }
            StreamTransport::Messages | StreamTransport::Octets => without_credentials(&spec.url),
        };
        Self {
            name: name.to_owned(),
            url,
            track: spec.track,
            since: clock::time(),
            frames_out: AtomicU64::new(0),
            octets_out: AtomicU64::new(0),
            octets_in: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        }
    }

    pub(super) fn sent(&self, octets: usize, dropped: u64) {
        self.frames_out.fetch_add(1, Ordering::Relaxed);
        self.octets_out.fetch_add(octets as u64, Ordering::Relaxed);
        self.dropped.store(dropped, Ordering::Relaxed);
    }

    pub(super) fn received(&self, octets: usize) {
        self.octets_in.fetch_add(octets as u64, Ordering::Relaxed);
    }

    /// Returns the counts now.
    pub fn counts(&self) -> StreamCounts {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        StreamCounts {
            frames_out: read(&self.frames_out),
            octets_out: read(&self.octets_out),
            octets_in: read(&self.octets_in),
            dropped: read(&self.dropped),
        }
    }
}
