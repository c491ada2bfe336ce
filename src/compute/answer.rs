//! Whether a server answers where it should be, for those that are said to be ready before they take logins.
//!
//! One question that every Postgres answers at once, also while it starts: whether it speaks TLS. No login, and no
//! secret. What the answer is does not matter here. Called by `command` and `controlled`.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{sleep, timeout},
};

use super::Address;
use crate::config::ServerTls;
use crate::tls::{OwnAddresses, SSL_REQUEST, SocketSettings, Stream, dial};

/// One question and its answer.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// Between two questions, at first and at last: each costs a server that starts a process.
const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_millis(500);
/// Of a connection that lives for one question.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// Returns once it answers; whoever waits has the deadline. Cancel safe.
pub(super) async fn answered(address: &Address) {
    let mut pause = PAUSE_MIN;
    while !timeout(ANSWER_MAX, answers(address)).await.unwrap_or(false) {
        sleep(pause).await;
        pause = (2 * pause).min(PAUSE_MAX);
    }
}

/// Whether it answers now.
async fn answers(address: &Address) -> bool {
    let sockets = SocketSettings {
        keepalive: SILENCE_MAX,
        user_timeout: SILENCE_MAX,
        own: OwnAddresses::default(),
    };
    let mut stream = match dial(&address.server, &address.tls, &sockets).await {
        Ok(dialed) => dialed.stream,
        // Something that answers, if not as it should: that is told to whoever logs in.
        Err(error) => return !error.server_is_absent(),
    };
    if address.tls != ServerTls::Disable {
        return true;
    }
    ask(&mut stream).await.is_ok()
}

async fn ask(stream: &mut Stream) -> std::io::Result<u8> {
    stream.write_all(&SSL_REQUEST).await?;
    stream.read_u8().await
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::config::ServerAddress;

    fn address(port: u16) -> Address {
        Address {
            server: ServerAddress::Tcp {
                host: "127.0.0.1".into(),
                port,
            },
            tls: ServerTls::Disable,
            server_uid: None,
        }
    }

    #[tokio::test]
    async fn who_takes_connections_and_says_nothing_has_not_answered() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = address(listener.local_addr().unwrap().port());
        let mut asked = 0;
        let server = async {
            // As the port of a container does whose server does not listen yet.
            for _ in 0..3 {
                drop(listener.accept().await.unwrap());
                asked += 1;
            }
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 8];
            stream.read_exact(&mut request).await.unwrap();
            assert_eq!(request, SSL_REQUEST);
            stream.write_all(b"N").await.unwrap();
        };
        tokio::join!(answered(&address), server);
        assert_eq!(asked, 3);
    }
}
