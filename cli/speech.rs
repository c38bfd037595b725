//! `tandem speech` runs the program `tandem-speech`, which recognises and synthesises speech on this machine.

use std::ffi::{OsStr, OsString};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::anyhow;

use crate::Failure;

/// The name of the program.
const PROGRAM: &str = "tandem-speech";
/// The directory of models of the installed service.
const SERVICE_MODELS: &str = "/var/lib/tandem/speech";
/// The models that recognise speech. Each is a folder in the directory of models.
const RECOGNITION: [&str; 2] = ["whisper-tiny.en", "whisper-base"];
/// The beginnings of the folders of voices.
const VOICES: [&str; 2] = ["piper-", "kokoro-"];
/// How to get the program.
pub const HOW_TO_GET: &str = "install the package tandem-speech, or build the program with `cargo install --path \
                              speech_server`";
/// The command that fetches the models.
pub const INSTALL: &str = "tandem speech install";

/// Install models and voices for speech on this machine, and try them
///
/// The command runs the program `tandem-speech` with the same arguments, and ends with its exit code. The program is
/// beside `tandem`, or in a directory of PATH. The server uses the models for `stt = "local"` and `tts = "local"` in
/// `[speech]`, and `tandem dev --agent` uses them without a configuration.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES, override_usage = "tandem speech <COMMAND> [ARGUMENTS]...")]
pub struct Arguments {
    /// The command and its arguments: install, list, say, transcribe or serve
    #[arg(value_name = "COMMAND", required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<OsString>,
}

const EXAMPLES: &str = "\
Examples:
  tandem speech install            recognition and a voice for English
  tandem speech install de         recognition for another language
  tandem speech list               the installed models and voices
  tandem speech say \"Good morning\" -o morning.wav
  tandem speech transcribe morning.wav
  tandem speech install --remove whisper-base

The models are fetched once, and checked by their SHA-256. Their directory is
$TANDEM_SPEECH_MODELS, else /var/lib/tandem/speech (the installed service),
else ~/.local/share/tandem/speech.";

/// Replaces this process by the program.
pub fn run(arguments: Arguments) -> Result<(), Failure> {
    let Some(program) = program() else {
        return Err(Failure::Environment(anyhow!(
            "this machine has no program tandem-speech, beside this program or in PATH: {HOW_TO_GET}"
        )));
    };
    // The function returns only if the program could not be started.
    let error = Command::new(&program).args(words(arguments.words)).exec();
    Err(Failure::Environment(anyhow!("{}: {error}", program.display())))
}

/// Returns the arguments of the program. `list` is an option of its command `install`.
fn words(mut words: Vec<OsString>) -> Vec<OsString> {
    if words.first().is_some_and(|first| first == "list") {
        words.splice(..1, ["install".into(), "--list".into()]);
    }
    words
}

/// Returns the path of the program, or `None` if this machine does not have it.
pub fn program() -> Option<PathBuf> {
    let own = std::env::current_exe().ok();
    let path = std::env::var_os("PATH").unwrap_or_default();
    find(own.as_deref().and_then(Path::parent), &path)
}

fn find(beside: Option<&Path>, path: &OsStr) -> Option<PathBuf> {
    let folders = beside.map(Path::to_owned).into_iter().chain(std::env::split_paths(path));
    let is_executable =
        |file: &Path| file.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0);
    folders.map(|folder| folder.join(PROGRAM)).find(|file| is_executable(file))
}

/// The part of speech on this machine that is installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Installed {
    /// Whether the program exists.
    pub program: bool,
    /// Whether a model for recognition exists.
    pub recognition: bool,
    /// Whether a voice exists.
    pub voice: bool,
}

impl Installed {
    /// Looks for the program and the models of this machine. `models` replaces the usual directory of models.
    pub fn on_this_machine(models: Option<&Path>) -> Self {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let folder = models.map(Path::to_owned).or_else(|| variable("TANDEM_SPEECH_MODELS")).unwrap_or_else(|| {
            let service = PathBuf::from(SERVICE_MODELS);
            let data = variable("XDG_DATA_HOME").or_else(|| variable("HOME").map(|home| home.join(".local/share")));
            match data {
                Some(data) if !has_models(&service) => data.join("tandem/speech"),
                _ => service,
            }
        });
        Self { program: program().is_some(), ..Self::in_folder(&folder) }
    }

    fn in_folder(folder: &Path) -> Self {
        let recognition = RECOGNITION.iter().any(|name| folder.join(name).is_dir());
        let voice = folder_names(folder)
            .any(|name| VOICES.iter().any(|beginning| name.to_string_lossy().starts_with(beginning)));
        Self { program: false, recognition, voice }
    }

    /// Whether speech can be recognised on this machine.
    pub fn recognises(self) -> bool {
        self.program && self.recognition
    }

    /// Whether speech can be synthesised on this machine by a voice of the program.
    pub fn speaks(self) -> bool {
        self.program && self.voice
    }
}

/// Whether a folder has models. An installation that was broken off leaves only its downloads.
fn has_models(folder: &Path) -> bool {
    let found = Installed::in_folder(folder);
    found.recognition || found.voice
}

fn folder_names(folder: &Path) -> impl Iterator<Item = OsString> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter(|entry| entry.path().is_dir()).map(|entry| entry.file_name())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("tandem-speech-{}-{name}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn program(&self, mode: u32) -> PathBuf {
            let file = self.0.join(PROGRAM);
            std::fs::write(&file, "#!/bin/sh\n").unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
            file
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn the_program_beside_the_own_executable_comes_before_one_in_the_path() {
        let (beside, path) = (Folder::new("beside"), Folder::new("path"));
        assert_eq!(find(Some(&beside.0), path.0.as_os_str()), None);
        let in_path = path.program(0o755);
        assert_eq!(find(Some(&beside.0), path.0.as_os_str()), Some(in_path));
        let own = beside.program(0o644);
        assert_ne!(find(Some(&beside.0), path.0.as_os_str()), Some(own.clone()), "it is not executable");
        beside.program(0o755);
        assert_eq!(find(Some(&beside.0), path.0.as_os_str()), Some(own));
    }

    #[test]
    fn the_folders_of_the_models_say_what_is_installed() {
        let folder = Folder::new("models");
        let installed = || Installed::in_folder(&folder.0);
        assert_eq!(installed(), Installed { program: false, recognition: false, voice: false });
        std::fs::create_dir(folder.0.join(".download")).unwrap();
        assert!(!has_models(&folder.0));
        std::fs::create_dir(folder.0.join("whisper-tiny.en")).unwrap();
        assert_eq!(installed(), Installed { program: false, recognition: true, voice: false });
        std::fs::create_dir(folder.0.join("piper-en_US-joe-medium")).unwrap();
        assert_eq!(installed(), Installed { program: false, recognition: true, voice: true });
        assert!(has_models(&folder.0) && !installed().recognises(), "the program is missing");
        assert!(Installed { program: true, ..installed() }.speaks());
    }

    #[test]
    fn all_arguments_after_the_command_belong_to_the_program() {
        use clap::Parser as _;
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            arguments: Arguments,
        }
        let line = Line::try_parse_from(["speech", "say", "Hello", "-o", "a.wav", "--help"]).ok().unwrap();
        assert_eq!(line.arguments.words, ["say", "Hello", "-o", "a.wav", "--help"]);
        assert_eq!(words(vec!["list".into(), "--models".into()]), ["install", "--list", "--models"]);
        let help = Line::try_parse_from(["speech", "--help"]).err().unwrap().to_string();
        assert!(help.contains("speech install de") && help.contains("SHA-256"), "{help}");
    }
}
