//! The web page and its files, carried in the binary.
//!
//! **Invariant:** only what lies in `web/` at build time is served, and no response lets another site frame the page or
//! a script from elsewhere run in it.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};
use std::sync::LazyLock;

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, REFERRER_POLICY};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use include_dir::{Dir, include_dir};

use super::problem::Problem;

static WEB: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/web");

static ASSETS: LazyLock<HashMap<String, Asset>> = LazyLock::new(|| {
    let mut assets = HashMap::new();
    collect(&WEB, &mut assets);
    assets
});

const CONTENT_SECURITY: &str = "default-src 'self'; media-src 'self' blob:; img-src 'self' data:; \
    connect-src 'self' ws: wss:; style-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'; \
    object-src 'none'";

const PERMISSIONS: &str = "camera=(self), microphone=(self), display-capture=(self), fullscreen=(self), \
    screen-wake-lock=(self), geolocation=(), payment=(), usb=()";

#[derive(Debug)]
struct Asset {
    bytes: &'static [u8],
    content_type: &'static str,
    etag: HeaderValue,
}

fn collect(dir: &'static Dir<'static>, assets: &mut HashMap<String, Asset>) {
    for file in dir.files() {
        let Some(path) = file.path().to_str() else { continue };
        let Some(content_type) = content_type(path) else { continue };
        let mut hasher = foldhash::quality::FixedState::default().build_hasher();
        hasher.write(file.contents());
        let Ok(etag) = HeaderValue::from_str(&format!("\"{:016x}\"", hasher.finish())) else { continue };
        assets.insert(path.to_owned(), Asset { bytes: file.contents(), content_type, etag });
    }
    for dir in dir.dirs() {
        collect(dir, assets);
    }
}

/// `None` for files that are no part of the page.
fn content_type(path: &str) -> Option<&'static str> {
    Some(match path.rsplit_once('.')?.1 {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "json" => "application/json",
        "webmanifest" => "application/manifest+json",
        "txt" => "text/plain; charset=utf-8",
        _ => return None,
    })
}

/// Serves what no other route took.
pub async fn serve(request: Request) -> Response {
    let path = match request.uri().path() {
        "/" => "index.html",
        path => path.strip_prefix('/').unwrap_or(path),
    };
    let Some(asset) = ASSETS.get(path) else {
        return Problem::new(StatusCode::NOT_FOUND, "there is nothing at this address").into_response();
    };
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Problem::method_not_allowed("GET, HEAD").into_response();
    }
    let headers = [
        (ETAG, asset.etag.clone()),
        (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (CONTENT_SECURITY_POLICY, HeaderValue::from_static(CONTENT_SECURITY)),
        (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (HeaderName::from_static("permissions-policy"), HeaderValue::from_static(PERMISSIONS)),
    ];
    let known = request.headers().get_all(IF_NONE_MATCH).iter().any(|tags| names_tag(tags, &asset.etag));
    if known {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    (headers, [(CONTENT_TYPE, asset.content_type)], Body::from(asset.bytes)).into_response()
}

/// Whether an `If-None-Match` names the tag (RFC 9110 §13.1.2: by weak comparison).
fn names_tag(tags: &HeaderValue, etag: &HeaderValue) -> bool {
    let (Ok(tags), Ok(etag)) = (tags.to_str(), etag.to_str()) else { return false };
    tags.split(',').map(str::trim).any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_in_the_binary() {
        let index = ASSETS.get("index.html").expect("web/index.html");
        assert_eq!(index.content_type, "text/html; charset=utf-8");
        assert!(!index.bytes.is_empty());
    }

    #[test]
    fn tags_are_found_in_lists_and_when_weakened() {
        let etag = HeaderValue::from_static("\"a\"");
        for (tags, found) in [("\"a\"", true), ("W/\"a\"", true), ("\"b\", \"a\"", true), ("*", true), ("\"b\"", false)]
        {
            assert_eq!(names_tag(&HeaderValue::from_static(tags), &etag), found, "{tags}");
        }
    }
}
