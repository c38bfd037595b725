//! The records of a far end that the library may see.

use crate::connection::Role;

/// The octets before the content of a record (RFC 6347 §4.1): kind, version, epoch, sequence number, length.
const RECORD_HEADER: usize = 13;
/// The octets before the content of a handshake message (RFC 6347 §4.2.2): kind, length, number, offset and length of the
/// fragment.
const MESSAGE_HEADER: usize = 12;
/// The highest number of records of one association, without the refused ones. A handshake has about ten. The library stores
/// each, and its search for a message's fragments is recursive.
const MAX_RECORDS: usize = 200;
/// The longest handshake message. The certificate of a key with 4096 bits has some 1,500 octets.
const LONGEST: usize = 16_384;
/// The highest number of a handshake message. A handshake has at most nine messages of each side.
const MAX_NUMBER: u16 = 31;

const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;

/// A fragment of a handshake message: the message's number, and the offset and the length of the fragment.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Fragment {
    number: u16,
    offset: usize,
    length: usize,
}

/// Passes records that are well-formed, necessary, new and not too many.
pub(super) struct Filter {
    role: Role,
    known: Vec<Fragment>,
    records: usize,
}

impl Filter {
    pub(super) fn new(role: Role) -> Filter {
        Filter { role, known: Vec::new(), records: 0 }
    }

    /// Returns the records of a datagram that may pass, or `None` if there are none.
    pub(super) fn pass(&mut self, mut octets: &[u8]) -> Option<Vec<u8>> {
        let mut passed = Vec::new();
        while let Some((record, content)) = split_record(octets) {
            if self.records < MAX_RECORDS && self.accepts(record, content) {
                self.records += 1;
                passed.extend_from_slice(record);
            }
            octets = octets.get(record.len()..).unwrap_or_default();
        }
        (!passed.is_empty()).then_some(passed)
    }

    fn accepts(&mut self, record: &[u8], content: &[u8]) -> bool {
        let [kind, 254, _, epoch @ .., _, _, _, _, _, _, _, _] =
            record.first_chunk::<RECORD_HEADER>().unwrap_or(&[0; 13])
        else {
            return false;
        };
        match (*kind, *epoch == [0, 0]) {
            (CHANGE_CIPHER_SPEC, true) => content == [1],
            (ALERT, true) => content.len() == 2,
            (HANDSHAKE, true) => self.accepts_message(content),
            // The content is encrypted. The library decrypts before it reads.
            (ALERT | HANDSHAKE, false) => true,
            _ => false,
        }
    }

    /// Whether all messages of a record are well-formed, and one of them is new.
    fn accepts_message(&mut self, mut content: &[u8]) -> bool {
        let mut fragments = Vec::new();
        while !content.is_empty() {
            let Some((fragment, rest)) = split_fragment(content) else { return false };
            fragments.push(fragment);
            content = rest;
        }
        let has_begun = self.known.iter().any(|known| known.number > 0);
        let is_new = |fragment: &Fragment| {
            // A client repeats its first message until the server answers. Each needs another answer.
            let repeats = self.role == Role::Server && fragment.number == 0 && !has_begun;
            repeats || !self.known.contains(fragment)
        };
        if !fragments.iter().any(is_new) {
            return false;
        }
        for fragment in fragments {
            if !self.known.contains(&fragment) {
                self.known.push(fragment);
            }
        }
        true
    }
}

/// Returns the first record and its content.
fn split_record(octets: &[u8]) -> Option<(&[u8], &[u8])> {
    let header = octets.first_chunk::<RECORD_HEADER>()?;
    let [.., high, low] = *header;
    let record = octets.get(..RECORD_HEADER + usize::from(u16::from_be_bytes([high, low])))?;
    Some((record, record.get(RECORD_HEADER..)?))
}

