//! The requirements for the start of the server: a database that no other process uses, and a writable directory. If a
//! requirement is not met, the server reports the error.

use std::path::Path;
use std::process::Stdio;

use tandem_test_support::wait_for;
use tempfile::TempDir;
use tokio::process::Command;

use crate::log::PATIENCE;
use crate::program::Program;
use crate::test_server::{TestServer, settings};

/// Runs a server that must refuse to start. Returns the exit code and the standard error output of the server.
async fn refused(config: &Path, environment: &[(&str, &str)]) -> (Option<i32>, String) {
    let run = Command::new(env!("CARGO_BIN_EXE_tandem"))
        .args(["serve", "--config"])
        .arg(config)
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(PATIENCE, run).await.expect("it gives up").unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_server_on_the_same_database_exits_with_a_reason() {
    let folder = TempDir::new().unwrap();
    let (one, other) = (folder.path().join("one.toml"), folder.path().join("other.toml"));
    let database = format!("[database]\nurl = \"sqlite:{}/shared.db\"\n", folder.path().display());
    std::fs::write(&one, settings(&folder.path().join("one"), &database)).unwrap();
    std::fs::write(&other, settings(&folder.path().join("other"), &database)).unwrap();
    let program = Program::start(&one).await;
    let (code, output) = refused(&other, &[]).await;
    assert_eq!(code, Some(2), "{output}");
    assert!(output.contains("database.url: the database is in use by another tandem"), "{output}");
    program.terminate();
    assert!(program.ended().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_for_recordings_without_write_access_stops_the_start() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("tandem.toml");
    std::fs::write(&file, settings(folder.path(), "")).unwrap();
    // Even the user root cannot create a file in `/proc`.
    let (code, output) = refused(&file, &[("TANDEM_RECORDINGS__URL", "file:/proc")]).await;
    assert_eq!(code, Some(2), "{output}");
    assert!(output.contains("recordings.url: cannot create a file in /proc"), "{output}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_with_a_moved_database_is_not_ready_until_its_return() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("tandem.db");
    let server = TestServer::start(&format!("[database]\nurl = \"sqlite:{}\"\n", path.display())).await;
    let ready = async |expected: u16| {
        let ready = async || Some(server.api.get("/readyz").await).filter(|reply| reply.status == expected);
        let reply = wait_for(PATIENCE, &format!("/readyz answers {expected}"), ready).await;
        String::from_utf8(reply.body).unwrap()
    };
    ready(200).await;
    std::fs::rename(&path, folder.path().join("away")).unwrap();
    assert!(ready(503).await.contains("was deleted or moved"));
    let metrics = String::from_utf8(server.api.get("/metrics").await.body).unwrap();
    assert!(metrics.contains("\ntandem_database_ready 0\n"), "{metrics}");
    std::fs::rename(folder.path().join("away"), &path).unwrap();
    ready(200).await;
    server.end().await;
}
