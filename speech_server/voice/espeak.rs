//! Phonemes from the program espeak-ng. The program runs as a process of its own, because its licence is the GPL. It reads the
//! text from standard input, one clause a line; the command line has only words of this crate and of the voice's configuration.

use std::io::{self, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use super::VoiceError;

/// The name of the program.
const PROGRAM: &str = "espeak-ng";
/// The time for one text. A text of 16 KiB takes less than 0.2 s.
const TIME: Duration = Duration::from_secs(10);
/// The most processes for one text. A line that espeak-ng cannot read takes two processes for each doubling of the number of lines.
const MOST_PROCESSES: u32 = 100;
/// The largest output in octets. One character of the text becomes a few octets.
const LARGEST_OUTPUT: u64 = 1024 * 1024;

/// Returns the phonemes (IPA) of each line. A line contains no line break.
pub(super) fn phonemes(voice: &str, lines: &[&str]) -> Result<Vec<String>, VoiceError> {
    let mut processes = MOST_PROCESSES;
    let mut run = |text: &str| {
        processes = processes.checked_sub(1).ok_or_else(|| {
            VoiceError::Espeak(format!("{PROGRAM} cannot read many parts of the text: is its voice `{voice}` right?"))
        })?;
        run(voice, text)
    };
    of_each(&mut run, lines)
}

/// espeak-ng can split a line, or have no words for one. Then the halves of the lines are read alone, down to this line.
fn of_each(run: &mut dyn FnMut(&str) -> Result<String, VoiceError>, lines: &[&str]) -> Result<Vec<String>, VoiceError> {
    let output = run(&lines.join("\n"))?;
    let found: Vec<String> = output.lines().filter(|line| !line.trim().is_empty()).map(clean).collect();
    if found.len() == lines.len() {
        return Ok(found);
    }
    if lines.len() < 2 {
        return Ok(vec![found.join(" ").trim().to_owned()]);
    }
    let (first, second) = lines.split_at(lines.len() / 2);
    let mut found = of_each(run, first)?;
    found.extend(of_each(run, second)?);
    Ok(found)
}

/// Removes the marks of a change of the language: `(en)`.
fn clean(line: &str) -> String {
    let mut cleaned = String::new();
    let mut is_mark = false;
    for c in line.trim().chars() {
        match c {
            '(' => is_mark = true,
            ')' => is_mark = false,
            _ if !is_mark => cleaned.push(c),
            _ => {}
        }
    }
    cleaned
}

/// Runs the program, and ends it after [`TIME`].
fn run(voice: &str, text: &str) -> Result<String, VoiceError> {
    // `-q`: no audio. `-v` and its value are one argument, so no value can be another option.
    let mut child = Command::new(PROGRAM)
        .args(["-q", "--ipa", "-b", "1", &format!("-v{voice}")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| VoiceError::Espeak(explain(&error)))?;
    let (Some(mut stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(VoiceError::Espeak("it has no pipes".into()));
    };
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut output = String::new();
        let read = stdout.take(LARGEST_OUTPUT).read_to_string(&mut output);
        // The receiver is gone after the time limit.
        let _ = sender.send(read.map(|_| output));
    });
    // The program can end before it has read everything: its exit code says so.
    let text = format!("{text}\n");
    let writer = std::thread::spawn(move || stdin.write_all(text.as_bytes()));
    let output = receiver.recv_timeout(TIME);
    let ended = finish(&mut child, output.is_err());
    // The writer ends too, because the program has closed the pipe.
    let _ = writer.join();
    let output = output.map_err(|_| VoiceError::Espeak(format!("no answer in {} s", TIME.as_secs())))?;
    let output = output.map_err(|error| VoiceError::Espeak(error.to_string()))?;
    match ended {
        Ok(status) if status.success() => Ok(output),
        Ok(status) => {
            Err(VoiceError::Espeak(format!("{PROGRAM} failed with {status}: is its voice `{voice}` installed?")))
        }
        Err(error) => Err(VoiceError::Espeak(error.to_string())),
    }
}

/// Waits for the end of the program. Its standard output is closed, so it ends at once; otherwise it is killed.
fn finish(child: &mut Child, is_late: bool) -> io::Result<std::process::ExitStatus> {
    if is_late {
        child.kill()?;
    }
    child.wait()
}

fn explain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => format!("the program {PROGRAM} is missing: install the package espeak-ng"),
        _ => format!("{PROGRAM} does not start: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use tandem_test_support::{Needs, skip};

    use super::*;

    fn is_here() -> bool {
        let is_here = run("en-us", "").is_ok();
        if !is_here {
            skip(Needs::Package("espeak-ng"));
        }
        is_here
    }

    #[test]
    fn each_line_has_its_phonemes() {
        if is_here() {
            let found = phonemes("en-us", &["hello there", "it is 5:30", "yes"]).unwrap();
            assert_eq!(found, ["həlˈoʊ ðˈɛɹ", "ɪɾ ɪz fˈaɪv θˈɜːɾi", "jˈɛs"]);
        }
    }

    #[test]
    fn a_line_that_espeak_splits_or_cannot_say_keeps_its_place() {
        if is_here() {
            let found = phonemes("en-us", &["one. two", "-", "three"]).unwrap();
            assert_eq!(found.len(), 3);
            assert!(found[0].contains("wˈʌn") && found[0].contains("tˈuː"), "{found:?}");
            assert_eq!(found[2], "θɹˈiː");
        }
    }

    #[test]
    fn one_line_that_espeak_cannot_say_takes_few_processes() {
        let mut count = 0;
        let mut run = |text: &str| {
            count += 1;
            Ok(text.replace('-', ""))
        };
        let mut lines = vec!["one"; 1_000];
        lines[700] = "-";
        let found = of_each(&mut run, &lines).unwrap();
        assert_eq!((found.len(), found[700].as_str(), found[999].as_str()), (1_000, "", "one"));
        assert!(count <= 21, "{count}");
    }

    #[test]
    fn an_unknown_voice_is_an_error() {
        if is_here() {
            assert!(phonemes("zzz", &["one"]).unwrap_err().to_string().contains("zzz"));
        }
    }

    #[test]
    fn a_change_of_the_language_is_removed() {
        assert_eq!(clean("(fr)bɔ̃ʒˈuʁ(en-us) tˈuː "), "bɔ̃ʒˈuʁ tˈuː");
    }
}
