//! The tracks of a leg, in the words of the media engine.

use tandem_call::recording::Track;
use tandem_media as media;

/// The media engine's type of a track.
pub fn tracks(track: Track) -> media::Tracks {
    match track {
        Track::Inbound => media::Tracks::Inbound,
        Track::Outbound => media::Tracks::Outbound,
        Track::Both => media::Tracks::Both,
    }
}
