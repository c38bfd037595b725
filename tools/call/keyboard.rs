//! Uses the terminal as the keypad of a phone. A digit is sent at once, and any other line is spoken.

use std::io::Read;

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use tokio::sync::mpsc;

/// Maximum number of inputs that wait in the channel. Further inputs wait in the terminal.
const WAITING: usize = 64;
/// Maximum length of a line, in octets. Further octets of the line are ignored.
const LONGEST: usize = 1_000;

/// An input from the keyboard.
#[derive(Debug, PartialEq)]
pub(super) enum Typed {
    /// A DTMF digit.
    Digit(char),
    /// A line to speak.
    Line(String),
    /// The unfinished line, which the terminal shows.
    Draft(String),
    /// The end of the input.
    End,
}

/// Reads from the terminal. `Drop` restores the settings of the terminal.
pub(super) struct Keyboard {
    typed: mpsc::Receiver<Typed>,
    before: Termios,
}

impl Keyboard {
    /// Switches the terminal to immediate input without echo. Ctrl-C still sends a signal. Returns `None` if standard
    /// input is not a terminal.
    pub(super) fn open() -> Option<Self> {
        let stdin = std::io::stdin();
        let before = tcgetattr(&stdin).ok()?;
        let mut raw = before.clone();
        raw.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
        tcsetattr(&stdin, OptionalActions::Now, &raw).ok()?;
        let (sender, typed) = mpsc::channel(WAITING);
        // The thread ends with the process, because a read from a terminal cannot be cancelled.
        std::thread::spawn(move || {
            let mut line = Line::default();
            for octet in std::io::stdin().lock().bytes() {
                let Ok(octet) = octet else { break };
                if let Some(typed) = line.take(octet)
                    && sender.blocking_send(typed).is_err()
                {
                    return;
                }
            }
            // Sending fails if the call has ended.
            let _ = sender.blocking_send(Typed::End);
        });
        Some(Self { typed, before })
    }

    /// Waits for the next input. This function is cancel-safe.
    pub(super) async fn next(&mut self) -> Typed {
        self.typed.recv().await.unwrap_or(Typed::End)
    }
}

impl Drop for Keyboard {
    fn drop(&mut self) {
        // An error means that the terminal has been closed, so there are no settings to restore.
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &self.before);
    }
}

/// The line that the user is typing.
#[derive(Default)]
struct Line {
    octets: Vec<u8>,
}

impl Line {
    fn take(&mut self, octet: u8) -> Option<Typed> {
        match octet {
            b'0'..=b'9' | b'*' | b'#' if self.octets.is_empty() => Some(Typed::Digit(char::from(octet))),
            b'\r' | b'\n' => {
                let line = String::from_utf8_lossy(&std::mem::take(&mut self.octets)).trim().to_owned();
                (!line.is_empty()).then_some(Typed::Line(line))
            }
            8 | 127 => {
                while self.octets.pop().is_some_and(|octet| octet & 0xc0 == 0x80) {}
                Some(self.draft())
            }
            4 => Some(Typed::End),
            0..=31 => None,
            octet if self.octets.len() < LONGEST && !(self.octets.is_empty() && octet == b' ') => {
                self.octets.push(octet);
                Some(self.draft())
            }
            _ => None,
        }
    }

    fn draft(&self) -> Typed {
        Typed::Draft(String::from_utf8_lossy(&self.octets).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typed_digits_are_sent_immediately_and_words_as_a_line() {
        let mut line = Line::default();
        let typed: Vec<Typed> = "1# Hé 2\u{7f}3\r".bytes().filter_map(|octet| line.take(octet)).collect();
        assert_eq!(typed.first(), Some(&Typed::Digit('1')));
        assert_eq!(typed.get(1), Some(&Typed::Digit('#')));
        assert_eq!(typed.last(), Some(&Typed::Line("Hé 3".to_owned())));
        assert!(typed.contains(&Typed::Draft("Hé 2".to_owned())));
    }
}
