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

/// The account that the server created, together with the file of the account.
pub(super) struct FirstAccount {
    pub(super) account: Account,
    /// Whether this start created the account.
    new: bool,
    path: PathBuf,
    text: String,
}

impl FirstAccount {
    /// Loads the account that an earlier start created, or creates a new account. A new account is stored only by
    /// [`Self::keep`].
    pub(super) fn load_or_draw(data_dir: &Path) -> anyhow::Result<Self> {
        let path = data_dir.join("account.toml");
        let (text, new) = match std::fs::read_to_string(&path) {
            Ok(text) => (text, false),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => (draw(), true),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        let account = toml::from_str(&text).with_context(|| format!("{} is not an account", path.display()))?;
        Ok(Self { account, new, path, text })
    }

    /// Stores a new account in its file, so that the next start loads it.
    pub(super) fn keep(&self) -> anyhow::Result<()> {
        if self.new {
            write_private(&self.path, &self.text).with_context(|| format!("cannot write {}", self.path.display()))?;
        }
        Ok(())
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
        if let Some(TwilioCredentials { account_sid, auth_token }) = &self.account.twilio {
            writeln!(f, "  export TWILIO_ACCOUNT_SID={account_sid}")?;
            writeln!(f, "  export TWILIO_AUTH_TOKEN={auth_token}")?;
        }
        writeln!(f, "`tandem env` prints these lines again, and those for Telnyx: eval \"$(tandem env)\"")
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

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_account_is_made_once_and_shown_once() {
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
    }
}
