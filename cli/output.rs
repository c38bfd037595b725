//! Standard output whose reader may go, as in `tandem calls | head`.

use std::fmt;
use std::io::{self, Write as _};
use std::sync::OnceLock;

use crate::Failure;

/// The first error of standard output.
static LOST: OnceLock<io::Error> = OnceLock::new();

/// Prints a text to standard output. See `say!`.
pub fn print(text: fmt::Arguments<'_>) {
    let mut out = io::stdout().lock();
    keep_error(out.write_fmt(text).and_then(|()| out.flush()));
}

/// Keeps an error of standard output for [`written`], unless the reader has closed the output.
pub fn keep_error(result: io::Result<()>) {
    if let Err(error) = result
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        // Only the first error matters.
        let _ = LOST.set(error);
    }
}

/// Returns a failure if a part of the output is lost.
pub fn written() -> Result<(), Failure> {
    match LOST.get() {
        None => Ok(()),
        Some(error) => Err(Failure::Environment(anyhow::anyhow!("standard output cannot be written: {error}"))),
    }
}
