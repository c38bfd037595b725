//! The descriptions of pages (SDP, RFC 8866).

/// Whether two descriptions are of the same media connection: the same ICE user name and the same certificate.
pub(crate) fn has_same_media(one: &str, other: &str) -> bool {
    fn value<'a>(sdp: &'a str, name: &str) -> Option<&'a str> {
        sdp.lines().find_map(|line| Some(line.strip_prefix(name)?.trim()))
    }
    ["a=ice-ufrag:", "a=fingerprint:"].iter().all(|name| value(one, name) == value(other, name))
}

/// Returns a description with the direction of a held call (`a=inactive`, RFC 3264 §8.4: a page plays no music on hold, and
/// goes on sending its microphone), or of a call that is not held. `count` makes the version different from each earlier one.
pub(crate) fn redirected(sdp: &str, held: bool, count: u64) -> String {
    const DIRECTIONS: [&str; 4] = ["a=sendrecv", "a=sendonly", "a=recvonly", "a=inactive"];
    let direction = if held { "a=inactive\r\n" } else { "a=sendrecv\r\n" };
    let (mut written, mut in_section) = (String::with_capacity(sdp.len() + 32), false);
    for line in sdp.lines().filter(|line| !DIRECTIONS.contains(&line.trim())) {
        if line.starts_with("m=") && std::mem::replace(&mut in_section, true) {
            written.push_str(direction);
        }
        match line.strip_prefix("o=") {
            Some(origin) => {
                let mut words: Vec<&str> = origin.split(' ').collect();
                let version = words.get(2).and_then(|text| text.parse::<u64>().ok()).unwrap_or_default();
                let version = version.wrapping_add(count << 32).to_string();
                if let Some(word) = words.get_mut(2) {
                    *word = &version;
                }
                written.push_str("o=");
                written.push_str(&words.join(" "));
            }
            None => written.push_str(line),
        }
        written.push_str("\r\n");
    }
    written.push_str(direction);
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    const SDP: &str = "v=0\r\no=- 7 2 IN IP4 127.0.0.1\r\ns=-\r\nm=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=ice-ufrag:abcd\r\n\
                       a=fingerprint:sha-256 AA\r\na=sendrecv\r\na=rtcp-mux\r\n";

    #[test]
    fn a_held_description_differs_in_its_direction_and_its_version() {
        let held = redirected(SDP, true, 1);
        assert!(held.contains("o=- 7 4294967298 IN IP4 127.0.0.1\r\n"), "{held}");
        assert!(held.ends_with("a=rtcp-mux\r\na=inactive\r\n") && !held.contains("sendrecv"), "{held}");
        assert!(has_same_media(SDP, &held));
        let two = redirected(&format!("{SDP}m=video 0 RTP/AVP 96\r\na=recvonly\r\n"), true, 1);
        assert_eq!((two.matches("a=inactive").count(), two.matches("a=recvonly").count()), (2, 0), "{two}");
        let taken_up = redirected(SDP, false, 2);
        assert!(taken_up.ends_with("a=sendrecv\r\n") && taken_up != held);
    }

    #[test]
    fn another_user_name_or_certificate_is_another_media_connection() {
        assert!(!has_same_media(SDP, &SDP.replace("abcd", "efgh")));
        assert!(!has_same_media(SDP, &SDP.replace("AA", "BB")));
    }
}
