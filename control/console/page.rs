//! The page of the web console, `/console/`. Its files are built from the folder `console/` and are part of the binary.

use axum::Router;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use tandem_runtime::app::App;
use tandem_softphone::OF_PAGES;

const HTML: &str = include_str!("../../console/dist/index.html");
const SCRIPT: &str = include_str!("../../console/dist/console.js");
const STYLE: &str = include_str!("../../console/dist/console.css");
const ICON: &str = include_str!("../../console/dist/icon.svg");

/// The header fields of the files, besides those of all pages. Scripts, styles and requests only from and to this server.
const HEADERS: [(HeaderName, &str); 2] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
         media-src 'self' blob:; font-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    ),
    // The browser asks each time, because a new version of the server has other files with the same names.
    (header::CACHE_CONTROL, "no-cache"),
];

/// Builds the routes of the page. A client that does not ask for HTML gets `places` at `/console` and `/console/`.
pub fn routes(places: &'static str) -> Router<App> {
    let page = move |headers: HeaderMap| async move {
        if wants_html(&headers) { file("text/html; charset=utf-8", HTML) } else { places.into_response() }
    };
    let folder = move |headers: HeaderMap| async move {
        if wants_html(&headers) { Redirect::permanent("/console/").into_response() } else { places.into_response() }
    };
    Router::new()
        .route("/console", get(folder))
        .route("/console/", get(page))
        .route("/console/console.js", get(|| async { file("text/javascript; charset=utf-8", SCRIPT) }))
        .route("/console/console.css", get(|| async { file("text/css; charset=utf-8", STYLE) }))
        .route("/console/icon.svg", get(|| async { file("image/svg+xml", ICON) }))
}

fn wants_html(headers: &HeaderMap) -> bool {
    headers
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .is_some_and(|accept| accept.contains("text/html"))
}

fn file(kind: &'static str, text: &'static str) -> Response {
    let mut response = ([(header::CONTENT_TYPE, kind)], text).into_response();
    let fields = OF_PAGES.into_iter().chain(HEADERS);
    response.headers_mut().extend(fields.map(|(name, value)| (name, HeaderValue::from_static(value))));
    response
}
