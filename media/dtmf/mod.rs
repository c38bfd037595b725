//! Detection of DTMF digits as tones in the audio, and removal of duplicates when a digit arrives by several methods.
//! [`crate::rtp::dtmf`] reads and writes telephone-events. This module is pure.
//!
//! ```text
//!  telephone-events -> rtp::dtmf::Detector --\
//!   audio -> ToneDetector (in an InbandDetector) -> DigitDedup: each digit once -> Event::Dtmf
//!       (control: the call's INFO requests) --/
//! ```

mod dedup;
mod inband;
mod tone_detector;

pub use dedup::DtmfMethod;
pub(crate) use inband::{InbandDetector, InbandState};
pub use tone_detector::ToneDetector;

/// The frequencies of the rows in Hz (ITU-T Q.23). The next constant, `COLUMNS`, has the frequencies of the columns.
const ROWS: [u16; 4] = [697, 770, 852, 941];
const COLUMNS: [u16; 4] = [1_209, 1_336, 1_477, 1_633];
/// The digits of each row.
const DIGITS: [[char; 4]; 4] = [['1', '2', '3', 'A'], ['4', '5', '6', 'B'], ['7', '8', '9', 'C'], ['*', '0', '#', 'D']];

/// Returns the two frequencies in Hz of a digit (`0`-`9`, `*`, `#`, `A`-`D`, `a`-`d`).
pub fn frequencies(digit: char) -> Option<[u16; 2]> {
    let digit = digit.to_ascii_uppercase();
    DIGITS.iter().zip(ROWS).find_map(|(digits, row)| {
        let column = digits.iter().zip(COLUMNS).find(|(known, _)| **known == digit)?.1;
        Some([row, column])
    })
}
