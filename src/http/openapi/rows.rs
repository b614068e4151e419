//! What each door takes and answers, as it is described.
//!
//! **Invariant:** each door's statuses are those that its handler, what it extracts and the origin rule before it can give.

use utoipa::openapi::HttpMethod;

/// What an answer holds.
#[derive(Clone, Copy)]
pub(super) enum Holds {
    /// Nothing.
    Nothing,
    /// Text or bytes of these media types.
    Text(&'static [&'static str]),
    /// One JSON value, by the name of its schema.
    One(&'static str),
    /// A list of them.
    Many(&'static str),
    /// A JSON object that is described elsewhere.
    Object,
    /// A problem.
    Problem,
}

use Holds::{Many, Nothing, Object, One, Problem, Text};

/// Whether a door looks at a token.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Token {
    /// It refuses a wrong one, and may need one.
    Judged,
    /// It says more to who has one, and refuses nobody.
    Regarded,
    /// Not at all.
    Ignored,
}

/// One answer.
pub(super) struct Answer {
    pub status: u16,
    pub says: &'static str,
    pub holds: Holds,
    /// Those of its headers that a client looks at.
    pub headers: &'static [&'static str],
}

/// One request header besides those of every request.
pub(super) struct Header {
    pub name: &'static str,
    pub is_required: bool,
    pub says: &'static str,
}

/// One parameter of the query, which none must have.
pub(super) struct QueryParameter {
    pub name: &'static str,
    pub says: &'static str,
}

/// One method of one door.
pub(super) struct Row {
    pub method: HttpMethod,
    pub path: &'static str,
    pub summary: &'static str,
    pub token: Token,
    /// The media type of the request's body.
    pub takes: Option<&'static str>,
    pub headers: &'static [Header],
    pub query: &'static [QueryParameter],
    pub answers: &'static [Answer],
    /// Problems, besides those of tokens.
    pub errors: &'static [u16],
}

const fn answer(status: u16, says: &'static str, holds: Holds) -> Answer {
    Answer { status, says, holds, headers: &[] }
}

const fn required(name: &'static str, says: &'static str) -> Header {
    Header { name, is_required: true, says }
}

const fn optional(name: &'static str, says: &'static str) -> Header {
    Header { name, is_required: false, says }
}

const fn query(name: &'static str, says: &'static str) -> QueryParameter {
    QueryParameter { name, says }
}

const GET: HttpMethod = HttpMethod::Get;
const POST: HttpMethod = HttpMethod::Post;
const PATCH: HttpMethod = HttpMethod::Patch;
const DELETE: HttpMethod = HttpMethod::Delete;
const OPTIONS: HttpMethod = HttpMethod::Options;

const SDP: &str = "application/sdp";
const FRAGMENT: &str = "application/trickle-ice-sdpfrag";
const MP4: Holds = Text(&["video/mp4"]);
const PLAIN: Row = Row {
    method: GET,
    path: "",
    summary: "",
    token: Token::Judged,
    takes: None,
    headers: &[],
    query: &[],
    answers: &[],
    errors: &[],
};

const CREATED: Answer = Answer {
    headers: &["Location", "ETag", "Accept-Patch", "Link"],
    ..answer(201, "The server's answer to the offer; Location names the session's resource", Text(&[SDP]))
};

