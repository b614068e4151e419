//! `GET /api/openapi.json`: the doors for programs, described in OpenAPI 3.1.
//!
//! One row for each door and method; what JSON looks like is taken from the types that are written.
//!
//! **Invariant:** every route of the router has its rows and no row is without a route (a test of the router compares them),
//! and every error is described as a problem.

mod rows;

use std::sync::LazyLock;

use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response as HttpResponse};
use utoipa::OpenApi;
use utoipa::openapi::path::{Operation, OperationBuilder, Parameter, ParameterBuilder, ParameterIn, PathsBuilder};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::{
    Array, Content, HeaderBuilder, HttpMethod, InfoBuilder, LicenseBuilder, ObjectBuilder, PathItem, Ref, RefOr,
    Required, Response, ResponseBuilder, Schema, Type,
};

use self::rows::{Answer, Header, Holds, QueryParameter, ROWS, Row, Token, WISH, WISH_ENDPOINTS};
use super::api::{Broadcast, Connectivity, Track};
use super::events::{Beginning, BeginningType};
use super::ice_server::IceServer;
use super::problem::Body;
use crate::record::RecordingFile;
use crate::rtp::codec::{Codec, TrackKind};
use crate::signal::ErrorCode;

/// The schemas of what is written as JSON.
#[derive(OpenApi)]
#[openapi(components(schemas(
    Broadcast,
    Track,
    TrackKind,
    Codec,
    RecordingFile,
    Connectivity,
    IceServer,
    Beginning,
    BeginningType,
    Body<'_>,
    ErrorCode
)))]
struct Schemas;

// It is built of constants: that it can be written, the tests have seen.
static DESCRIPTION: LazyLock<String> = LazyLock::new(|| describe().to_json().unwrap_or_default());

/// `GET /api/openapi.json`: for everyone, since it tells of no broadcast.
pub async fn description() -> HttpResponse {
    ([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], DESCRIPTION.as_str()).into_response()
}

fn describe() -> utoipa::openapi::OpenApi {
    let mut paths = PathsBuilder::new();
    for row in ROWS {
        paths = paths.path(row.path, PathItem::new(row.method.clone(), operation(row.path, row)));
    }
    for endpoint in WISH_ENDPOINTS {
        for row in WISH {
            let path = format!("{endpoint}{}", row.path);
            let item = PathItem::new(row.method.clone(), operation(&path, row));
            paths = paths.path(path, item);
        }
    }
    let info = InfoBuilder::new()
        .title("onair")
        .description(Some(
            "A WebRTC broadcast server: what it tells programs, and what it takes from them. What answers GET answers HEAD. \
             Other methods are answered with 405 and Allow, and pages of origins that are not allowed with 403.",
        ))
        .license(Some(LicenseBuilder::new().name(env!("CARGO_PKG_LICENSE")).identifier(Some(env!("CARGO_PKG_LICENSE"))).build()))
        .version(env!("CARGO_PKG_VERSION"))
        .build();
    let mut openapi = Schemas::openapi();
    openapi.info = info;
    openapi.paths = paths.build();
    let by_query = ApiKeyValue::with_description("token", "For players that know no headers, and for EventSource");
    let components = openapi.components.get_or_insert_default();
    components.security_schemes.insert(
        "bearer".to_owned(),
        SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build()).into(),
    );
    components.security_schemes.insert("query".to_owned(), SecurityScheme::ApiKey(ApiKey::Query(by_query)).into());
    // Without --auth, and where the file lets everyone in, no token is needed.
    let none: [&str; 0] = [];
    openapi.security = Some(vec![
        SecurityRequirement::default(),
        SecurityRequirement::new("bearer", none),
        SecurityRequirement::new("query", none),
    ]);
    openapi
}

fn operation(path: &str, row: &Row) -> Operation {
    let mut operation = OperationBuilder::new().operation_id(Some(id(path, &row.method))).summary(Some(row.summary));
    for name in names_in(path) {
        operation = operation.parameter(path_parameter(name));
    }
    for header in row.headers {
        operation = operation.parameter(header_parameter(header));
    }
    for parameter in row.query {
        operation = operation.parameter(query_parameter(parameter));
    }
    if let Some(media_type) = row.takes {
        let body = RequestBodyBuilder::new().content(media_type, text()).required(Some(Required::True));
        operation = operation.request_body(Some(body.build()));
    }
    for answer in row.answers {
        operation = operation.response(answer.status.to_string(), response(answer));
    }
    // A wrong token, or none where one is needed; too many wrong ones.
    let of_tokens: &[u16] = if row.token == Token::Judged { &[401, 429] } else { &[] };
    for status in row.errors.iter().chain(of_tokens) {
        operation = operation.response(status.to_string(), problem(*status));
    }
    if row.token == Token::Ignored {
        operation = operation.securities(Some([]));
    }
    operation.build()
}

