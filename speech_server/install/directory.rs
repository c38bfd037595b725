//! The directory of models, if the command line does not name one.

use std::ffi::OsString;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::{catalogue, is_installed};

/// The directory of a service.
const OF_SERVICE: &str = "/var/lib/tandem/speech";

/// The directory from which models are read: `$TANDEM_SPEECH_MODELS`, else `/var/lib/tandem/speech` if it has models, else
/// `$XDG_DATA_HOME/tandem/speech` (`~/.local/share/tandem/speech`).
pub fn to_read() -> PathBuf {
    choose(|name| std::env::var_os(name), Path::new(OF_SERVICE), has_models(Path::new(OF_SERVICE)))
}

/// The directory into which models are installed. It is [`to_read`], with one difference: `/var/lib/tandem/speech` is also
/// taken without models if this user may write `/var/lib/tandem`, which the package of the server makes.
pub fn to_write() -> PathBuf {
    let of_service = Path::new(OF_SERVICE);
    let is_writable = |path: &Path| rustix::fs::access(path, rustix::fs::Access::WRITE_OK).is_ok();
    let is_of_service = has_models(of_service)
        || if of_service.exists() { is_writable(of_service) } else { of_service.parent().is_some_and(is_writable) };
    choose(|name| std::env::var_os(name), of_service, is_of_service)
}

/// The user and the group that must write into this directory in the place of root: those of the service, if this process is root
/// and this is the directory of the service. Otherwise the service could not read the files if root's umask is strict, and a link
/// that the service has made there would lead root to any file.
pub fn owner(models: &Path) -> Option<(u32, u32)> {
    let home = Path::new(OF_SERVICE).parent()?.metadata().ok()?;
    let is_of_service = models == Path::new(OF_SERVICE) && rustix::process::geteuid().is_root();
    other_than_root(is_of_service, (home.uid(), home.gid()))
}

fn other_than_root(is_of_service: bool, owner: (u32, u32)) -> Option<(u32, u32)> {
    (is_of_service && owner.0 != 0).then_some(owner)
}

fn choose(variable: impl Fn(&str) -> Option<OsString>, of_service: &Path, is_of_service: bool) -> PathBuf {
    let path = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(models) = path("TANDEM_SPEECH_MODELS") {
        return models;
    }
    if is_of_service {
        return of_service.to_owned();
    }
    let data = path("XDG_DATA_HOME").or_else(|| path("HOME").map(|home| home.join(".local/share")));
    data.map_or_else(|| of_service.to_owned(), |data| data.join("tandem/speech"))
}

/// Whether at least one model of the catalogue is in this directory.
fn has_models(models: &Path) -> bool {
    catalogue::MODELS.iter().any(|model| is_installed(models, model))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(variables: &[(&str, &str)], is_of_service: bool) -> PathBuf {
        let variable =
            |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value));
        choose(variable, Path::new("/service"), is_of_service)
    }

    #[test]
    fn the_variable_comes_first_then_the_service_then_the_user() {
        let all = [("TANDEM_SPEECH_MODELS", "/m"), ("XDG_DATA_HOME", "/data"), ("HOME", "/home/a")];
        assert_eq!(chosen(&all, true), Path::new("/m"));
        assert_eq!(chosen(&all[1..], true), Path::new("/service"));
        assert_eq!(chosen(&all[1..], false), Path::new("/data/tandem/speech"));
        assert_eq!(chosen(&all[2..], false), Path::new("/home/a/.local/share/tandem/speech"));
        assert_eq!(chosen(&[("HOME", "")], false), Path::new("/service"));
    }

    #[test]
    fn root_leaves_the_directory_of_the_service_to_its_owner() {
        assert_eq!(other_than_root(true, (105, 110)), Some((105, 110)));
        assert_eq!(other_than_root(true, (0, 0)), None);
        assert_eq!(other_than_root(false, (105, 110)), None);
        assert_eq!(owner(Path::new("/srv/models")), None);
    }

    #[test]
    fn a_directory_without_a_complete_model_has_no_models() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("silero")).unwrap();
        assert!(!has_models(directory.path()));
    }
}
