//! An HTTP client that is just enough for what the server asks of others: one request on a connection of its own.
//!
//! **Invariant:** what is read of an answer has a cap, and a redirect is an answer like any other. The caller sets the
//! deadline: where its future is dropped, the connection ends.

use std::error::Error as StdError;
use std::sync::Arc;

use axum::body::{Body, HttpBody, to_bytes};
use bytes::Bytes;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{HOST, HeaderValue};
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// What can go wrong on the way.
pub type Failure = Box<dyn StdError + Send + Sync>;

/// Speaks HTTP/1.1, over TLS where the address says so. Cheap to clone.
#[derive(Clone)]
pub struct Client(TlsConnector);

/// The head of an answer, and the body that may follow.
pub struct Answer<B> {
    response: Response<Incoming>,
    /// The connection ends with it.
    _connection: SendRequest<B>,
}

impl Client {
    /// Over TLS it believes who is vouched for by `roots`.
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

    /// Sends a request to where its address says, and waits for the head of the answer.
    ///
    /// # Errors
    ///
    /// Whatever kept the answer from coming.
    pub async fn send<B>(&self, mut request: Request<B>) -> Result<Answer<B>, Failure>
    where
        B: HttpBody + Unpin + Send + 'static,
        B::Data: Send,
        B::Error: Into<Failure>,
    {
        let uri = std::mem::take(request.uri_mut());
        let (port, tls) = match uri.scheme_str() {
            Some("https") => (443, true),
            Some("http") => (80, false),
            _ => return Err(format!("{uri} is no http or https address").into()),
        };
        let authority = uri.authority().ok_or_else(|| format!("{uri} names no server"))?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let stream = TcpStream::connect((host.as_str(), authority.port_u16().unwrap_or(port))).await?;
        stream.set_nodelay(true)?;
        request.headers_mut().insert(HOST, HeaderValue::from_str(authority.as_str())?);
        *request.uri_mut() = uri.path_and_query().map_or("/", |path| path.as_str()).parse::<Uri>()?;
        if tls {
            let stream = self.0.connect(ServerName::try_from(host)?, stream).await?;
            exchange(stream, request).await
        } else {
            exchange(stream, request).await
        }
    }
}

async fn exchange<S, B>(stream: S, request: Request<B>) -> Result<Answer<B>, Failure>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    B: HttpBody + Unpin + Send + 'static,
    B::Data: Send,
    B::Error: Into<Failure>,
{
    let (mut requests, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // It ends when `requests` goes.
    tokio::spawn(connection);
    let response = requests.send_request(request).await?;
    Ok(Answer { response, _connection: requests })
}

impl<B> Answer<B> {
    /// The status.
    #[must_use]
    pub fn status(&self) -> hyper::StatusCode {
        self.response.status()
    }

    /// The whole answer.
    ///
    /// # Errors
    ///
    /// Where its body does not come, or has more than `body_max_bytes`.
    pub async fn whole(self, body_max_bytes: usize) -> Result<Response<Bytes>, Failure> {
        let (parts, body) = self.response.into_parts();
        let body = to_bytes(Body::new(body), body_max_bytes).await?;
        Ok(Response::from_parts(parts, body))
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use hyper::StatusCode;
    use rustls::ServerConfig;
    use rustls::crypto::aws_lc_rs::default_provider;
    use rustls::pki_types::PrivatePkcs8KeyDer;
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;
    use tower::ServiceExt;

    use super::*;

    /// A server that has a certificate for `localhost`, and who vouches for it: the certificate itself.
    async fn https_server() -> (u16, RootCertStore) {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate =
            rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(certificate.der().clone()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], PrivatePkcs8KeyDer::from(key.serialize_der()).into())
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let router = Router::new().route("/path", axum::routing::get("what there is"));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(stream) = acceptor.accept(stream).await else { continue };
                let router = router.clone();
                let service = hyper::service::service_fn(move |request| router.clone().oneshot(request));
                let served = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                tokio::spawn(served);
            }
        });
        (port, roots)
    }

    async fn get(roots: RootCertStore, address: String) -> Result<Response<Bytes>, Failure> {
        let client = Client::new(roots, Arc::new(default_provider())).unwrap();
        let request = Request::get(address).body(Body::empty()).unwrap();
        client.send(request).await?.whole(32).await
    }

    #[tokio::test]
    async fn over_https_who_is_not_vouched_for_is_told_nothing() {
        let (port, roots) = https_server().await;
        let answer = get(roots.clone(), format!("https://localhost:{port}/path")).await.unwrap();
        assert_eq!((answer.status(), answer.body().as_ref()), (StatusCode::OK, &b"what there is"[..]));
        let strangers = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        for (roots, address) in [
            (strangers, format!("https://localhost:{port}/path")),
            // Another name than that in the certificate.
            (roots.clone(), format!("https://127.0.0.1:{port}/path")),
            (roots.clone(), format!("http://localhost:{port}/path")),
            (roots, format!("ftp://localhost:{port}/path")),
        ] {
            assert!(get(roots, address.clone()).await.is_err(), "{address}");
        }
    }
}
