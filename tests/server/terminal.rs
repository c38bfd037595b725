//! The commands and their terminal: a closed output, a closed terminal, and a data directory that is in use.

use std::path::Path;
use std::process::Stdio;

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::log::PATIENCE;
use crate::test_server::settings;

fn command(arguments: &[&str], config: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tandem"));
    command.args(arguments).arg("--config").arg(config).stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// Waits until `tandem dev` shows calls.
async fn starts(mut command: Command) -> Child {
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let started = async { while !lines.next_line().await.unwrap().unwrap().contains("Calls are shown here") {} };
    tokio::time::timeout(PATIENCE, started).await.expect("it starts");
    // The output stays open, because a closed output ends the command.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    child
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_output_pipe_changes_no_exit_code() {
    let folder = TempDir::new().unwrap();
    let (good, bad) = (folder.path().join("good.toml"), folder.path().join("bad.toml"));
    std::fs::write(&good, settings(folder.path(), "")).unwrap();
    // Notes are printed before the errors.
    let phone = "[[endpoints]]\naccount = \"acme\"\nusername = \"u\"\npassword = \"change-me\"\nnonsense = 1\n";
    std::fs::write(&bad, settings(folder.path(), phone)).unwrap();
    for (arguments, config, expected) in
        [(&["check"][..], &good, 0), (&["check"], &bad, 1), (&["env"], &good, 0), (&["calls"], &good, 2)]
    {
        let mut child = command(arguments, config).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        drop(child.stderr.take());
        let status = tokio::time::timeout(PATIENCE, child.wait()).await.expect("it ends").unwrap();
        assert_eq!(status.code(), Some(expected), "{arguments:?} {}", config.display());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dev_ends_with_its_terminal_and_a_second_server_names_the_running_process() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("tandem.toml");
    std::fs::write(&file, settings(folder.path(), "")).unwrap();
    let mut first = starts(command(&["dev", "9/voice"], &file)).await;
    let id = first.id().unwrap().to_string();
    let second = command(&["dev", "9/voice"], &file).output();
    let second = tokio::time::timeout(PATIENCE, second).await.expect("it gives up").unwrap();
    let output = String::from_utf8(second.stderr).unwrap();
    assert_eq!(second.status.code(), Some(2), "{output}");
    assert!(output.contains(&format!("is in use by another tandem (process {id})")), "{output}");
    // The kernel sends SIGHUP when a terminal is closed.
    assert!(std::process::Command::new("kill").args(["-HUP", &id]).status().unwrap().success());
    let status = tokio::time::timeout(PATIENCE, first.wait()).await.expect("it ends").unwrap();
    assert!(status.success(), "{status}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dev_survives_the_end_of_its_terminal_under_nohup() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("tandem.toml");
    std::fs::write(&file, settings(folder.path(), "")).unwrap();
    let mut nohup = Command::new("nohup");
    nohup.arg(env!("CARGO_BIN_EXE_tandem")).args(["dev", "9/voice", "--config"]).arg(&file);
    nohup.stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let mut child = starts(nohup).await;
    let id = child.id().unwrap().to_string();
    assert!(std::process::Command::new("kill").args(["-HUP", &id]).status().unwrap().success());
    // A server without calls ends at once. The second server takes longer to give up.
    let second = command(&["dev", "9/voice"], &file).output();
    let second = tokio::time::timeout(PATIENCE, second).await.expect("it gives up").unwrap();
    assert!(String::from_utf8(second.stderr).unwrap().contains(&format!("another tandem (process {id})")));
    assert_eq!(child.try_wait().unwrap(), None, "SIGHUP is ignored");
    assert!(std::process::Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    let status = tokio::time::timeout(PATIENCE, child.wait()).await.expect("it ends").unwrap();
    assert!(status.success(), "{status}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_write_to_standard_output_is_a_failure() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("tandem.toml");
    std::fs::write(&file, settings(folder.path(), "")).unwrap();
    for arguments in [&["check"][..], &["env"]] {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let child = command(arguments, &file).stdout(full).stderr(Stdio::piped()).spawn().unwrap();
        let ended = tokio::time::timeout(PATIENCE, child.wait_with_output()).await.expect("it ends").unwrap();
        let output = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(2), "{arguments:?}: {output}");
        assert!(output.contains("standard output cannot be written: No space left on device"), "{output}");
    }
}