/// Returns the first fragment of a record, and the octets after it.
fn split_fragment(content: &[u8]) -> Option<(Fragment, &[u8])> {
    let (header, rest) = content.split_first_chunk::<MESSAGE_HEADER>()?;
    let [_, a, b, c, d, e, f, g, h, i, j, k] = *header;
    let size = |high, middle, low| usize::try_from(u32::from_be_bytes([0, high, middle, low])).ok();
    let (whole, offset, length) = (size(a, b, c)?, size(f, g, h)?, size(i, j, k)?);
    let fragment = Fragment { number: u16::from_be_bytes([d, e]), offset, length };
    let is_sound = whole <= LONGEST
        && offset.checked_add(length)? <= whole
        && (length > 0) == (whole > 0)
        && fragment.number <= MAX_NUMBER;
    // The library takes a fragment to reach to the end of its message or of its record.
    let is_last = length == whole || length == rest.len();
    (is_sound && is_last).then_some((fragment, rest.get(length..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u8, epoch: u8, content: &[u8]) -> Vec<u8> {
        let [high, low] = u16::try_from(content.len()).unwrap().to_be_bytes();
        [&[kind, 254, 253, 0, epoch, 0, 0, 0, 0, 0, 0, high, low], content].concat()
    }

    fn message(number: u8, whole: u8, offset: u8, length: u8) -> Vec<u8> {
        let header = [1, 0, 0, whole, 0, number, 0, 0, offset, 0, 0, length];
        record(HANDSHAKE, 0, &[&header, vec![7; usize::from(length)].as_slice()].concat())
    }

    #[test]
    fn a_fragment_passes_once_and_a_first_hello_until_the_second() {
        let (first, second) = (message(0, 9, 0, 9), message(1, 9, 0, 9));
        let mut filter = Filter::new(Role::Server);
        for _ in 0..2 {
            assert_eq!(filter.pass(&first), Some(first.clone()));
        }
        assert_eq!(filter.pass(&second), Some(second.clone()));
        assert_eq!((filter.pass(&first), filter.pass(&second)), (None, None));
        // A datagram keeps what is new in it.
        let third = message(2, 9, 3, 6);
        assert_eq!(filter.pass(&[second, third.clone()].concat()), Some(third));
        let mut filter = Filter::new(Role::Client);
        assert_eq!((filter.pass(&first), filter.pass(&first)), (Some(first.clone()), None));
    }

    #[test]
    fn malformed_and_unencrypted_records_do_not_pass() {
        let mut filter = Filter::new(Role::Server);
        let mut other = message(0, 9, 0, 9);
        other[1] = 3;
        for refused in [
            vec![],
            vec![22; 12],
            message(0, 9, 0, 9)[..24].to_vec(),
            message(0, 9, 4, 6),
            message(0, 9, 0, 0),
            message(32, 9, 0, 9),
            record(HANDSHAKE, 0, &[1, 0xFF, 0, 9, 0, 0, 0, 0, 0, 0, 0, 1, 7]),
            record(HANDSHAKE, 0, &[1; 11]),
            record(ALERT, 0, &[2]),
            record(CHANGE_CIPHER_SPEC, 0, &[1, 1]),
            record(23, 0, b"data"),
            record(23, 1, b"data"),
            record(99, 1, b"data"),
            other,
        ] {
            assert_eq!(filter.pass(&refused), None, "{refused:?}");
        }
        for passed in [record(ALERT, 0, &[2, 40]), record(CHANGE_CIPHER_SPEC, 0, &[1]), record(HANDSHAKE, 1, &[0; 40])]
        {
            assert_eq!(filter.pass(&passed), Some(passed.clone()));
        }
    }

    #[test]
    fn the_number_of_records_is_limited() {
        let mut filter = Filter::new(Role::Server);
        let passed = (0..2 * MAX_RECORDS).filter(|_| filter.pass(&record(HANDSHAKE, 1, &[0; 40])).is_some());
        assert_eq!(passed.count(), MAX_RECORDS);
    }
}
