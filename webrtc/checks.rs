//! The connectivity checks of both sides. The agent knows a check by its transaction id alone. So somebody who has seen a
//! check or an answer could send it again from elsewhere, and media would follow. This module refuses such repetitions.

use std::collections::VecDeque;
use std::net::SocketAddr;

/// The highest number of our checks that are remembered until their answer. The agent has at most 13 for each pair.
const MAX_OURS: usize = 128;
/// The highest number of the far end's checks that are remembered. A browser sends one every 2.5 s.
const MAX_THEIRS: usize = 256;

/// A transaction id (RFC 8489 §5).
type Id = [u8; 12];

/// The newest checks of both sides, each with the far end's address.
#[derive(Default)]
pub(crate) struct Checks {
    ours: VecDeque<(Id, SocketAddr)>,
    theirs: VecDeque<(Id, SocketAddr)>,
}

/// What a STUN message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A check of the far end, for the first time.
    Check,
    /// The answer to a check of ours, for the first time, from the address of the check (RFC 8445 §7.2.5.2.1).
    Answer,
    /// A check that has come before from the same address. It gets an answer, and proves nothing.
    Repetition,
    /// An answer that nobody waits for, or a check that has come before from another address.
    Forged,
}

impl Checks {
    /// Takes note of a STUN message that we send to `to`.
    pub(crate) fn note_sent(&mut self, to: SocketAddr, octets: &[u8]) {
        if let Some((true, id)) = parse(octets) {
            remember(&mut self.ours, MAX_OURS, (id, to));
        }
    }

    /// Decides about a STUN message from `from`. Changes nothing, because the message may not be authentic.
    pub(crate) fn judge(&self, from: SocketAddr, octets: &[u8]) -> Kind {
        match parse(octets) {
            None => Kind::Forged,
            Some((true, id)) => match self.theirs.iter().find(|(known, _)| *known == id) {
                None => Kind::Check,
                Some((_, source)) if *source == from => Kind::Repetition,
                Some(_) => Kind::Forged,
            },
            Some((false, id)) if self.ours.contains(&(id, from)) => Kind::Answer,
            Some((false, _)) => Kind::Forged,
        }
    }

    /// Takes note of an authentic message that was judged.
    pub(crate) fn note_received(&mut self, from: SocketAddr, octets: &[u8]) {
        match parse(octets) {
            Some((true, id)) if !self.theirs.contains(&(id, from)) => {
                remember(&mut self.theirs, MAX_THEIRS, (id, from));
            }
            Some((false, id)) => self.ours.retain(|(known, _)| *known != id),
            _ => {}
        }
    }
}

fn remember(checks: &mut VecDeque<(Id, SocketAddr)>, most: usize, check: (Id, SocketAddr)) {
    if checks.len() >= most {
        checks.pop_front();
    }
    checks.push_back(check);
}

/// Returns whether a STUN message is a request, and its transaction id.
fn parse(octets: &[u8]) -> Option<(bool, Id)> {
    // The class is in two bits of the type (RFC 8489 §5).
    let is_request = octets.first_chunk::<2>().map(|[high, low]| high & 1 == 0 && low & 0x10 == 0)?;
    Some((is_request, *octets.get(8..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: [u8; 2], id: u8) -> Vec<u8> {
        [&kind[..], &[0, 0, 0x21, 0x12, 0xA4, 0x42], &[id; 12]].concat()
    }

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    #[test]
    fn an_answer_is_for_one_check_and_comes_from_its_address() {
        let mut checks = Checks::default();
        let answer = message([1, 1], 7);
        assert_eq!(checks.judge(address(1), &answer), Kind::Forged);
        checks.note_sent(address(1), &message([0, 1], 7));
        assert_eq!(checks.judge(address(2), &answer), Kind::Forged);
        assert_eq!(checks.judge(address(1), &answer), Kind::Answer);
        checks.note_received(address(1), &answer);
        assert_eq!(checks.judge(address(1), &answer), Kind::Forged);
    }

    #[test]
    fn a_check_is_new_once_and_has_one_address() {
        let mut checks = Checks::default();
        let check = message([0, 1], 7);
        assert_eq!(checks.judge(address(1), &check), Kind::Check);
        checks.note_received(address(1), &check);
        assert_eq!(checks.judge(address(1), &check), Kind::Repetition);
        assert_eq!(checks.judge(address(2), &check), Kind::Forged);
        assert_eq!(checks.judge(address(1), &check[..15]), Kind::Forged);
    }

    #[test]
    fn the_number_of_remembered_checks_is_limited() {
        let mut checks = Checks::default();
        for id in 0..=255 {
            for kind in [[0, 1], [0, 3]] {
                checks.note_sent(address(1), &message(kind, id));
                checks.note_received(address(u16::from(id) + u16::from(kind[1]) * 1_000), &message(kind, id));
            }
        }
        assert_eq!((checks.ours.len(), checks.theirs.len()), (MAX_OURS, MAX_THEIRS));
    }
}
