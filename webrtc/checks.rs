//! The connectivity checks of both sides. The agent knows a check by its transaction id alone. So somebody who has seen a
//! check or an answer could send it again from elsewhere, and media would follow. This module refuses such repetitions.

use std::collections::VecDeque;
use std::net::SocketAddr;

use is::stun::TransId;

/// The highest number of our checks that are remembered until their answer. The agent has at most 13 for each pair.
const MAX_OURS: usize = 128;
/// The highest number of the far end's checks that are remembered. A browser sends one every 2.5 s.
const MAX_THEIRS: usize = 256;

/// The newest checks of both sides, each with the far end's address.
#[derive(Default)]
pub(crate) struct Checks {
    ours: VecDeque<(TransId, SocketAddr)>,
    theirs: VecDeque<(TransId, SocketAddr)>,
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
    /// Takes note of a check that we send to `to`.
    pub(crate) fn note_sent(&mut self, to: SocketAddr, id: TransId) {
        remember(&mut self.ours, MAX_OURS, (id, to));
    }

    /// Decides about a message from `from`: a check, or something that can only be an answer. Changes nothing, because the
    /// message may not be authentic.
    pub(crate) fn judge(&self, from: SocketAddr, is_check: bool, id: TransId) -> Kind {
        if !is_check {
            return if self.ours.contains(&(id, from)) { Kind::Answer } else { Kind::Forged };
        }
        match self.theirs.iter().find(|(known, _)| *known == id) {
            None => Kind::Check,
            Some((_, source)) if *source == from => Kind::Repetition,
            Some(_) => Kind::Forged,
        }
    }

    /// Takes note of an authentic message that was judged.
    pub(crate) fn note_received(&mut self, from: SocketAddr, kind: Kind, id: TransId) {
        match kind {
            Kind::Check => remember(&mut self.theirs, MAX_THEIRS, (id, from)),
            Kind::Answer => self.ours.retain(|(known, _)| *known != id),
            Kind::Repetition | Kind::Forged => {}
        }
    }
}

fn remember(checks: &mut VecDeque<(TransId, SocketAddr)>, most: usize, check: (TransId, SocketAddr)) {
    if checks.len() >= most {
        checks.pop_front();
    }
    checks.push_back(check);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    #[test]
    fn an_answer_is_for_one_check_and_comes_from_its_address() {
        let (mut checks, id) = (Checks::default(), TransId::new());
        assert_eq!(checks.judge(address(1), false, id), Kind::Forged);
        checks.note_sent(address(1), id);
        assert_eq!(checks.judge(address(2), false, id), Kind::Forged);
        assert_eq!(checks.judge(address(1), false, id), Kind::Answer);
        checks.note_received(address(1), Kind::Answer, id);
        assert_eq!(checks.judge(address(1), false, id), Kind::Forged);
    }

    #[test]
    fn a_check_is_new_once_and_has_one_address() {
        let (mut checks, id) = (Checks::default(), TransId::new());
        assert_eq!(checks.judge(address(1), true, id), Kind::Check);
        checks.note_received(address(1), Kind::Check, id);
        assert_eq!(checks.judge(address(1), true, id), Kind::Repetition);
        assert_eq!(checks.judge(address(2), true, id), Kind::Forged);
    }

    #[test]
    fn the_number_of_remembered_checks_is_limited() {
        let mut checks = Checks::default();
        for _ in 0..2 * MAX_THEIRS {
            checks.note_sent(address(1), TransId::new());
            checks.note_received(address(1), Kind::Check, TransId::new());
        }
        assert_eq!((checks.ours.len(), checks.theirs.len()), (MAX_OURS, MAX_THEIRS));
    }
}
