//! Tells the program which build it is: `TANDEM_COMMIT` (empty if nobody knows) and `TANDEM_RUSTC`.

use std::path::Path;
use std::process::Command;

fn main() {
    // Who builds from an archive may say which commit it is of.
    println!("cargo::rerun-if-env-changed=TANDEM_COMMIT");
    let commit = std::env::var("TANDEM_COMMIT")
        .ok()
        .or_else(|| output_of(Command::new("git").args(["rev-parse", "--short=12", "HEAD"])));
    // It grows with each commit and each checkout.
    let log = output_of(Command::new("git").args(["rev-parse", "--git-path", "logs/HEAD"]));
    match log.filter(|log| Path::new(log).exists()) {
        Some(log) => println!("cargo::rerun-if-changed={log}"),
        None => println!("cargo::rerun-if-changed=build.rs"),
    }
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let version = output_of(Command::new(rustc).arg("--version")).unwrap_or_default();
    let version = version.split_whitespace().nth(1).unwrap_or_default();
    println!("cargo::rustc-env=TANDEM_COMMIT={}", commit.unwrap_or_default());
    println!("cargo::rustc-env=TANDEM_RUSTC={version}");
}

/// Returns the output of a program, if the program can be run and ends without an error.
fn output_of(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
