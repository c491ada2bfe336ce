//! Client certificates as libpq shows them: from files, to every server that asks.

use rcgen::{CustomExtension, date_time_ymd};

use super::client_certificates::{clients_ca, fixed, plain, with_app};
use crate::harness::{
    certificates::{Authority, ServerCertificate},
    gateway::{Gateway, Setup},
    logs,
    postgres::PASSWORD,
    psql::psql,
    wait::until,
};

/// A line for libpq that has these files, too.
fn shown_by_libpq(gateway: &Gateway, endpoint: &str, shown: &ServerCertificate) -> String {
    let paths = shown.write(gateway.path(), "client");
    format!(
        "{} sslcert={} sslkey={}",
        gateway
            .connection_string(endpoint)
            .replace("user=postgres", "user=app"),
        paths.certificate.display(),
        paths.key.display()
    )
}

/// The keys of an endpoint where a certificate of these authorities lets in.
fn by_certificate(setup: &Setup, clients: &Authority) -> String {
    let ca = clients_ca(setup, "clients", clients);
    let ca = ca.display();
    format!("login = \"certificate\"\nclient_certificates.ca = \"{ca}\"")
}

#[tokio::test]
async fn psql_comes_in_with_its_certificate_and_no_password() {
    let postgres = with_app().await;
    let clients = Authority::new();
    let setup = Setup::new();
    let keys = by_certificate(&setup, &clients);
    let gateway = fixed(setup, "crt-psql", &postgres, &keys).start().await;
    let connection = shown_by_libpq(&gateway, "crt-psql", &plain(&clients, "app"));
    for pooling in ["session", "transaction"] {
        let output = psql(&format!("{connection} options='-c pgwake.pool={pooling}'"))
            .arguments(&["-c", "select session_user"])
            .run()
            .await;
        assert_eq!(output.succeeded().trim(), "app");
    }
}

/// The log said that the client had left, and nobody could know why: whoever has a certificate has no password to send.
#[tokio::test]
async fn the_log_says_what_is_wrong_with_a_certificate_also_where_no_password_comes() {
    const ENDPOINT: &str = "crt-told";
    let clients = Authority::new();
    let setup = Setup::new();
    let keys = by_certificate(&setup, &clients) + "\nroles.app = {}";
    let gateway = setup.listed(ENDPOINT, &keys).start().await;
    let old = clients.certify_client("app", Vec::new(), |params| {
        params.not_after = date_time_ymd(2020, 1, 1);
    });

    let connection = shown_by_libpq(&gateway, ENDPOINT, &old);
    let output = psql(&format!("{connection} password=''"))
        .arguments(&["-w", "-c", "select 1"])
        .run()
        .await;

    assert!(output.failed().contains("no password supplied"));
    until("it is told", async || {
        let lines = logs::of_endpoint(ENDPOINT);
        let told = |line: &logs::Line| line.field("outcome").contains("certificate has expired");
        lines.iter().any(told)
    })
    .await;
}

/// Who has such a one in libpq's folder shows it to every server that asks, and could not come in anywhere as soon as
/// one endpoint wanted certificates.
#[tokio::test]
async fn a_certificate_that_cannot_be_read_keeps_nobody_out_where_none_is_wanted() {
    let postgres = with_app().await;
    let clients = Authority::new();
    let setup = Setup::new();
    let wanted = by_certificate(&setup, &clients);
    let verifier = super::verifier(PASSWORD);
    let setup = fixed(
        setup,
        "crt-odd",
        &postgres,
        &format!("roles.app.verifier = \"{verifier}\""),
    );
    let gateway = fixed(setup, "crt-odd-wanted", &postgres, &wanted).start().await;
    let odd = clients.certify_client("app", Vec::new(), |params| {
        let mut unknown = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99_999, 1], vec![5, 0]);
        unknown.set_criticality(true);
        params.custom_extensions.push(unknown);
    });
    let of = |endpoint: &str| {
        psql(&shown_by_libpq(&gateway, endpoint, &odd))
            .arguments(&["-c", "select session_user"])
            .run()
    };

    assert_eq!(of("crt-odd").await.succeeded().trim(), "app");
    assert!(
        of("crt-odd-wanted")
            .await
            .failed()
            .contains("password authentication failed")
    );
}
