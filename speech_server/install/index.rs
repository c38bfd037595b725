//! The simple index of packages (PEP 503 in HTML, PEP 691 in JSON): finds the address of a file.

use ureq::http::Uri;

/// The index of a computer without `--index` and `PIP_INDEX_URL`.
pub const PYPI: &str = "https://pypi.org/simple";

/// The address of the page of a project.
pub(super) fn page(index: &str, project: &str) -> String {
    format!("{}/{project}/", index.trim_end_matches('/'))
}

/// The address of the file of a package in an npm registry.
pub(super) fn npm_file(registry: &str, package: &str, file: &str) -> String {
    format!("{}/{package}/-/{file}", registry.trim_end_matches('/'))
}

/// Finds the address of `file` on a page of an index. `page` is the address of the page: relative addresses start there.
pub(super) fn find(page: &str, is_json: bool, body: &str, file: &str) -> Option<String> {
    let address = if is_json { find_in_json(body, file)? } else { find_in_html(body, file)? };
    join(page, &address)
}

fn find_in_json(body: &str, file: &str) -> Option<String> {
    let page: serde_json::Value = serde_json::from_str(body).ok()?;
    let files = page.get("files")?.as_array()?;
    let found = files.iter().find(|entry| entry.get("filename").and_then(|name| name.as_str()) == Some(file))?;
    Some(found.get("url")?.as_str()?.to_owned())
}

/// Finds the `href` whose last part of the path is `file`.
fn find_in_html(body: &str, file: &str) -> Option<String> {
    let mut rest = body;
    while let Some((_, after)) = rest.split_once("href") {
        rest = after;
        let Some(value) = after.trim_start().strip_prefix('=') else { continue };
        let value = value.trim_start();
        let Some(quote) = value.chars().next().filter(|c| matches!(c, '"' | '\'')) else { continue };
        let Some((value, _)) = value.strip_prefix(quote).and_then(|value| value.split_once(quote)) else { continue };
        let address = value.split('#').next().unwrap_or_default().replace("&amp;", "&");
        if address.split('?').next().unwrap_or_default().rsplit('/').next() == Some(file) {
            return Some(address);
        }
    }
    None
}

/// Resolves an address that can be relative (RFC 3986 §5.2) against the address of its page. `None` if either is no HTTP
/// address.
pub(super) fn join(page: &str, address: &str) -> Option<String> {
    let address = address.split('#').next().unwrap_or_default();
    if address.starts_with("http://") || address.starts_with("https://") {
        return Some(address.to_owned());
    }
    let page: Uri = page.parse().ok()?;
    let (scheme, authority) = (page.scheme_str()?, page.authority()?);
    if address.starts_with("//") {
        return Some(format!("{scheme}:{address}"));
    }
    let (path, query) = address.split_once('?').map_or((address, None), |(path, query)| (path, Some(query)));
    let mut segments: Vec<&str> = Vec::new();
    if !path.starts_with('/') {
        segments.extend(page.path().split('/').skip(1));
        segments.pop();
    }
    for segment in path.trim_start_matches('/').split('/') {
        match segment {
            "." => {}
            ".." => drop(segments.pop()),
            _ => segments.push(segment),
        }
    }
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    Some(format!("{scheme}://{authority}/{}{query}", segments.join("/")))
}

/// The address without the name and the password in front of the host, for messages.
pub(super) fn without_credentials(address: &str) -> String {
    let Some((scheme, rest)) = address.split_once("://") else { return address.to_owned() };
    let authority = rest.split('/').next().unwrap_or_default();
    match authority.rsplit_once('@') {
        Some((credentials, _)) => format!("{scheme}://{}", rest.get(credentials.len() + 1..).unwrap_or_default()),
        None => address.to_owned(),
    }
}

/// The name and the password in front of the host, with their percent codes decoded: `name:password`.
pub(super) fn credentials(address: &str) -> Option<String> {
    let (_, rest) = address.split_once("://")?;
    let (credentials, _) = rest.split('/').next()?.rsplit_once('@')?;
    percent_encoding::percent_decode_str(credentials).decode_utf8().ok().map(|text| text.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_found_on_a_page_of_html() {
        let body = r##"<a href="../../packages/a-1.0.tar.gz#sha256=1">a-1.0.tar.gz</a>
            <a data-x="1" href='../../packages/x/a-1.0-py3-none-any.whl#sha256=2' >a</a>"##;
        let found = find("http://127.0.0.1:8080/root/simple/a/", false, body, "a-1.0-py3-none-any.whl");
        assert_eq!(found.as_deref(), Some("http://127.0.0.1:8080/root/packages/x/a-1.0-py3-none-any.whl"));
        assert_eq!(find("http://127.0.0.1/simple/a/", false, body, "a-2.0-py3-none-any.whl"), None);
    }

    #[test]
    fn a_file_is_found_on_a_page_of_json() {
        let body = r#"{"files":[{"filename":"b","url":"https://x/b"},{"filename":"a.whl","url":"/f/a.whl"}]}"#;
        assert_eq!(
            find("https://index.test/simple/a/", true, body, "a.whl").as_deref(),
            Some("https://index.test/f/a.whl")
        );
        assert_eq!(find("https://index.test/simple/a/", true, "no json", "a.whl"), None);
    }

    #[test]
    fn relative_addresses_start_at_the_page() {
        let page = "https://index.test/simple/a/";
        for (address, expected) in [
            ("https://files.test/a.whl#sha256=0", "https://files.test/a.whl"),
            ("//files.test/a.whl", "https://files.test/a.whl"),
            ("/a.whl?x=1", "https://index.test/a.whl?x=1"),
            ("a.whl", "https://index.test/simple/a/a.whl"),
            ("./../a.whl", "https://index.test/simple/a.whl"),
            ("../../../../a.whl", "https://index.test/a.whl"),
        ] {
            assert_eq!(join(page, address).as_deref(), Some(expected), "{address}");
        }
        assert_eq!(join("not an address", "a.whl"), None);
    }

    #[test]
    fn a_broken_page_has_no_file() {
        for body in ["href", "href=", "href=\"", "href=\"a.whl", "<a href=a.whl>", "<a href = ''>"] {
            assert_eq!(find("https://index.test/", false, body, "a.whl"), None, "{body}");
        }
    }

    #[test]
    fn credentials_are_sent_and_not_shown() {
        let index = "https://user:p%40ss@index.test/simple";
        assert_eq!(credentials(index).as_deref(), Some("user:p@ss"));
        assert_eq!(without_credentials(index), "https://index.test/simple");
        assert_eq!(credentials("https://index.test/a@b"), None);
        assert_eq!(without_credentials("https://index.test/a@b"), "https://index.test/a@b");
    }
}
