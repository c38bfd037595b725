//! The ends of calls. A frame is lost if its socket is lost at the same time, so a page gets the end of a call again at each
//! login of its session, until it has confirmed the end.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use foldhash::HashMap;
use parking_lot::Mutex;
use tandem_clients::User;

use crate::socket::Outbox;

/// Time for which the end of a call waits for the page.
const KEPT: Duration = Duration::from_secs(60);
/// Maximum number of ends that wait. If there are more, the oldest are dropped.
const MAX_KEPT: usize = 1_000;
/// Maximum number of ends that a page gets again at a login: the newest ones.
const MAX_AGAIN: usize = 32;

/// A session of a user.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct SessionKey {
    pub(crate) user: User,
    /// The id. Empty if the protocol has no sessions.
    pub(crate) id: Arc<str>,
}

impl SessionKey {
    /// Whether the session survives the socket of its page.
    pub(crate) fn is_lasting(&self) -> bool {
        !self.id.is_empty()
    }
}

/// The ends that pages have not confirmed, and the sockets of the sessions.
#[derive(Default)]
pub(crate) struct Ends(Mutex<Table>);

#[derive(Default)]
struct Table {
    unconfirmed: VecDeque<Unconfirmed>,
    /// A session has several sockets if a lost socket was not noticed yet, or if two tabs of a browser have one session.
    sockets: HashMap<SessionKey, Vec<Outbox>>,
}

struct Unconfirmed {
    at: Instant,
    session: SessionKey,
    /// The id of the request that the page confirms.
    id: u32,
    frames: Vec<String>,
}

impl Ends {
    /// From now on, this socket gets the ends of the session's calls.
    pub(crate) fn open(&self, session: SessionKey, socket: &Outbox) {
        self.0.lock().sockets.entry(session).or_default().push(socket.clone());
    }

    /// The socket is lost.
    pub(crate) fn close(&self, session: &SessionKey, socket: &Outbox) {
        let mut table = self.0.lock();
        let Some(sockets) = table.sockets.get_mut(session) else { return };
        if let Some(at) = sockets.iter().position(|one| one.is_same(socket)) {
            sockets.remove(at);
        }
        if sockets.is_empty() {
            table.sockets.remove(session);
        }
    }

    /// Sends the end of a call to each socket of its session, and keeps it until a page confirms it.
    pub(crate) fn send(&self, session: SessionKey, id: u32, frames: Vec<String>, now: Instant) {
        let mut table = self.0.lock();
        let Table { unconfirmed, sockets } = &mut *table;
        for socket in sockets.get(&session).into_iter().flatten() {
            frames.iter().for_each(|frame| socket.send(frame.clone()));
        }
        while unconfirmed.front().is_some_and(|first| first.is_old(now)) || unconfirmed.len() >= MAX_KEPT {
            unconfirmed.pop_front();
        }
        unconfirmed.push_back(Unconfirmed { at: now, session, id, frames });
    }

    /// Sends the ends that the session has not confirmed, because its last socket may have lost them.
    pub(crate) fn send_again(&self, session: &SessionKey, socket: &Outbox, now: Instant) {
        let mut table = self.0.lock();
        table.unconfirmed.retain(|one| !one.is_old(now));
        let own: Vec<_> = table.unconfirmed.iter().filter(|one| one.session == *session).collect();
        for one in own.iter().skip(own.len().saturating_sub(MAX_AGAIN)) {
            one.frames.iter().for_each(|frame| socket.send(frame.clone()));
        }
    }

    /// A page of the session has answered the request with this id.
    pub(crate) fn confirm(&self, session: &SessionKey, id: u32) {
        self.0.lock().unconfirmed.retain(|one| one.id != id || one.session != *session);
    }
}

impl Unconfirmed {
    fn is_old(&self, now: Instant) -> bool {
        now.duration_since(self.at) >= KEPT
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::socket::Waiting;

    fn session(user: &str, id: &str) -> SessionKey {
        let user = User { account: tandem_id::AccountName::new("acme"), name: user.into(), domain: None };
        SessionKey { user, id: id.into() }
    }

    /// Opens a socket as a login does.
    fn log_in(ends: &Ends, session: &SessionKey, now: Instant) -> (Outbox, Waiting) {
        let (socket, waiting) = Outbox::new();
        ends.open(session.clone(), &socket);
        ends.send_again(session, &socket, now);
        (socket, waiting)
    }

    fn end(ends: &Ends, session: &SessionKey, id: u32, now: Instant) {
        ends.send(session.clone(), id, vec![format!("bye {id}")], now);
    }

    fn start() -> (Ends, SessionKey, Instant) {
        (Ends::default(), session("alice", "1"), tandem_host::clock::now().instant)
    }

    #[test]
    fn an_end_reaches_the_page_whether_it_is_before_or_after_the_loss_of_the_socket_and_the_next_login() {
        for order in
            ["end, loss, login", "loss, end, login", "end, login, loss", "loss, login, end", "login, end, loss"]
        {
            let (ends, alice, now) = start();
            // Nobody reads the first socket any more.
            let (first, _lost) = log_in(&ends, &alice, now);
            let mut next = None;
            for step in order.split(", ") {
                match step {
                    "end" => end(&ends, &alice, 7, now),
                    "loss" => ends.close(&alice, &first),
                    _ => next = Some(log_in(&ends, &alice, now)),
                }
            }
            assert_eq!(next.unwrap().1.sent(), ["bye 7"], "{order}");
        }
    }

    #[test]
    fn a_confirmed_end_is_not_sent_again() {
        let (ends, alice, now) = start();
        end(&ends, &alice, 7, now);
        end(&ends, &alice, 8, now);
        // Another user has the id of the session, and another session has the user.
        for other in [session("bob", "1"), session("alice", "2")] {
            ends.confirm(&other, 7);
            assert!(log_in(&ends, &other, now).1.sent().is_empty());
        }
        assert_eq!(log_in(&ends, &alice, now).1.sent(), ["bye 7", "bye 8"]);
        ends.confirm(&alice, 7);
        assert_eq!(log_in(&ends, &alice, now).1.sent(), ["bye 8"]);
        assert!(log_in(&ends, &alice, now + KEPT).1.sent().is_empty());
    }

    #[test]
    fn a_second_login_over_the_same_socket_stays_when_the_first_one_is_dropped() {
        let (ends, alice, now) = start();
        let (socket, mut waiting) = log_in(&ends, &alice, now);
        ends.open(alice.clone(), &socket);
        ends.close(&alice, &socket);
        end(&ends, &alice, 7, now);
        assert_eq!(waiting.sent(), ["bye 7"]);
    }

    #[test]
    fn nothing_grows_without_bound() {
        let (ends, alice, now) = start();
        (0..=MAX_KEPT).for_each(|id| end(&ends, &alice, u32::try_from(id).unwrap(), now));
        let (socket, mut waiting) = log_in(&ends, &alice, now);
        assert_eq!((waiting.sent().len(), waiting.sent().len()), (MAX_AGAIN, 0));
        assert_eq!(ends.0.lock().unconfirmed.len(), MAX_KEPT);
        ends.close(&alice, &socket);
        end(&ends, &alice, 0, now + KEPT);
        let table = ends.0.lock();
        assert_eq!((table.unconfirmed.len(), table.sockets.len()), (1, 0));
    }
}