/// All doors but those that WHIP and WHEP have in common.
pub(super) const ROWS: &[Row] = &[
    Row {
        path: "/api/broadcasts",
        summary: "What is live, as far as the caller may watch it",
        answers: &[answer(200, "Live broadcasts by their ids", Many("Broadcast"))],
        errors: &[403, 503],
        ..PLAIN
    },
    Row {
        method: DELETE,
        path: "/api/broadcasts/{room}/{user}",
        summary: "Ends a broadcast, and tells its broadcaster not to begin again by itself; takes the right to operate it",
        answers: &[answer(204, "It has ended", Nothing)],
        errors: &[400, 403, 404, 503],
        ..PLAIN
    },
    Row {
        method: POST,
        path: "/api/broadcasts/{room}/{user}/recording",
        summary: "Starts a recording of a live broadcast; takes the right to record or operate it",
        answers: &[answer(204, "It is recorded from now on; the file begins with the next keyframe", Nothing)],
        errors: &[400, 403, 404, 409, 503],
        ..PLAIN
    },
    Row {
        method: DELETE,
        path: "/api/broadcasts/{room}/{user}/recording",
        summary: "Stops a broadcast's recording and lets it go on; takes the right to record or operate it",
        answers: &[answer(204, "Its recording has ended; the file is finished in a moment", Nothing)],
        errors: &[400, 403, 404, 409, 503],
        ..PLAIN
    },
    Row {
        path: "/api/recordings",
        summary: "Recordings that the caller may see, the newest first, in pages",
        query: &[
            query("room", "Only recordings of this room"),
            query("user", "Only recordings of this user, in all rooms where `room` is left out"),
            query("before", "Only older ones than this: a time (RFC 3339), or the `path` of a recording"),
            query("limit", "How many, from 1 to 1000; 100 where it is left out"),
        ],
        answers: &[Answer {
            headers: &["Link"],
            ..answer(200, "Finished recordings and those that grow", Many("RecordingFile"))
        }],
        errors: &[400, 403, 500, 503],
        ..PLAIN
    },
    Row {
        method: DELETE,
        path: "/api/recordings/{room}/{user}/{file}",
        summary: "Removes a recording that is not being written; takes the right to operate its broadcast",
        answers: &[answer(204, "It is gone", Nothing)],
        errors: &[400, 403, 404, 409, 500, 503],
        ..PLAIN
    },
    Row {
        path: "/api/ice-servers",
        summary: "The STUN and TURN servers for an RTCPeerConnection; takes the right to publish or watch something",
        answers: &[answer(200, "With logins that are good for a while", One("Connectivity"))],
        errors: &[403],
        ..PLAIN
    },
    Row {
        path: "/api/events",
        summary: "What befalls broadcasts, as server-sent events: first `broadcasts` (see Beginning), then the messages \
            broadcaster-connected, broadcaster-disconnected, viewers and recording of the WebSocket",
        answers: &[answer(200, "A stream without an end", Text(&["text/event-stream"]))],
        errors: &[403, 500, 503],
        ..PLAIN
    },
    Row {
        path: "/api/openapi.json",
        summary: "This description",
        token: Token::Ignored,
        answers: &[answer(200, "OpenAPI 3.1", Object)],
        errors: &[403],
        ..PLAIN
    },
    Row {
        path: "/recordings/{room}/{user}/{file}",
        summary: "A recording's file; takes the right to see its recordings",
        headers: &[
            optional("Range", "The bytes wanted"),
            optional("If-Match", "The ETag that it must have"),
            optional("If-None-Match", "An ETag that is known already"),
            optional("If-Modified-Since", "The Last-Modified that is known already"),
            optional("If-Unmodified-Since", "A Last-Modified that it must not be newer than"),
        ],
        answers: &[
            Answer { headers: &["ETag", "Last-Modified", "Accept-Ranges"], ..answer(200, "All of it", MP4) },
            Answer {
                headers: &["Content-Range", "ETag", "Last-Modified"],
                ..answer(206, "The range that was asked for", MP4)
            },
            Answer { headers: &["ETag", "Last-Modified"], ..answer(304, "It is as it was", Nothing) },
        ],
        errors: &[400, 403, 404, 412, 416, 500, 503],
        ..PLAIN
    },
    Row {
        path: "/healthz",
        summary: "Whether the server works",
        token: Token::Ignored,
        answers: &[answer(200, "It does", Text(&["text/plain"]))],
        errors: &[503],
        ..PLAIN
    },
    Row {
        path: "/metrics",
        summary: "Metrics for Prometheus; takes the right to operate everything",
        answers: &[answer(200, "By what is accepted", Text(&["text/plain", "application/openmetrics-text"]))],
        errors: &[403, 500],
        ..PLAIN
    },
    Row {
        path: "/ws",
        summary: "Signaling over a WebSocket (RFC 6455), in JSON: see docs/signaling.md",
        headers: &[
            required("Connection", "Upgrade"),
            required("Upgrade", "websocket"),
            required("Sec-WebSocket-Version", "13"),
            required("Sec-WebSocket-Key", "16 random bytes in base64"),
        ],
        answers: &[Answer {
            headers: &["Connection", "Upgrade", "Sec-WebSocket-Accept"],
            ..answer(101, "It is a WebSocket now", Nothing)
        }],
        errors: &[400, 403, 426],
        ..PLAIN
    },
    Row {
        method: POST,
        path: "/whip/{room}/{user}",
        summary: "Publishes by WHIP (RFC 9725); takes the right to publish it",
        takes: Some(SDP),
        answers: &[CREATED],
        errors: &[400, 403, 406, 408, 409, 413, 415, 422, 500, 503],
        ..PLAIN
    },
    Row {
        method: POST,
        path: "/whep/{room}/{user}",
        summary: "Plays by WHEP (draft-ietf-wish-whep-03); takes the right to watch it",
        takes: Some(SDP),
        answers: &[
            CREATED,
            Answer {
                headers: &["Retry-After"],
                ..answer(409, "It is not live: come back after Retry-After; or the server is stopping", Problem)
            },
        ],
        errors: &[400, 403, 406, 408, 413, 415, 422, 500, 503],
        ..PLAIN
    },
];

