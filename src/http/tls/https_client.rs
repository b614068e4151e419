//! An HTTPS client that is just enough to speak with an ACME authority.
//!
//! **Invariant:** a request ends within [`REQUEST_DEADLINE`], and no more than [`ANSWER_MAX_BYTES`] are taken in.

use std::error::Error as StdError;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use bytes::Bytes;
use hyper::client::conn::http1;
use hyper::header::{HOST, HeaderValue};
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

const REQUEST_DEADLINE: Duration = Duration::from_secs(30);

const ANSWER_MAX_BYTES: usize = 1024 * 1024;

type Failure = Box<dyn StdError + Send + Sync>;

/// One connection for each request: there are a dozen in two months.
#[derive(Clone)]
pub struct HttpsClient(TlsConnector);

impl HttpsClient {
    /// Believes who is vouched for by `roots`.
    ///
    /// # Errors
    ///
    /// Where the library refuses its own defaults.
    pub fn new(roots: RootCertStore, provider: Arc<CryptoProvider>) -> Result<Self, rustls::Error> {
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }
}

impl HttpClient for HttpsClient {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let connector = self.0.clone();
        Box::pin(async move {
            let asked = timeout(REQUEST_DEADLINE, ask(connector, request)).await;
            asked.unwrap_or_else(|_| Err("the authority does not answer in time".into())).map_err(Error::Other)
        })
    }
}

async fn ask(connector: TlsConnector, mut request: Request<BodyWrapper<Bytes>>) -> Result<BytesResponse, Failure> {
    let uri = std::mem::take(request.uri_mut());
    let (Some("https"), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err(format!("{uri} is no https address").into());
    };
    let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    let stream = TcpStream::connect((host.as_str(), authority.port_u16().unwrap_or(443))).await?;
    let stream = connector.connect(ServerName::try_from(host)?, stream).await?;
    request.headers_mut().insert(HOST, HeaderValue::from_str(authority.as_str())?);
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    *request.uri_mut() = path.parse::<Uri>()?;
    let (mut requests, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // It ends when `requests` goes.
    tokio::spawn(connection);
    let (parts, body) = requests.send_request(request).await?.into_parts();
    let body = to_bytes(Body::new(body), ANSWER_MAX_BYTES).await?;
    Ok(BytesResponse::from(Response::from_parts(parts, Body::from(body))))
}
