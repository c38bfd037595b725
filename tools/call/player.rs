//! Plays the audio of the other side through a program of this machine.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, SyncSender};

/// The programs in the order in which they are tried, each with the arguments for raw audio from standard input: 8,000
/// samples a second, 16 bits, little-endian, one channel.
const PROGRAMS: [(&str, &str); 5] = [
    ("aplay", "-q -t raw -f S16_LE -r 8000 -c 1 -"),
    ("paplay", "--raw --format=s16le --rate=8000 --channels=1 --latency-msec=100"),
    ("ffplay", "-loglevel error -nodisp -autoexit -f s16le -ar 8000 -i -"),
    ("play", "-q -t raw -e signed -b 16 -r 8000 -c 1 -"),
    ("pw-play", "--raw --format s16 --rate 8000 --channels 1 -"),
];
/// Maximum number of frames that wait for the program. They last 1 s. Later frames are dropped.
const WAITING: usize = 50;
/// Maximum length of the program's error message, in octets.
const LONGEST: u64 = 200;

/// A running program that plays audio.
pub(super) struct Player {
    program: &'static str,
    frames: SyncSender<Vec<i16>>,
    failure: mpsc::Receiver<String>,
}

impl Player {
    /// Starts the first program that this machine has.
    ///
    /// # Errors
    /// Returns a text that names all programs if this machine has none of them.
    pub(super) fn start() -> Result<Self, String> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let (program, arguments) = PROGRAMS.into_iter().find(|(name, _)| is_in(&path, name)).ok_or_else(|| {
            let names = PROGRAMS.map(|(name, _)| name).join(", ");
            format!(
                "this machine has no player: none of {names} is on the PATH; `apt install alsa-utils` installs aplay"
            )
        })?;
        let mut command = Command::new(program);
        command.args(arguments.split(' ')).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| format!("{program}: {error}"))?;
        let (frames, waiting) = mpsc::sync_channel::<Vec<i16>>(WAITING);
        let (says, failure) = mpsc::channel();
        // The thread ends when the call drops the sender of the frames, or when the program ends.
        std::thread::spawn(move || {
            let Some(mut input) = child.stdin.take() else { return };
            for samples in waiting {
                let octets: Vec<u8> = samples.iter().flat_map(|sample| sample.to_le_bytes()).collect();
                if input.write_all(&octets).is_err() {
                    // Sending fails if the call has ended.
                    let _ = says.send(message(&mut child));
                    return;
                }
            }
            drop(input);
            // The status is of no interest, because the call is over.
            let _ = child.wait();
        });
        Ok(Self { program, frames, failure })
    }

    /// Returns the name of the program.
    pub(super) fn program(&self) -> &'static str {
        self.program
    }

    /// Plays a frame. If the program is too slow, the frame is dropped. Returns the error message of the program if the
    /// program has ended.
    pub(super) fn play(&self, samples: &[i16]) -> Result<(), String> {
        // A full channel means that the program is too slow. A closed channel means that the program has ended.
        let _ = self.frames.try_send(samples.to_vec());
        self.failure.try_recv().map_or(Ok(()), Err)
    }
}

/// Returns the last line that the program wrote to standard error.
fn message(child: &mut Child) -> String {
    let mut text = String::new();
    if let Some(errors) = child.stderr.take() {
        // A text that is not UTF-8 is of no use here.
        let _ = errors.take(LONGEST).read_to_string(&mut text);
    }
    // The program has closed its input, so it ends.
    let status = child.wait().map(|status| status.to_string()).unwrap_or_default();
    text.lines().last().map_or(status, str::to_owned)
}

/// Returns whether a directory of this search path has an executable file with this name.
fn is_in(path: &OsStr, name: &str) -> bool {
    use std::os::unix::fs::PermissionsExt;

    let is_executable =
        |file: &Path| file.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0);
    std::env::split_paths(path).any(|folder| is_executable(&folder.join(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_executable_files_on_the_path_are_found() {
        use std::os::unix::fs::PermissionsExt;

        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("aplay");
        std::fs::write(&file, "#!/bin/sh\n").unwrap();
        assert!(!is_in(folder.path().as_os_str(), "aplay"));
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert!(is_in(folder.path().as_os_str(), "aplay"));
        assert!(!is_in(folder.path().as_os_str(), "ffplay"));
    }
}