/// The method and the path, but for the names of room and user, which most have.
fn id(path: &str, method: &HttpMethod) -> String {
    let method = match method {
        HttpMethod::Post => "post",
        HttpMethod::Patch => "patch",
        HttpMethod::Delete => "delete",
        HttpMethod::Options => "options",
        _ => "get",
    };
    let parts = path.split(['/', '-', '.']).map(|part| part.trim_matches(['{', '}']));
    let parts = parts.filter(|part| !matches!(*part, "" | "room" | "user"));
    std::iter::once(method).chain(parts).collect::<Vec<_>>().join("_")
}

/// The parameters of a path.
fn names_in(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
}

fn path_parameter(name: &str) -> Parameter {
    let (says, pattern) = match name {
        "room" | "user" => (
            "1 to 64 letters, digits, `.`, `_` and `-`, the first a letter or digit",
            "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
        ),
        "file" => ("As a recording's path ends", "^[0-9]{8}-[0-9]{6}(-[0-9]{1,9})?(\\.part)?\\.mp4$"),
        _ => ("As the session's Location ends", "^[0-9a-f]{32}$"),
    };
    let schema = ObjectBuilder::new().schema_type(Type::String).pattern(Some(pattern));
    let parameter = ParameterBuilder::new().name(name).parameter_in(ParameterIn::Path).required(Required::True);
    parameter.description(Some(says)).schema(Some(schema)).build()
}

fn header_parameter(header: &Header) -> Parameter {
    let required = if header.is_required { Required::True } else { Required::False };
    let schema = ObjectBuilder::new().schema_type(Type::String);
    let parameter = ParameterBuilder::new().name(header.name).parameter_in(ParameterIn::Header).required(required);
    parameter.description(Some(header.says)).schema(Some(schema)).build()
}

fn query_parameter(parameter: &QueryParameter) -> Parameter {
    let schema_type = if parameter.name == "limit" { Type::Integer } else { Type::String };
    let schema = ObjectBuilder::new().schema_type(schema_type);
    let parameter_in = ParameterBuilder::new().name(parameter.name).parameter_in(ParameterIn::Query);
    parameter_in.required(Required::False).description(Some(parameter.says)).schema(Some(schema)).build()
}

fn response(answer: &Answer) -> Response {
    let response = with_headers(ResponseBuilder::new().description(answer.says), answer.headers);
    match answer.holds {
        Holds::Nothing => response,
        Holds::Text(media_types) => {
            media_types.iter().fold(response, |response, media_type| response.content(*media_type, text()))
        }
        Holds::One(name) => response.content("application/json", content(Ref::from_schema_name(name))),
        Holds::Many(name) => response.content("application/json", content(Array::new(Ref::from_schema_name(name)))),
        Holds::Object => {
            response.content("application/json", content(Schema::from(ObjectBuilder::new().schema_type(Type::Object))))
        }
        Holds::Problem => with_problem(response),
    }
    .build()
}

fn problem(status: u16) -> Response {
    let reason = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
    let headers: &[&str] = match status {
        401 => &["WWW-Authenticate"],
        416 => &["Content-Range"],
        426 => &["Connection", "Upgrade", "Sec-WebSocket-Version"],
        429 | 503 => &["Retry-After"],
        _ => &[],
    };
    with_problem(with_headers(ResponseBuilder::new().description(reason.unwrap_or("An error")), headers)).build()
}

fn with_problem(response: ResponseBuilder) -> ResponseBuilder {
    response.content("application/problem+json", content(Ref::from_schema_name("Problem")))
}

