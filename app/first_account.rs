//! The account of a server without configured accounts. The server creates this account at its first successful start,
//! stores it in the data directory, and shows its credentials once.

use std::fmt;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use tandem_accounts::{Account, DEFAULT_ACCOUNT, TwilioCredentials};
use tandem_host::hash::hex;

/// The account that the server created, together with the file of the account.
pub(super) struct FirstAccount {
    pub(super) account: Account,
    /// Whether this start created the account.
    new: bool,
    path: PathBuf,
    /// The text that the file does not have yet.
    text: String,
}

impl FirstAccount {
    /// Loads the account that an earlier start created, or creates a new account. If the earlier start created no
    /// credentials for SignalWire, the function adds some. New texts are stored only by [`Self::keep`].
    pub(super) fn load_or_draw(data_dir: &Path) -> anyhow::Result<Self> {
        let path = file(data_dir);
        let (mut whole, new) = match std::fs::read_to_string(&path) {
            Ok(text) => (text, false),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => (draw(), true),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        let mut text = if new { whole.clone() } else { String::new() };
        if read(&path, &whole)?.signalwire.is_none() {
            let added = draw_signalwire();
            whole.push_str(&added);
            text.push_str(&added);
        }
        Ok(Self { account: read(&path, &whole)?, new, path, text })
    }

    /// Returns the account that a start has stored.
    pub(super) fn load(data_dir: &Path) -> anyhow::Result<Account> {
        let path = file(data_dir);
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        read(&path, &text)
    }

    /// Stores new texts in the file of the account, so that the next start loads them.
    pub(super) fn keep(&self) -> anyhow::Result<()> {
        if self.text.is_empty() {
            return Ok(());
        }
        write_private(&self.path, &self.text, self.new).with_context(|| format!("cannot write {}", self.path.display()))
    }
}

impl FirstAccount {
    /// Says where the account is, without its credentials.
    pub(crate) fn place(&self) -> String {
        format!("The account of this server is in {}. `tandem env` prints its credentials.", self.path.display())
    }
}

/// Writes the credentials if the account is new. Otherwise writes the path of the account's file.
impl fmt::Display for FirstAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        if !self.new {
            return write!(f, "The account of this server is in {path}.");
        }
        writeln!(
            f,
            "No account is configured, so the server created one. It is stored in {path} and shown only once:"
        )?;
        if let Some(TwilioCredentials { account_sid, auth_token, .. }) = &self.account.twilio {
            writeln!(f, "  export TWILIO_ACCOUNT_SID={account_sid}")?;
            writeln!(f, "  export TWILIO_AUTH_TOKEN={auth_token}")?;
        }
        writeln!(
            f,
            "`tandem env` prints these lines again, and those for Telnyx and SignalWire: eval \"$(tandem env)\""
        )
    }
}

fn draw() -> String {
    let sid = hex(&rand::random::<[u8; 16]>());
    let token = hex(&rand::random::<[u8; 16]>());
    let key = hex(&rand::random::<[u8; 24]>());
    let seed = BASE64_STANDARD.encode(rand::random::<[u8; 32]>());
    format!(
        "# Created by `tandem serve` because the configuration has no account.\n\
         name = \"{DEFAULT_ACCOUNT}\"\n\n\
         [twilio]\naccount_sid = \"AC{sid}\"\nauth_token = \"{token}\"\n\n\
         [telnyx]\napi_key = \"KEY{key}\"\nsigning_seed = \"{seed}\"\n"
    )
}

fn draw_signalwire() -> String {
    // A random UUID has the version 4 and the variant 2 (RFC 9562 §5.4).
    let id = rand::random::<u128>() & !(0xf << 76) & !(0x3 << 62) | (0x4 << 76) | (0x2 << 62);
    let id = tandem_telnyx::id::uuid(id);
    let (token, key) = (hex(&rand::random::<[u8; 24]>()), hex(&rand::random::<[u8; 24]>()));
    format!("\n[signalwire]\nproject_id = \"{id}\"\napi_token = \"PT{token}\"\nsigning_key = \"PSK_{key}\"\n")
}

fn file(data_dir: &Path) -> PathBuf {
    data_dir.join("account.toml")
}

fn read(path: &Path, text: &str) -> anyhow::Result<Account> {
    toml::from_str(text).with_context(|| format!("{} is not an account", path.display()))
}

/// Writes a new file, or appends to the file.
fn write_private(path: &Path, text: &str, new: bool) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.append(true).create_new(new).mode(0o600);
    options.open(path)?.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_account_is_created_once_and_shown_once() {
        let dir = tempfile::tempdir().unwrap();
        let token = |one: &FirstAccount| one.account.twilio.as_ref().unwrap().auth_token.clone();
        // This models a start that failed before the account was stored.
        let lost = FirstAccount::load_or_draw(dir.path()).unwrap();
        let first = FirstAccount::load_or_draw(dir.path()).unwrap();
        first.keep().unwrap();
        let again = FirstAccount::load_or_draw(dir.path()).unwrap();
        again.keep().unwrap();
        assert_ne!(token(&lost), token(&first));
        assert_eq!(token(&first), token(&again));
        assert!(first.to_string().contains(&token(&first)));
        assert!(!again.to_string().contains(&token(&again)));
        assert!(first.to_string().contains("export TWILIO_AUTH_TOKEN="));
        assert!(!first.to_string().contains(&first.account.telnyx.as_ref().unwrap().api_key), "for those who ask");
        let project = |one: &Account| one.signalwire.as_ref().unwrap().project_id.clone();
        assert_eq!(project(&first.account), project(&FirstAccount::load(dir.path()).unwrap()));
    }

    #[test]
    fn a_first_account_of_an_older_version_gets_the_missing_credentials_only() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(file(dir.path()), draw()).unwrap();
        let old = FirstAccount::load(dir.path()).unwrap();
        assert!(old.signalwire.is_none());
        let first = FirstAccount::load_or_draw(dir.path()).unwrap();
        first.keep().unwrap();
        let stored = FirstAccount::load(dir.path()).unwrap();
        let tokens = [&old, &first.account, &stored].map(|one| one.twilio.as_ref().unwrap().auth_token.clone());
        assert!(tokens.iter().all(|token| *token == tokens[0]));
        let projects = [&first.account, &stored].map(|one| one.signalwire.as_ref().unwrap().project_id.clone());
        assert_eq!(projects[0], projects[1]);
        assert!(first.to_string().contains("is in"), "an old account is not shown as a new one");
    }
}
