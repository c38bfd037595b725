//! Conversion of a leg's tracks to the types of the media engine.

use tandem_call::recording::Track;
use tandem_media as media;

/// Converts a track to the type of the media engine.
pub fn tracks(track: Track) -> media::Tracks {
    match track {
        Track::Inbound => media::Tracks::Inbound,
        Track::Outbound => media::Tracks::Outbound,
        Track::Both => media::Tracks::Both,
    }
}
