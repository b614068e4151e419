//! `GET /api/recordings`: recordings in pages.
//!
//! **Invariant:** what the caller may not see takes no place on a page, and a page is followed by a link exactly where there is
//! more.

use std::fmt::Write;
use std::io;

use axum::Json;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, LINK};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use percent_encoding::percent_decode_str;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::caller::Caller;
use super::problem::Problem;
use super::state::AppState;
use crate::access::Right;
use crate::record::{Before, DISK_DEADLINE, DiskError, Page, Position, Query, Turn};
use crate::signal::ErrorCode;

/// Recordings on a page where the caller names no number.
const LIMIT: usize = 100;

/// Recordings on a page, at most.
const LIMIT_MAX: usize = 1000;

/// `GET /api/recordings`.
pub async fn recordings(
    State(state): State<AppState>,
    Caller { permit, .. }: Caller,
    uri: Uri,
) -> Result<Response, Problem> {
    let query = parse(uri.query().unwrap_or_default())?;
    let (catalogue, asked) = (state.catalogue().clone(), query.clone());
    let read = move |turn: &Turn| catalogue.page(turn, &asked, |broadcast| permit.may(Right::Recordings, broadcast));
    let page = match state.disk().run("listing recordings", DISK_DEADLINE, read).await {
        Ok(page) => page,
        // Nothing was recorded yet.
        Err(DiskError::Io(error)) if error.kind() == io::ErrorKind::NotFound => Page::default(),
        Err(error) => return Err(Problem::of_disk(&error, "the recordings cannot be listed")),
    };
    let next = page.recordings.last().filter(|_| page.has_more).map(|last| next_page(&query, &last.path));
    let no_store = [(CACHE_CONTROL, "no-store")];
    let list = Json(page.recordings);
    Ok(match next {
        Some(next) => (no_store, [(LINK, format!("<{next}>; rel=\"next\""))], list).into_response(),
        None => (no_store, list).into_response(),
    })
}

fn parse(query: &str) -> Result<Query, Problem> {
    let mut parsed = Query { limit: LIMIT, ..Query::default() };
    for pair in query.split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        // No `+` for a blank: it stands in times.
        let value = percent_decode_str(value).decode_utf8_lossy();
        match name {
            "room" => parsed.room = Some(value.parse().map_err(|_| bad_name("room"))?),
            "user" => parsed.user = Some(value.parse().map_err(|_| bad_name("user"))?),
            "before" => parsed.before = Some(before(&value)?),
            "limit" => parsed.limit = limit(&value)?,
            // `token`, and what a later version knows.
            _ => {}
        }
    }
    Ok(parsed)
}

fn bad_name(what: &str) -> Problem {
    Problem::signaling(ErrorCode::BadName, format!("`{what}` is no name of a {what}"))
}

fn limit(value: &str) -> Result<usize, Problem> {
    let is_number = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    // A number that is too long is too great.
    let limit = if is_number { value.parse().unwrap_or(usize::MAX) } else { 0 };
    if limit == 0 {
        return Err(Problem::new(StatusCode::BAD_REQUEST, format!("`limit` must be a number from 1 to {LIMIT_MAX}")));
    }
    Ok(limit.min(LIMIT_MAX))
}

fn before(value: &str) -> Result<Before, Problem> {
    let of_time = || OffsetDateTime::parse(value, &Rfc3339).ok().map(Before::Time);
    let before = Position::of(value).map(Before::Row).or_else(of_time);
    before.ok_or_else(|| {
        let detail = "`before` must be a time like 2026-01-31T18:00:00Z, or the `path` of a recording";
        Problem::new(StatusCode::BAD_REQUEST, detail)
    })
}

/// The address of the page after `last`. Names and paths hold nothing that would have to be encoded.
fn next_page(query: &Query, last: &str) -> String {
    let mut next = format!("/api/recordings?before={last}&limit={}", query.limit);
    // Writing to a string does not fail.
    if let Some(room) = &query.room {
        let _ = write!(next, "&room={room}");
    }
    if let Some(user) = &query.user {
        let _ = write!(next, "&user={user}");
    }
    next
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    #[test]
    fn a_query_is_read_strictly() {
        let query = parse("room=a&user=b&token=x&limit=7&before=2026-01-31T18:00:00%2B01:00").unwrap();
        assert_eq!((query.room, query.user, query.limit), ("a".parse().ok(), "b".parse().ok(), 7));
        assert_eq!(query.before, Some(Before::Time(datetime!(2026-01-31 17:00 UTC))));
        let before = |text: &str| parse(&format!("before={text}")).unwrap().before;
        assert!(matches!(before("a/b/20260131-180000.part.mp4"), Some(Before::Row(_))));
        assert!(matches!(before("a%2Fb%2F20260131-180000-2.mp4"), Some(Before::Row(_))));
        let limit = |text: &str| parse(text).unwrap().limit;
        assert_eq!((limit(""), limit("limit=1000"), limit("limit=1001")), (100, 1000, 1000));
        assert_eq!(limit("limit=99999999999999999999999"), 1000);
        for bad in [
            "limit=0",
            "limit=",
            "limit=-1",
            "limit=1.5",
            "limit=x",
            "room=",
            "room=a%2Fb",
            "user=..",
            "before=",
            "before=yesterday",
            "before=a/b/notes.mp4",
            "before=a/20260131-180000.mp4",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_next_page_keeps_what_was_asked_for() {
        let query = parse("token=secret&user=b&room=a&limit=2").unwrap();
        let next = next_page(&query, "a/b/20260131-180000.mp4");
        assert_eq!(next, "/api/recordings?before=a/b/20260131-180000.mp4&limit=2&room=a&user=b");
    }
}
