//! `tandem completions` and `tandem man`: what a shell and man(1) need to know about the commands.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use clap::CommandFactory as _;
use clap_complete::Shell;
use tandem_cli::Failure;

/// Print the completions of a shell, for example: tandem completions bash > /etc/bash_completion.d/tandem
#[derive(clap::Args)]
pub(crate) struct Completions {
    /// The shell
    shell: Shell,
}

/// Write the manual pages of all commands into a folder, for example: tandem man /usr/local/share/man/man1
#[derive(clap::Args)]
pub(crate) struct Man {
    /// The folder, which must exist
    folder: PathBuf,
}

/// Prints the completions.
pub(crate) fn completions(arguments: Completions) -> Result<(), Failure> {
    let mut text = Vec::new();
    clap_complete::generate(arguments.shell, &mut super::Arguments::command(), "tandem", &mut text);
    tandem_cli::print(format_args!("{}", String::from_utf8_lossy(&text)));
    Ok(())
}

/// Writes one page for the program, and one for each command.
pub(crate) fn man(arguments: Man) -> Result<(), Failure> {
    write(&arguments.folder).map_err(Failure::Environment)
}

fn write(folder: &Path) -> anyhow::Result<()> {
    if !folder.is_dir() {
        return Err(anyhow!("{} is no folder", folder.display()));
    }
    let program = super::Arguments::command().disable_help_subcommand(true);
    clap_mangen::generate_to(program, folder).with_context(|| format!("cannot write to {}", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_manual_page_for_each_command() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path()).unwrap();
        let page = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
        assert!(page("tandem.1").contains("serve"));
        assert!(page("tandem-serve.1").contains("\\-\\-config"));
        assert!(write(&folder.path().join("none")).is_err());
    }

    #[test]
    fn the_completions_of_each_shell_know_the_commands() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut crate::Arguments::command(), "tandem", &mut text);
            assert!(String::from_utf8(text).unwrap().contains("serve"), "{shell}");
        }
    }
}
