use super::*;
use crate::testing::instant;

fn answered() -> AnsweredServer {
    AnsweredServer { leg: None, tag: 1, answer: Answer::Status { status: 200, refer: false } }
}

#[test]
fn completed_transactions_of_one_bucket_are_removed_together_and_never_early() {
    let start = instant();
    let at = |milliseconds| start + Duration::from_millis(milliseconds);
    let mut completed = CompletedTransactions::default();
    for number in 0..100_u64 {
        let key = Key(u128::from(number) << 64);
        completed.insert_server(at(number * 10), key, (number % 2 == 0).then_some(Key(u128::from(number))), answered());
        completed.insert_invite(at(number * 10), number.into(), None, flow(), 1);
    }
    assert_eq!(completed.len(), 200);
    let mut looked = 0;
    while let Some(end) = completed.poll_timeout() {
        looked += 1;
        completed.handle_timeout(end);
        let left: u64 =
            (0..100).filter(|number| completed.answered_server(&Key(u128::from(*number) << 64)).is_some()).sum();
        let over = (0..100_u64).filter(|number| at(number * 10) > end).sum::<u64>();
        assert_eq!(left, over, "those whose time is over are gone, the others are there");
    }
    assert_eq!((looked, completed.table_sizes()), (4, 0));
}

#[test]
fn memory_of_a_burst_is_freed() {
    let start = instant();
    let mut completed = CompletedTransactions::default();
    for number in 0..20_000 {
        completed.insert_server(start, Key(number << 64), None, answered());
    }
    completed.handle_timeout(start);
    assert!(completed.servers.capacity() < 1_000, "{}", completed.servers.capacity());
}

fn flow() -> Flow {
    Flow {
        transport: crate::Transport::Udp,
        peer: "127.0.0.2:5060".parse().unwrap(),
        local: 0,
        connection: None,
        identity: None,
        secure: false,
        pinned: false,
    }
}
