//! Gets the bytes of a key set: from a file, or by one GET over verified TLS.
//!
//! No redirect is followed, nothing is asked twice, and no more is read than a set may have. The caller bounds the
//! time. Called by `source`.

use std::{fs, io::Read, path::Path, sync::Arc};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::{
    Request, Response, StatusCode, Uri,
    client::conn::http1,
    header::{ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, HOST, HeaderName, LOCATION, USER_AGENT},
};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::{net::TcpStream, task::spawn_blocking};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::config::TokenKeys;
use crate::error::with_causes;
use crate::tls::{reach, web_client};

/// Longest key set.
const BYTES_MAX: usize = 256 * 1024;
/// Longest head of an answer.
const HEAD_BYTES_MAX: usize = 32 * 1024;
/// Most lines of it.
const HEADERS_MAX: usize = 64;

/// The bytes; `Err`: why not, in one sentence. Cancel safe: it is given up.
pub(super) async fn fetch(from: &TokenKeys) -> Result<Vec<u8>, String> {
    match from {
        TokenKeys::File(path) => {
            let path = path.clone();
            let read = spawn_blocking(move || read(&path)).await;
            read.unwrap_or_else(|error| Err(error.to_string()))
        }
        TokenKeys::Url { url, ca } => {
            let ca = ca.clone();
            let config = spawn_blocking(move || web_client(ca.as_deref())).await;
            let config = config.map_err(|error| error.to_string())?;
            let config = config.map_err(|error| error.to_string())?;
            let url: Uri = url.parse().map_err(|error| format!("{url} is no URL: {error}"))?;
            get(&url, config).await
        }
    }
}

/// A file's bytes; `Err`: why not.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, String> {
    let unreadable = |error: std::io::Error| format!("{} cannot be read: {error}", path.display());
    // A pipe would be waited for by each reading, and each takes a thread for that.
    if !fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(format!("{} is not a regular file", path.display()));
    }
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(unreadable)?;
    file.take(BYTES_MAX as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() > BYTES_MAX {
        return Err(format!("{} is longer than 256 KiB", path.display()));
    }
    Ok(bytes)
}

async fn get(url: &Uri, config: Arc<ClientConfig>) -> Result<Vec<u8>, String> {
    let (Some(host), Some(authority)) = (url.host(), url.authority()) else {
        return Err("the URL names no host".to_owned());
    };
    let stream = connect(host, url.port_u16().unwrap_or(443), config).await?;
    let path = url.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::get(path)
        .header(HOST, authority.as_str())
        .header(ACCEPT, "application/json")
        // Without a word of it any would do (RFC 9110, section 12.5.3).
        .header(ACCEPT_ENCODING, "identity")
        .header(USER_AGENT, concat!("pgwake/", env!("CARGO_PKG_VERSION")))
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| with_causes(&error))?;
    let answer = async {
        let sent = sender.send_request(request).await;
        let response = sent.map_err(|error| with_causes(&error))?;
        check_head(&response)?;
        let body = Limited::new(response.into_body(), BYTES_MAX).collect().await;
        let body = body.map_err(|error| match error.is::<LengthLimitError>() {
            true => "the answer is longer than 256 KiB".to_owned(),
            false => with_causes(&*error),
        })?;
        Ok(body.to_bytes().to_vec())
    };
    tokio::pin!(answer);
    tokio::select! { biased;
        answer = &mut answer => answer,
        // The connection is read by whoever polls it; where it ends first, the answer knows why.
        _ = connection => answer.await,
    }
}

/// Whether what follows is what was asked for; `Err`: what it is instead.
fn check_head<B>(response: &Response<B>) -> Result<(), String> {
    let said = |name: HeaderName| response.headers().get(name).and_then(|value| value.to_str().ok());
    let status = response.status();
    if status.is_redirection()
        && let Some(location) = said(LOCATION)
    {
        // What follows a `?` may be another each time, and would be told each time.
        let location = location.split('?').next().unwrap_or_default();
        return Err(format!(
            "the server answered {status}, and no redirect is followed: it leads to {location}"
        ));
    }
    if status != StatusCode::OK {
        return Err(format!("the server answered {status}"));
    }
    match said(CONTENT_ENCODING) {
        None | Some("identity") => Ok(()),
        Some(encoding) => Err(format!(
            "the server sent it compressed ({encoding}), which it was not asked for and is not read: have it \
             answer `Accept-Encoding: identity` as it is"
        )),
    }
}

async fn connect(host: &str, port: u16, config: Arc<ClientConfig>) -> Result<TlsStream<TcpStream>, String> {
    // An IPv6 address stands in brackets in a URL, and nowhere else.
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let failed = |error: std::io::Error| format!("cannot connect to {host}:{port}: {error}");
    let stream = reach(&host, port).await.map_err(failed)?;
    let name = ServerName::try_from(host.clone()).map_err(|error| format!("{host}: {error}"))?;
    let connecting = TlsConnector::from(config).connect(name, stream);
    connecting.await.map_err(failed)
}