/// The endpoints of WHIP and WHEP, below which [`WISH`] is.
pub(super) const WISH_ENDPOINTS: [&str; 2] = ["/whip/{room}/{user}", "/whep/{room}/{user}"];

/// What WHIP and WHEP have in common.
pub(super) const WISH: &[Row] = &[
    Row {
        path: "",
        summary: "Nothing to be seen here (RFC 9725 §4.1)",
        token: Token::Ignored,
        answers: &[answer(204, "Nothing", Nothing)],
        errors: &[403],
        ..PLAIN
    },
    Row {
        method: OPTIONS,
        path: "",
        summary: "What may be posted; with ICE servers in Link for who may use it",
        token: Token::Regarded,
        answers: &[Answer {
            headers: &["Allow", "Accept-Post", "Link"],
            ..answer(200, "What the endpoint takes", Nothing)
        }],
        errors: &[400, 403],
        ..PLAIN
    },
    Row {
        path: "/{resource}",
        summary: "Whether the session lives",
        token: Token::Ignored,
        answers: &[answer(204, "It does", Nothing)],
        errors: &[400, 403, 404],
        ..PLAIN
    },
    Row {
        method: OPTIONS,
        path: "/{resource}",
        summary: "What a session takes",
        token: Token::Ignored,
        answers: &[Answer { headers: &["Allow", "Accept-Patch"], ..answer(200, "What a session takes", Nothing) }],
        errors: &[403],
        ..PLAIN
    },
    Row {
        method: PATCH,
        path: "/{resource}",
        summary: "Trickles candidates or restarts ICE (RFC 9725 §4.3): whoever knows its name may",
        token: Token::Ignored,
        takes: Some(FRAGMENT),
        headers: &[required("If-Match", "The ETag of the ICE session, or *")],
        query: &[],
        answers: &[
            Answer {
                headers: &["ETag"],
                ..answer(200, "ICE was restarted: the server's credentials, under a new ETag", Text(&[FRAGMENT]))
            },
            answer(204, "The candidates were taken", Nothing),
        ],
        errors: &[400, 403, 404, 408, 409, 412, 413, 415, 428, 500, 503],
    },
    Row {
        method: DELETE,
        path: "/{resource}",
        summary: "Ends the session: whoever knows its name may",
        token: Token::Ignored,
        answers: &[answer(200, "It has ended", Nothing)],
        errors: &[400, 403, 404],
        ..PLAIN
    },
];
