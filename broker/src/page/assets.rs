//! Style, script and sign of the page: three files, in the program itself.

use axum::{
    Router,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::get,
};
use schemas::id::Digest;

/// A browser asks again after so long whether they are the same: a new broker may have others.
const FOR_A_MINUTE: &str = "max-age=60";

pub(super) fn routes() -> Router {
    let asset = |text: &'static str, kind: &'static str| {
        let tag = format!("\"{}\"", Digest::of(text.as_bytes()).short());
        get(move |headers: HeaderMap| async move { answer(&headers, &tag, kind, text) })
    };
    Router::new()
        .route("/page.css", asset(include_str!("../../templates/page.css"), "text/css; charset=utf-8"))
        .route("/page.js", asset(include_str!("../../templates/page.js"), "text/javascript; charset=utf-8"))
        .route("/page.svg", asset(include_str!("../../templates/page.svg"), "image/svg+xml"))
}

fn answer(headers: &HeaderMap, tag: &str, kind: &'static str, text: &'static str) -> Response {
    let lines = [(header::ETAG, tag), (header::CACHE_CONTROL, FOR_A_MINUTE), (header::CONTENT_TYPE, kind)];
    if headers.get(header::IF_NONE_MATCH).is_some_and(|known| known == tag) {
        return (StatusCode::NOT_MODIFIED, lines).into_response();
    }
    (lines, text).into_response()
}
