//! One request on a connection of its own: no redirect is followed, nothing is asked twice, and no more is read than an
//! answer may have. Called by `client`, which bounds the time.

use std::{io, sync::Arc};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::{
    Method, Request, StatusCode, Uri,
    client::conn::http1,
    header::{
        ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, ETAG, HOST, HeaderValue, IF_NONE_MATCH,
        USER_AGENT,
    },
};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

use crate::config::ControlPlane;
use crate::error::with_causes;
use crate::metrics::Asked;
use crate::tls::{TlsError, reach, web_client};

/// Longest answer: a thousand roles.
pub(super) const BYTES_MAX: usize = 256 * 1024;
/// Longest head of an answer.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Most lines of it.
const HEADERS_MAX: usize = 64;
/// Longest version that is remembered.
const VERSION_BYTES_MAX: usize = 256;

/// What is asked.
pub(super) struct Question<'a> {
    pub(super) what: Asked,
    pub(super) method: Method,
    /// Behind the URL of the control plane.
    pub(super) path: String,
    pub(super) body: Option<String>,
    /// The version of what is known.
    pub(super) version: Option<&'a str>,
}

/// What was answered.
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) version: Option<String>,
    pub(super) body: Vec<u8>,
}

/// Why there is no answer, each with what is wrong.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoAnswer {
    /// There was no connection: nothing has been asked.
    Unreached(String),
    /// It ended before the answer did: what was asked for may be done or not.
    Cut(String),
    /// It is longer than an answer may be.
    TooLong,
}

/// Where it is asked.
pub(super) struct Http {
    host: String,
    port: u16,
    authority: String,
    prefix: String,
    tls: Option<Arc<ClientConfig>>,
    token: HeaderValue,
}

impl Http {
    /// Blocks on files.
    ///
    /// # Errors
    /// The roots cannot be used.
    pub(super) fn new(rules: &ControlPlane) -> Result<Self, TlsError> {
        let url: Uri = rules.url.parse().expect("the configuration was checked");
        let is_tls = url.scheme_str() == Some("https");
        let token = HeaderValue::from_str(&format!("Bearer {}", rules.token.reveal()));
        let mut token = token.expect("the configuration was checked");
        token.set_sensitive(true);
        // An IPv6 address stands in brackets in a URL, and nowhere else.
        let host = url.host().unwrap_or_default().trim_matches(['[', ']']);
        Ok(Self {
            host: host.to_owned(),
            port: url.port_u16().unwrap_or(if is_tls { 443 } else { 80 }),
            authority: url.authority().map(ToString::to_string).unwrap_or_default(),
            prefix: url.path().trim_end_matches('/').to_owned(),
            tls: is_tls.then(|| web_client(rules.ca.as_deref())).transpose()?,
            token,
        })
    }

    /// One answer. Cancel safe: it is given up.
    ///
    /// # Errors
    /// [`NoAnswer`]
    pub(super) async fn ask(&self, question: Question<'_>) -> Result<Reply, NoAnswer> {
        let failed =
            |error: io::Error| NoAnswer::Unreached(format!("cannot connect to {}: {error}", self.authority));
        let request = self.request(question)?;
        let stream = reach(&self.host, self.port).await.map_err(failed)?;
        let Some(config) = &self.tls else {
            return talk(stream, request).await;
        };
        let name = ServerName::try_from(self.host.clone());
        let name = name.map_err(|error| NoAnswer::Unreached(error.to_string()))?;
        let connecting = TlsConnector::from(config.clone()).connect(name, stream);
        talk(connecting.await.map_err(failed)?, request).await
    }

    fn request(&self, question: Question<'_>) -> Result<Request<Full<Bytes>>, NoAnswer> {
        let mut request = Request::builder()
            .method(question.method)
            .uri(format!("{}{}", self.prefix, question.path))
            .header(HOST, &self.authority)
            .header(ACCEPT, "application/json")
            // Without a word of it any would do (RFC 9110, section 12.5.3).
            .header(ACCEPT_ENCODING, "identity")
            .header(USER_AGENT, concat!("pgwake/", env!("CARGO_PKG_VERSION")))
            .header(AUTHORIZATION, self.token.clone());
        if let Some(version) = question.version {
            request = request.header(IF_NONE_MATCH, version);
        }
        if question.body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let body = Full::from(question.body.unwrap_or_default());
        request
            .body(body)
            .map_err(|error| NoAnswer::Unreached(error.to_string()))
    }
}

async fn talk<S>(stream: S, request: Request<Full<Bytes>>) -> Result<Reply, NoAnswer>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let cut = |error: hyper::Error| NoAnswer::Cut(with_causes(&error));
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(cut)?;
    let answer = async {
        let (head, body) = sender.send_request(request).await.map_err(cut)?.into_parts();
        let version = head.headers.get(ETAG).and_then(|value| value.to_str().ok());
        let version = version.filter(|version| version.len() <= VERSION_BYTES_MAX);
        let body = Limited::new(body, BYTES_MAX).collect().await;
        let body = body.map_err(|error| match error.is::<LengthLimitError>() {
            true => NoAnswer::TooLong,
            false => NoAnswer::Cut(with_causes(&*error)),
        })?;
        Ok(Reply {
            status: head.status,
            version: version.map(str::to_owned),
            body: body.to_bytes().to_vec(),
        })
    };
    tokio::pin!(answer);
    tokio::select! { biased;
        answer = &mut answer => answer,
        // The connection is read by whoever polls it; where it ends first, the answer knows why.
        _ = connection => answer.await,
    }
}
