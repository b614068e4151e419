//! The HTTPS client by which the ACME library speaks with an authority.
//!
//! **Invariant:** a request ends within [`REQUEST_DEADLINE`], and no more than [`ANSWER_MAX_BYTES`] are taken in.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use hyper::Request;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use tokio::time::timeout;

use crate::http::client::{Client, Failure};

const REQUEST_DEADLINE: Duration = Duration::from_secs(30);

const ANSWER_MAX_BYTES: usize = 1024 * 1024;

/// One connection for each request: there are a dozen in two months.
#[derive(Clone)]
pub struct HttpsClient(Client);

impl HttpsClient {
    /// Believes who is vouched for by `roots`.
    ///
    /// # Errors
    ///
    /// Where the library refuses its own defaults.
    pub fn new(roots: RootCertStore, provider: Arc<CryptoProvider>) -> Result<Self, rustls::Error> {
        Client::new(roots, provider).map(Self)
    }
}

impl HttpClient for HttpsClient {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let client = self.0.clone();
        Box::pin(async move {
            let asked = timeout(REQUEST_DEADLINE, ask(client, request)).await;
            asked.unwrap_or_else(|_| Err("the authority does not answer in time".into())).map_err(Error::Other)
        })
    }
}

async fn ask(client: Client, request: Request<BodyWrapper<Bytes>>) -> Result<BytesResponse, Failure> {
    if request.uri().scheme_str() != Some("https") {
        return Err(format!("{} is no https address", request.uri()).into());
    }
    let response = client.send(request).await?.whole(ANSWER_MAX_BYTES).await?;
    Ok(BytesResponse::from(response.map(Body::from)))
}