fn with_headers(response: ResponseBuilder, names: &[&str]) -> ResponseBuilder {
    names.iter().fold(response, |response, name| {
        let (schema_type, says) = match *name {
            "Accept-Patch" | "Accept-Post" => (Type::String, "The media type of what may be sent"),
            "ETag" => (Type::String, "The tag of the ICE session, or of the file as it is"),
            "Link" => (Type::String, "By its rel: an \"ice-server\" (RFC 9725 §4.6), or the \"next\" page"),
            "Location" => (Type::String, "The path of the session's resource: whoever knows it may end the session"),
            "Retry-After" => (Type::Integer, "Seconds, where it is known when to come back"),
            _ => (Type::String, "As HTTP has it"),
        };
        let schema = ObjectBuilder::new().schema_type(schema_type);
        response.header(*name, HeaderBuilder::new().schema(Some(schema)).description(Some(says)).build())
    })
}

fn text() -> Content {
    content(Schema::from(ObjectBuilder::new().schema_type(Type::String)))
}

fn content(schema: impl Into<RefOr<Schema>>) -> Content {
    Content::new(Some(schema))
}

#[cfg(test)]
pub mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use serde_json::Value;

    use super::*;

    fn document() -> Value {
        serde_json::from_str(&DESCRIPTION).unwrap()
    }

    /// The methods that are described, by their paths.
    pub fn methods() -> BTreeMap<String, BTreeSet<String>> {
        let document = document();
        let paths = document["paths"].as_object().unwrap();
        let methods = |item: &Value| item.as_object().unwrap().keys().map(|name| name.to_uppercase()).collect();
        paths.iter().map(|(path, item)| (path.clone(), methods(item))).collect()
    }

    fn operations(document: &Value) -> Vec<(String, &String, &Value)> {
        let paths = document["paths"].as_object().unwrap().iter();
        paths
            .flat_map(|(path, item)| {
                item.as_object()
                    .unwrap()
                    .iter()
                    .map(move |(method, operation)| (format!("{method} {path}"), path, operation))
            })
            .collect()
    }

    #[test]
    fn each_operation_is_whole() {
        let document = document();
        assert_eq!((&document["openapi"], &document["info"]["title"]), (&"3.1.0".into(), &"onair".into()));
        let schemes = document["components"]["securitySchemes"].as_object().unwrap();
        let mut ids = BTreeSet::new();
        for (name, path, operation) in operations(&document) {
            assert!(ids.insert(operation["operationId"].as_str().unwrap()), "the id of {name} is another's");
            let parameters = operation["parameters"].as_array().map_or(&[][..], Vec::as_slice);
            let mut named = BTreeSet::new();
            for parameter in parameters {
                assert!(
                    named.insert((parameter["in"].as_str().unwrap(), parameter["name"].as_str().unwrap())),
                    "{name}"
                );
                assert!(parameter["schema"].is_object(), "{name}: {parameter}");
                assert!(parameter["in"] != "path" || parameter["required"] == true, "{name}: {parameter}");
            }
            let in_path: BTreeSet<_> =
                named.iter().filter(|(place, _)| *place == "path").map(|(_, name)| *name).collect();
            assert_eq!(in_path, names_in(path).collect(), "{name}");
            let responses = operation["responses"].as_object().unwrap();
            assert!(responses.keys().any(|status| status.as_str() < "400"), "{name}");
            for (status, response) in responses {
                assert!(!response["description"].as_str().unwrap().is_empty(), "{name} {status}");
                let is_problem = response["content"]["application/problem+json"].is_object();
                assert_eq!(is_problem, status.as_str() >= "400", "{name} {status}");
            }
            for requirement in operation["security"].as_array().or(document["security"].as_array()).unwrap() {
                assert!(requirement.as_object().unwrap().keys().all(|scheme| schemes.contains_key(scheme)), "{name}");
            }
        }
    }

    #[test]
    fn each_reference_leads_somewhere_and_each_schema_has_a_type() {
        let document = document();
        let mut values = vec![&document];
        let mut seen = 0;
        while let Some(value) = values.pop() {
            match value {
                Value::Object(members) => {
                    if let Some(reference) = members.get("$ref") {
                        let pointer = reference.as_str().unwrap().strip_prefix('#').unwrap();
                        assert!(document.pointer(pointer).is_some(), "{reference}");
                        seen += 1;
                    }
                    if let Some(schema) = members.get("schema") {
                        assert!(schema.get("type").or(schema.get("$ref")).is_some(), "{value}");
                    }
                    values.extend(members.values());
                }
                Value::Array(items) => values.extend(items),
                _ => {}
            }
        }
        assert!(seen > 0);
    }
}
