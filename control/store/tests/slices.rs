//! The slices and the commands of the nodes of a cluster. Only PostgreSQL has several nodes.

use crate::commands::{self, CommandState};
use crate::nodes::{self, NodeDetails, NodeState};
use crate::slices::{SliceChanges, SliceConnection, SliceRow};
use crate::testing::PostgresServer;
use crate::{Store, StoreError};

async fn store(server: &PostgresServer, name: &str) -> Store {
    Store::open(&server.database(name).await).await.unwrap()
}

async fn join(store: &Store, name: &str) -> i64 {
    nodes::join(store, name, &NodeDetails::default()).await.unwrap()
}

fn row(name: &str, epoch: i64, amount: u32) -> SliceRow {
    SliceRow { name: name.into(), epoch, amount, need: 1, urgency: 2 }
}

fn sum(changes: &SliceChanges, name: &str) -> u32 {
    changes.rows.iter().filter(|row| row.name == name).map(|row| row.amount).sum()
}

/// Takes up to three of what is free of the limit 10, or gives everything back.
async fn take_or_give(connection: &mut SliceConnection, epoch: i64) -> Result<Option<SliceChanges>, StoreError> {
    let decide = |fresh: &SliceChanges| {
        let own = fresh.rows.iter().find(|row| row.epoch == epoch).map_or(0, |row| row.amount);
        let free = 10 - sum(fresh, "it's a \"limit\"");
        let amount = if own > 4 { 0 } else { own + free.min(3) };
        vec![row("it's a \"limit\"", epoch, amount)]
    };
    connection.change(epoch, &["it's a \"limit\"", "other"], decide).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_change_slices_at_the_same_time_never_take_more_than_the_limit() {
    let Some(server) = PostgresServer::start() else { return };
    let store = store(&server, "slices").await;
    let mut nodes = tokio::task::JoinSet::new();
    for name in ["a", "b", "c", "d"] {
        let (epoch, store) = (join(&store, name).await, store.clone());
        nodes.spawn(async move {
            let mut connection = SliceConnection::of(&store);
            for _ in 0..100 {
                let after = take_or_give(&mut connection, epoch).await.unwrap().unwrap();
                assert!(sum(&after, "it's a \"limit\"") <= 10);
                let all = connection.read(0).await.unwrap();
                assert!(sum(&all, "it's a \"limit\"") <= 10);
            }
        });
    }
    while let Some(ended) = nodes.join_next().await {
        ended.unwrap();
    }
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_reads_only_what_has_changed_and_a_node_that_is_gone_has_no_slices() {
    let Some(server) = PostgresServer::start() else { return };
    let store = store(&server, "changes").await;
    let (a, b) = (join(&store, "a").await, join(&store, "b").await);
    let mut connection = SliceConnection::of(&store);
    let none = connection.read(0).await.unwrap();
    assert_eq!((none.nodes, none.latest), (vec![(a, NodeState::Alive), (b, NodeState::Alive)], 0));
    let change = async |connection: &mut SliceConnection, rows: Vec<SliceRow>| {
        let epoch = rows[0].epoch;
        connection.change(epoch, &["x", "y"], |_| rows).await.unwrap()
    };
    change(&mut connection, vec![row("x", a, 3), row("y", a, 4)]).await.unwrap();
    let first = connection.read(0).await.unwrap();
    assert_eq!(first.rows.len(), 2);
    let both = change(&mut connection, vec![row("x", b, 5)]).await.unwrap();
    assert_eq!((sum(&both, "x"), sum(&both, "y")), (8, 4));
    let second = connection.read(first.latest).await.unwrap();
    assert_eq!(second.rows, [row("x", b, 5)]);
    assert!(second.latest > first.latest);
    let third = connection.read(second.latest).await.unwrap();
    assert_eq!((third.rows, third.latest), (vec![], second.latest));
    // Nothing is written without a decision.
    connection.change(b, &["x"], |_| Vec::new()).await.unwrap().unwrap();
    assert_eq!(connection.read(0).await.unwrap().latest, second.latest);
    nodes::end(&store, a).await.unwrap();
    assert_eq!(connection.change(a, &["x"], |_| vec![row("x", a, 1)]).await.unwrap(), None, "it has lost its lease");
    let rest = connection.read(0).await.unwrap();
    assert_eq!((rest.nodes, rest.rows), (vec![(b, NodeState::Alive)], vec![row("x", b, 5)]));
    connection.prune().await.unwrap();
    let rows: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM limit_slices").fetch_one(&store.pool).await.unwrap();
    assert_eq!(rows, 1);
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_hangs_in_a_change_stops_the_others_only_for_a_moment() {
    let Some(server) = PostgresServer::start() else { return };
    let store = store(&server, "hang").await;
    let (a, b) = (join(&store, "a").await, join(&store, "b").await);
    let mut other = SliceConnection::of(&store);
    let (begun, is_begun) = std::sync::mpsc::channel();
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let hanging = store.clone();
    let hangs = tokio::spawn(async move {
        let mut connection = SliceConnection::of(&hanging);
        let decide = move |_: &SliceChanges| {
            begun.send(()).unwrap();
            // The process of the node is stopped, for example.
            let _ = tokio::task::block_in_place(|| stopped.recv());
            vec![row("x", a, 7)]
        };
        connection.change(a, &["x"], decide).await
    });
    tokio::task::spawn_blocking(move || is_begun.recv().unwrap()).await.unwrap();
    let until = std::time::Duration::from_secs(30);
    let changed = async { while other.change(b, &["x"], |_| vec![row("x", b, 10)]).await.is_err() {} };
    tokio::time::timeout(until, changed).await.expect("the database ends the change of the node that hangs");
    stop.send(()).unwrap();
    assert!(hangs.await.unwrap().is_err());
    assert_eq!(other.read(0).await.unwrap().rows, [row("x", b, 10)]);
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_node_executes_a_command_and_the_others_get_its_answer() {
    let Some(server) = PostgresServer::start() else { return };
    let store = store(&server, "commands").await;
    let (a, b) = (join(&store, "a").await, join(&store, "b").await);
    let mut attempts = tokio::task::JoinSet::new();
    for number in 0..12 {
        let (store, epoch) = (store.clone(), if number % 2 == 0 { a } else { b });
        attempts.spawn(async move { commands::begin(&store, "dial", epoch).await.unwrap() });
    }
    let states = attempts.join_all().await;
    assert_eq!(states.iter().filter(|state| **state == CommandState::Begun).count(), 1);
    assert_eq!(states.iter().filter(|state| **state == CommandState::Running).count(), 11);
    for epoch in [a, b] {
        // Only the owner of the command can end it.
        commands::abandon(&store, "other", epoch).await.unwrap();
        commands::finish(&store, "dial", epoch, &format!("{epoch}")).await.unwrap();
    }
    let owner = match commands::begin(&store, "dial", b).await.unwrap() {
        CommandState::Answered(answer) => answer,
        state => panic!("{state:?}"),
    };
    assert!([a, b].iter().any(|epoch| epoch.to_string() == owner));
    // A command that failed is executed by the next attempt.
    assert_eq!(commands::begin(&store, "fails", a).await.unwrap(), CommandState::Begun);
    assert_eq!(commands::begin(&store, "fails", b).await.unwrap(), CommandState::Running);
    commands::abandon(&store, "fails", a).await.unwrap();
    assert_eq!(commands::begin(&store, "fails", b).await.unwrap(), CommandState::Begun);
    // So is a command whose node has died.
    nodes::end(&store, b).await.unwrap();
    assert_eq!(commands::begin(&store, "fails", a).await.unwrap(), CommandState::Begun);
    // An answer is kept for a minute.
    let age = "UPDATE commands SET at = at - 60000001 WHERE key = 'dial'";
    sqlx::query(age).execute(&store.pool).await.unwrap();
    assert_eq!(commands::begin(&store, "dial", a).await.unwrap(), CommandState::Begun);
    sqlx::query("UPDATE commands SET at = at - 600000001").execute(&store.pool).await.unwrap();
    commands::prune(&store).await.unwrap();
    let rows: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM commands").fetch_one(&store.pool).await.unwrap();
    assert_eq!(rows, 0);
    store.close().await;
}
