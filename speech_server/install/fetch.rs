//! Fetches files by HTTP and HTTPS. Honours `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY`, `SSL_CERT_FILE` and
//! `SSL_CERT_DIR`.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use sha2::{Digest as _, Sha256};
use ureq::http::{Response, header};
use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};
use ureq::{Agent, Body};

use super::catalogue::Package;
use super::error::Error;
use super::index;
use super::progress::Progress;

/// Maximum page of an index. The page of a project with 100 files has about 50 kB.
const LARGEST_PAGE: u64 = 16 * 1024 * 1024;
/// The number of attempts that may fail one after the other without a single octet.
const ATTEMPTS: u32 = 3;

/// The number of requests for one file.
const REQUESTS: u32 = 100;

/// The HTTP client.
pub(super) struct Client {
    agent: Agent,
    /// The pause before the second attempt; each further pause is twice as long.
    pause: Duration,
}

impl Client {
    pub(super) fn new(pause: Duration) -> Self {
        // Without certificates on this computer (a container without `ca-certificates`), the list that is compiled in is used.
        let found = rustls_native_certs::load_native_certs().certs;
        let roots = if found.is_empty() {
            RootCerts::WebPki
        } else {
            let certs = found.iter().map(|cert| Certificate::from_der(cert.as_ref()).to_owned());
            RootCerts::Specific(Arc::new(certs.collect()))
        };
        let tls = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .root_certs(roots)
            .build();
        let agent = Agent::config_builder()
            .tls_config(tls)
            .http_status_as_error(false)
            .user_agent(concat!("tandem-speech/", env!("CARGO_PKG_VERSION")))
            .timeout_resolve(Some(Duration::from_secs(20)))
            .timeout_connect(Some(Duration::from_secs(20)))
            .timeout_recv_response(Some(Duration::from_secs(60)))
            .timeout_per_read(Some(Duration::from_secs(30)))
            .timeout_per_write(Some(Duration::from_secs(30)))
            .build()
            .new_agent();
        Self { agent, pause }
    }

    fn get(&self, address: &str, index: &str, offset: u64, accept: &str) -> Result<Response<Body>, Error> {
        let shown = index::without_credentials(address);
        let mut request = self.agent.get(&shown).header(header::ACCEPT, accept);
        // As pip does: the name and the password of the index are also for its files, if they are on the same host.
        let of_index =
            || (host(&shown) == host(&index::without_credentials(index))).then(|| index::credentials(index)).flatten();
        if let Some(credentials) = index::credentials(address).or_else(of_index) {
            let encoded = base64::engine::general_purpose::STANDARD.encode(credentials);
            request = request.header(header::AUTHORIZATION, format!("Basic {encoded}"));
        }
        if offset > 0 {
            request = request.header(header::RANGE, format!("bytes={offset}-"));
        }
        // No proxy can reach the loopback addresses of this computer.
        let has_proxy = !is_loopback(&shown);
        if !has_proxy {
            request = request.config().proxy(None).build();
        }
        let through = || {
            let proxy = self.agent.config().proxy().filter(|_| has_proxy);
            proxy.map(|proxy| format!(" (the proxy is {}:{})", proxy.host(), proxy.port())).unwrap_or_default()
        };
        request.call().map_err(|error| Error::NoConnection { address: shown, reason: format!("{error}{}", through()) })
    }

    /// Finds the address of the file of a package in an index.
    pub(super) fn find(&self, index: &str, package: &Package) -> Result<String, Error> {
        let page = index::page(index, package.name);
        let shown = index::without_credentials(&page);
        let accept = "application/vnd.pypi.simple.v1+json, text/html;q=0.5";
        let (is_json, body) = self.several_times(|| {
            let mut response = self.get(&page, index, 0, accept)?;
            let status = response.status().as_u16();
            if status == 404 {
                return Err(Error::NotInIndex { address: shown.clone(), file: package.file.to_owned() });
            }
            if status != 200 {
                return Err(Error::Refused { address: shown.clone(), status });
            }
            let kind = response.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
            let is_json = kind.is_some_and(|kind| kind.contains("json"));
            let body = response.body_mut().with_config().limit(LARGEST_PAGE).read_to_string();
            let body =
                body.map_err(|error| Error::NoConnection { address: shown.clone(), reason: error.to_string() })?;
            Ok((is_json, body))
        })?;
        index::find(&page, is_json, &body, package.file)
            .ok_or_else(|| Error::NotInIndex { address: shown, file: package.file.to_owned() })
    }

    fn several_times<T>(&self, mut attempt: impl FnMut() -> Result<T, Error>) -> Result<T, Error> {
        let mut failed = 0;
        loop {
            match attempt() {
                Err(error) if failed + 1 < ATTEMPTS && is_passing(&error) => {
                    std::thread::sleep(self.pause * (1 << failed));
                    failed += 1;
                }
                result => return result,
            }
        }
    }

