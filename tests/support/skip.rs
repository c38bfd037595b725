//! Skipped tests. A skipped test counts as passed for cargo. So each skip is written to a file, and `make test` prints
//! the number of skips and their reasons at its end.

use std::env;
use std::fmt;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;

/// The variable with the path of the file that gets a line for each skipped test.
const FILE: &str = "TANDEM_SKIPPED_TESTS";

/// The thing that a test needs and that is not here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Needs<'a> {
    /// A file or folder below `../shared`, which is not part of the repository.
    Shared(&'a str),
    /// A Debian package that `scripts/packages.sh test` installs.
    Package(&'a str),
    /// A right or a device of the host, for example IPv6 or the right to mount a file system.
    Host(&'a str),
}

impl fmt::Display for Needs<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shared(path) => write!(f, "../shared/{path} is not here"),
            Self::Package(package) => write!(f, "the package {package} is not installed"),
            Self::Host(reason) => f.write_str(reason),
        }
    }
}

/// Reports that the current test is skipped. The caller then returns.
///
/// Panics in CI (the variable `CI` is set) if the test could run there: a package is missing, or `../shared` exists but
/// the file in it does not.
pub fn skip(needs: Needs<'_>) {
    eprintln!("skipped: {needs}");
    let thread = std::thread::current();
    if let Some(path) = env::var_os(FILE)
        && let Ok(mut file) = OpenOptions::new().create(true).append(true).open(path)
    {
        // One write for each line, because several processes append to the file.
        let line = format!("{}\t{needs}\n", thread.name().unwrap_or("unknown"));
        let _ = file.write_all(line.as_bytes());
    }
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    assert!(env::var_os("CI").is_none() || is_permitted(needs, shared.is_dir()), "a test is skipped in CI: {needs}");
}

/// Whether CI may skip a test. `has_shared` says whether `../shared` exists.
fn is_permitted(needs: Needs<'_>, has_shared: bool) -> bool {
    match needs {
        Needs::Shared(_) => !has_shared,
        Needs::Package(_) => false,
        Needs::Host(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ci_skips_a_test_only_without_shared_or_for_the_host() {
        assert!(!is_permitted(Needs::Package("sip-tester"), false));
        assert!(is_permitted(Needs::Shared("corpora"), false) && !is_permitted(Needs::Shared("corpora"), true));
        assert!(is_permitted(Needs::Host("this computer has no IPv6"), true));
    }
}
