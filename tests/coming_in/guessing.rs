//! Guesses at a password that are made at once, behind logins that all began before the first of them was wrong.

use postgres_protocol::{
    authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256},
    message::frontend,
};

use super::nowhere;
use crate::harness::{
    gateway::{Gateway, Setup},
    postgres::PASSWORD,
    raw::{self, Raw},
};

/// Lets a role be wrong three times; the fourth locks it out.
const RULES: &str = "[gate]\nfailures_max = 3\nlockout_min = \"1h\"\nlockout_max = \"1h\"\n";

/// A client that has been asked for its proof.
struct Asked {
    client: Raw,
    answer: Vec<u8>,
}

impl Asked {
    /// Goes as far as pgwake's last question, whichever way its endpoint lets clients log in.
    async fn new(gateway: &Gateway, endpoint: &str, password: &str) -> Self {
        let mut client = gateway.raw_to(endpoint).await;
        let parameters = [("user", "app"), ("database", "postgres")];
        client.send(&raw::startup(raw::PROTOCOL_3_0, &parameters)).await;
        let mut answer = bytes::BytesMut::new();
        if client.message().await.body.starts_with(&[0, 0, 0, 3]) {
            frontend::password_message(password.as_bytes(), &mut answer).unwrap();
        } else {
            let mut scram = ScramSha256::new(password.as_bytes(), ChannelBinding::unsupported());
            let initial = |bytes: &mut _| {
                frontend::sasl_initial_response(SCRAM_SHA_256, scram.message(), bytes).unwrap();
            };
            client.send_with(initial).await;
            scram.update(client.message().await.authentication(11)).unwrap();
            frontend::sasl_response(scram.message(), &mut answer).unwrap();
        }
        Self {
            client,
            answer: answer.to_vec(),
        }
    }

    /// The SQLSTATE that this proof is refused with.
    async fn answers(mut self) -> String {
        self.client.send(&self.answer).await;
        self.client.message().await.sqlstate()
    }
}

/// The lock-out was looked at as a login began: three hundred that had begun were told of each guess whether it was right.
async fn guesses_at_once(gateway: &Gateway, endpoint: &str) {
    let mut asked = Vec::new();
    for password in ["a", "b", "c", "d", "e", "f", PASSWORD] {
        asked.push(Asked::new(gateway, endpoint, password).await);
    }
    let mut heard = Vec::new();
    for one in asked {
        heard.push(one.answers().await);
    }
    let (looked_at, not_looked_at) = heard.split_at(4);
    assert_eq!(looked_at, ["28P01"; 4], "{endpoint}");
    assert_eq!(not_looked_at, ["53400"; 3], "{endpoint}");
    // Having been right has opened nothing.
    let mut client = gateway.raw_to(endpoint).await;
    let parameters = [("user", "app"), ("database", "postgres")];
    client.send(&raw::startup(raw::PROTOCOL_3_0, &parameters)).await;
    assert_eq!(client.message().await.sqlstate(), "53400", "{endpoint}");
}

#[tokio::test]
async fn guesses_at_once_are_told_no_more_than_one_after_the_other() {
    let setup = Setup::new().tenants(RULES).tenants(&nowhere("guess-scram"));
    let gateway = setup.start().await;
    guesses_at_once(&gateway, "guess-scram").await;
    guesses_at_once(&gateway, "guess-no-such").await;
    gateway.server.stop().await;
}

#[tokio::test]
async fn passwords_in_clear_at_once_are_told_no_more_than_one_after_the_other() {
    let setup = Setup::new().tenants(RULES);
    let setup = setup.tenants("[defaults]\nlogin = \"password\"\n");
    let gateway = setup.tenants(&nowhere("guess-clear")).start().await;
    guesses_at_once(&gateway, "guess-clear").await;
    guesses_at_once(&gateway, "guess-no-such").await;
    gateway.server.stop().await;
}