    /// Downloads the file of a package to `part`. If `part` exists, the download continues at its end. Checks the SHA-256.
    pub(super) fn download(
        &self,
        address: &str,
        index: &str,
        package: &Package,
        part: &Path,
        progress: &mut Progress<'_>,
    ) -> Result<(), Error> {
        let opened = OpenOptions::new().create(true).read(true).append(true).open(part);
        let file = &mut opened.map_err(|error| Error::files(part, error))?;
        let length = |file: &File| file.metadata().map(|data| data.len()).map_err(|error| Error::files(part, error));
        let mut is_continued = length(file)? > 0;
        loop {
            let (mut failed, mut requests) = (0, 0);
            while length(file)? < package.size {
                let before = length(file)?;
                requests += 1;
                match self.continue_at(address, index, package, part, file, progress) {
                    Ok(()) if requests < REQUESTS => {}
                    Ok(()) => {
                        return Err(Error::NoConnection {
                            address: index::without_credentials(address),
                            reason: "the server never sent the whole file".into(),
                        });
                    }
                    Err(error) if !is_passing(&error) => return Err(error),
                    Err(error) => {
                        failed = if length(file)? > before { 0 } else { failed + 1 };
                        if failed == ATTEMPTS || requests >= REQUESTS {
                            return Err(error);
                        }
                        std::thread::sleep(self.pause * (1 << failed));
                    }
                }
            }
            let found = sha256(file, part)?;
            if found == package.sha256 && length(file)? == package.size {
                return file.sync_all().map_err(|error| Error::files(part, error));
            }
            file.set_len(0).map_err(|error| Error::files(part, error))?;
            // The rest of an earlier start can be the beginning of another file, so the second attempt does not use it.
            if !is_continued {
                return Err(Error::WrongContent {
                    file: index::without_credentials(address),
                    expected: package.sha256.to_owned(),
                    found,
                });
            }
            is_continued = false;
        }
    }

    /// One request for the rest of the file.
    fn continue_at(
        &self,
        address: &str,
        index: &str,
        package: &Package,
        part: &Path,
        file: &mut File,
        progress: &mut Progress<'_>,
    ) -> Result<(), Error> {
        let in_files = |error| Error::files(part, error);
        let shown = || index::without_credentials(address);
        let mut at = file.metadata().map_err(in_files)?.len();
        let mut response = self.get(address, index, at, "*/*")?;
        let start = format!("bytes {at}-");
        let range = response.headers().get(header::CONTENT_RANGE).and_then(|range| range.to_str().ok());
        match response.status().as_u16() {
            206 if range.is_some_and(|range| range.starts_with(&start)) => {}
            // The server sends the whole file, another part, or has no such part.
            200 => {
                file.set_len(0).map_err(in_files)?;
                at = 0;
            }
            206 | 416 if at > 0 => return file.set_len(0).map_err(in_files),
            status => return Err(Error::Refused { address: shown(), status }),
        }
        // One octet more than expected is enough to see that the file is another one.
        let mut body = response.body_mut().as_reader().take(package.size + 1 - at.min(package.size));
        let mut buffer = vec![0; 64 * 1024];
        let broken = |reason: String| Error::NoConnection { address: shown(), reason };
        loop {
            let count = match body.read(&mut buffer) {
                Ok(0) if at < package.size => return Err(broken("the connection ended before the file".into())),
                Ok(0) => return Ok(()),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(broken(error.to_string())),
            };
            file.write_all(buffer.get(..count).unwrap_or_default()).map_err(in_files)?;
            at += count as u64;
            progress.show(package.file, at, package.size);
        }
    }
}

/// Whether a second attempt can succeed.
fn is_passing(error: &Error) -> bool {
    match error {
        Error::NoConnection { .. } => true,
        Error::Refused { status, .. } => matches!(status, 408 | 429 | 500..),
        _ => false,
    }
}

/// Whether the host of an address is this computer.
fn is_loopback(address: &str) -> bool {
    let authority = host(address).map(|(_, authority)| authority).unwrap_or_default();
    let name = authority.strip_prefix('[').and_then(|rest| rest.split(']').next());
    let name = name.unwrap_or_else(|| authority.split(':').next().unwrap_or_default());
    name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Scheme, host and port.
fn host(address: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = address.split_once("://")?;
    Some((scheme, rest.split('/').next().unwrap_or_default()))
}

/// The SHA-256 of a whole file, in hexadecimal digits.
pub(super) fn sha256(file: &mut File, path: &Path) -> Result<String, Error> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 256 * 1024];
    file.seek(SeekFrom::Start(0)).map_err(|error| Error::files(path, error))?;
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hexadecimal(hash)),
            Ok(count) => hash.update(buffer.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::files(path, error)),
        }
    }
}

/// The hexadecimal digits of a finished hash.
pub(super) fn hexadecimal(hash: Sha256) -> String {
    hash.finalize().iter().map(|octet| format!("{octet:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_this_computer_are_loopback() {
        for (address, expected) in [
            ("http://127.0.0.1:80/simple", true),
            ("http://localhost/simple", true),
            ("https://[::1]:8443/", true),
            ("https://127.0.0.1.example.com/", false),
            ("https://pypi.org/simple", false),
            ("", false),
        ] {
            assert_eq!(is_loopback(address), expected, "{address}");
        }
    }
}
