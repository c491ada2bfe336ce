//! Client certificates: who comes in with one, who does not, and what a stranger can see of it.

use std::{
    fs,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use rcgen::{DnType, DnValue, ExtendedKeyUsagePurpose, KeyUsagePurpose, SanType, date_time_ymd};
use rustls::{SignatureScheme, client::ResolvesClientCert, sign::CertifiedKey};
use tokio_postgres::error::DbError;
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{conversation, log_in, startup};
use crate::harness::{
    certificates::{Authority, ServerCertificate},
    gateway::{DOMAIN, Gateway, Setup},
    logs,
    postgres::{PASSWORD, Postgres, SUPERUSER, Version},
    raw::{Message, Raw},
    wait::until,
};

/// Writes the authority of a tenant's clients.
pub(super) fn clients_ca(setup: &Setup, name: &str, authority: &Authority) -> PathBuf {
    let folder = setup.path().join(name);
    fs::create_dir(&folder).unwrap();
    authority.write(&folder)
}

pub(super) fn plain(authority: &Authority, common_name: &str) -> ServerCertificate {
    authority.certify_client(common_name, Vec::new(), |_| ())
}

pub(super) async fn with_app() -> Postgres {
    let postgres = Postgres::start(Version::Debian).await;
    let sql = "create role app login password 'for pgwake alone'";
    postgres.connect().await.batch_execute(sql).await.unwrap();
    postgres
}

/// An endpoint of tenant `acme` with the role `app`.
pub(super) fn fixed(setup: Setup, endpoint: &str, postgres: &Postgres, keys: &str) -> Setup {
    setup.tenants(&format!(
        "[tenants.acme.endpoints.{endpoint}]\n\
         roles.app.server_password = \"for pgwake alone\"\n\
         compute = {{ kind = \"fixed\", address = \"{}\" }}\n{keys}\n",
        postgres.socket().display()
    ))
}

/// Logs in with a certificate, and a password where one is asked for.
async fn show(
    gateway: &Gateway,
    endpoint: &str,
    role: &str,
    shown: &ServerCertificate,
) -> Result<(), DbError> {
    let mut config = gateway.config(endpoint);
    config.user(role);
    let tls = MakeRustlsConnect::new(gateway.authority.client_config_with(shown));
    match config.connect(tls).await {
        Ok((client, connection)) => {
            tokio::spawn(connection);
            client.batch_execute("select 1").await.unwrap();
            Ok(())
        }
        Err(error) => Err(error.as_db_error().unwrap_or_else(|| panic!("{error}")).clone()),
    }
}

async fn code(gateway: &Gateway, endpoint: &str, role: &str, shown: &ServerCertificate) -> Option<String> {
    let error = show(gateway, endpoint, role, shown).await.err()?;
    Some(error.code().code().to_owned())
}

#[tokio::test]
async fn a_certificate_alone_logs_in_as_whom_it_names() {
    let postgres = with_app().await;
    let clients = Authority::new();
    for (number, name) in ["cn", "dns", "uri", "email"].into_iter().enumerate() {
        let setup = Setup::new();
        let ca = clients_ca(&setup, "clients", &clients);
        let endpoint = format!("crt-alone{number}");
        let keys = format!(
            "login = \"certificate\"\nclient_certificates = {{ ca = \"{}\", name = \"{name}\" }}\n\
             roles.app.certificate_names = [\"app\", \"app.acme.example\", \"spiffe://acme/app\", \"app@acme.example\"]",
            ca.display()
        );
        let gateway = fixed(setup, &endpoint, &postgres, &keys).start().await;
        let dns = SanType::DnsName("app.acme.example".try_into().unwrap());
        let uri = SanType::URI("spiffe://acme/app".try_into().unwrap());
        let email = SanType::Rfc822Name("app@acme.example".try_into().unwrap());
        let certificates = [
            clients.certify_client("app", Vec::new(), |_| ()),
            clients.certify_client("somebody", vec![dns], |_| ()),
            clients.certify_client("somebody", vec![uri], |_| ()),
            clients.certify_client("somebody", vec![email], |_| ()),
        ];
        for (other, shown) in certificates.iter().enumerate() {
            let expected = (other != number).then_some("28P01");
            let found = code(&gateway, &endpoint, "app", shown).await;
            assert_eq!(found.as_deref(), expected, "{name} {other}");
        }
        gateway.server.stop().await;
    }
}

#[tokio::test]
async fn a_certificate_that_is_not_right_is_a_wrong_password_and_wakes_nothing() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let setup = Setup::new();
    let ca = clients_ca(&setup, "ours", &ours);
    let their_ca = clients_ca(&setup, "theirs", &theirs);
    let keys = |ca: &PathBuf| {
        format!(
            "login = \"certificate\"\nclient_certificates.ca = \"{}\"\nroles.app = {{}}",
            ca.display()
        )
    };
    let setup = setup.listed("crt-wrong", &keys(&ca)).tenants(&format!(
        "[tenants.zoo.endpoints.crt-theirs]\n{}\ncompute = {{ kind = \"process\", data_dir = \"theirs-data\" }}\n",
        keys(&their_ca)
    ));
    let gateway = setup.start().await;
    let old = ours.certify_client("app", Vec::new(), |params| {
        params.not_after = date_time_ymd(2020, 1, 1);
    });
    let young = ours.certify_client("app", Vec::new(), |params| {
        params.not_before = date_time_ymd(2090, 1, 1);
        params.not_after = date_time_ymd(2091, 1, 1);
    });
    let servers = ours.certify_client("app", Vec::new(), |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    });
    let encrypts = ours.certify_client("app", Vec::new(), |params| {
        params.key_usages = vec![KeyUsagePurpose::KeyEncipherment];
    });
    // A second common name, which not every reader can read.
    let two_names = ours.certify_client("app", Vec::new(), |params| {
        let again = DnType::CustomDnType(vec![2, 5, 4, 3]);
        let other = DnValue::BmpString("somebody".try_into().unwrap());
        params.distinguished_name.push(again, other);
    });
    for (what, shown) in [
        ("with two names", two_names),
        ("another tenant's", plain(&theirs, "app")),
        ("a stranger's", plain(&Authority::new(), "app")),
        ("for another role", plain(&ours, "somebody")),
        ("for two roles", plain(&ours, "app,somebody")),
        ("expired", old),
        ("not valid yet", young),
        ("a server's", servers),
        ("one whose key may not sign", encrypts),
    ] {
        let error = show(&gateway, "crt-wrong", "app", &shown).await.unwrap_err();
        assert_eq!(error.code().code(), "28P01", "{what}");
        assert_eq!(
            error.message(),
            "password authentication failed for user \"app\"",
            "{what}"
        );
    }
    // No certificate, and one of the right authority for a role that does not exist.
    let error = log_in(&gateway, "crt-wrong", "app", "x").await.unwrap_err();
    assert_eq!(error.code().code(), "28P01");
    let found = code(&gateway, "crt-wrong", "nobody", &plain(&ours, "nobody")).await;
    assert_eq!(found.as_deref(), Some("28P01"));
    assert_eq!((gateway.wakes("crt-wrong"), gateway.wakes("crt-theirs")), (0, 0));
}

#[tokio::test]
async fn a_certificate_may_be_wanted_beside_a_password() {
    let postgres = with_app().await;
    let clients = Authority::new();
    for (endpoint, login) in [("crt-scram", "scram"), ("crt-clear", "password")] {
        let setup = Setup::new();
        let ca = clients_ca(&setup, "clients", &clients);
        let keys = format!(
            "login = \"{login}\"\nclient_certificates.ca = \"{}\"\nroles.app.verifier = \"{}\"",
            ca.display(),
            super::verifier(PASSWORD)
        );
        let gateway = fixed(setup, endpoint, &postgres, &keys).start().await;
        show(&gateway, endpoint, "app", &plain(&clients, "app"))
            .await
            .unwrap();
        let error = log_in(&gateway, endpoint, "app", PASSWORD).await.unwrap_err();
        assert_eq!(error.code().code(), "28P01", "without a certificate");
        let stranger = plain(&Authority::new(), "app");
        let found = code(&gateway, endpoint, "app", &stranger).await;
        assert_eq!(found.as_deref(), Some("28P01"), "with a stranger's certificate");
        let mut config = gateway.config(endpoint);
        config.user("app").password("wrong");
        let shown = plain(&clients, "app");
        let tls = MakeRustlsConnect::new(gateway.authority.client_config_with(&shown));
        let error = config.connect(tls).await.err().unwrap();
        assert_eq!(error.code().unwrap().code(), "28P01", "without the password");
        gateway.server.stop().await;
    }
}

/// What is said, without what differs by chance: nonces, salts and ids.
fn shape(heard: &[Message]) -> Vec<(u8, usize, String)> {
    let shape = |message: &Message| {
        let text = match message.tag {
            b'E' => message.fields()[&'M'].clone(),
            _ => String::new(),
        };
        (message.tag, message.body.len(), text)
    };
    heard.iter().map(shape).collect()
}

#[tokio::test]
async fn who_has_no_certificate_cannot_tell_that_one_is_wanted() {
    let postgres = with_app().await;
    let setup = Setup::new();
    let ca = clients_ca(&setup, "clients", &Authority::new());
    let keys = format!(
        "login = \"certificate\"\nclient_certificates.ca = \"{}\"",
        ca.display()
    );
    let gateway = fixed(setup, "crt-quiet", &postgres, &keys).start().await;
    let known = conversation(gateway.raw_to("crt-quiet").await, "app", "guess").await;
    for (endpoint, role) in [("crt-quiet", "ape"), ("crt-where", "app"), ("crt-where", "ape")] {
        let heard = conversation(gateway.raw_to(endpoint).await, role, "guess").await;
        let heard = format!("{:?}", shape(&heard)).replace("ape", "app");
        assert_eq!(heard, format!("{:?}", shape(&known)), "{endpoint} {role}");
    }
}

/// Shows nothing, and remembers how it was asked.
#[derive(Debug, Default)]
struct Asked(Mutex<Vec<(usize, usize)>>);

impl ResolvesClientCert for Asked {
    fn resolve(&self, authorities: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let asked = (authorities.len(), schemes.len());
        self.0.lock().unwrap().push(asked);
        None
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// How a handshake to each of these names asks for a certificate.
async fn asked(gateway: &Gateway, names: &[&str]) -> Vec<Vec<(usize, usize)>> {
    let mut all = Vec::new();
    for name in names {
        let asked = Arc::new(Asked::default());
        let config = gateway.authority.client_config_resolving(asked.clone());
        let client = Raw::tcp(gateway.address()).await;
        let mut client = client.request_tls(config, &format!("{name}.{DOMAIN}")).await;
        client.send(&startup("app")).await;
        client.message().await;
        all.push(asked.0.lock().unwrap().clone());
    }
    all
}

#[tokio::test]
async fn all_are_asked_alike_or_nobody_is() {
    let postgres = with_app().await;
    let setup = Setup::new();
    let ca = clients_ca(&setup, "clients", &Authority::new());
    let keys = format!(
        "client_certificates.ca = \"{}\"\nroles.app.verifier = \"{}\"",
        ca.display(),
        super::verifier("x")
    );
    let gateway = fixed(setup, "crt-asks", &postgres, &keys)
        .fixed("crt-does-not", &postgres, "")
        .start()
        .await;
    let names = ["crt-asks", "crt-does-not", "crt-nowhere"];
    let found = asked(&gateway, &names).await;
    assert_eq!(found[0].len(), 1, "{found:?}");
    assert_eq!(found[0][0].0, 0, "it names authorities");
    assert!(found.iter().all(|asked| *asked == found[0]), "{found:?}");
    // Who has none comes in where none is wanted.
    log_in(&gateway, "crt-does-not", SUPERUSER, PASSWORD)
        .await
        .unwrap();
    gateway.server.stop().await;

    let gateway = Setup::new().fixed("crt-none", &postgres, "").start().await;
    let found = asked(&gateway, &["crt-none", "crt-nowhere"]).await;
    assert!(found.iter().all(Vec::is_empty), "{found:?}");
}

#[tokio::test]
async fn another_authority_counts_as_soon_as_its_file_is_there() {
    let postgres = with_app().await;
    let (old, new) = (Authority::new(), Authority::new());
    let setup = Setup::new();
    let ca = clients_ca(&setup, "clients", &old);
    let keys = format!(
        "login = \"certificate\"\nclient_certificates.ca = \"{}\"",
        ca.display()
    );
    let gateway = fixed(setup, "crt-new", &postgres, &keys).start().await;
    let (by_old, by_new) = (plain(&old, "app"), plain(&new, "app"));
    show(&gateway, "crt-new", "app", &by_old).await.unwrap();
    fs::write(&ca, "no certificate").unwrap();
    let folder = gateway.path().join("new");
    fs::create_dir(&folder).unwrap();
    show(&gateway, "crt-new", "app", &by_old).await.unwrap();
    fs::rename(new.write(&folder), &ca).unwrap();
    until("the new authority counts", async || {
        show(&gateway, "crt-new", "app", &by_new).await.is_ok()
    })
    .await;
    let found = code(&gateway, "crt-new", "app", &by_old).await;
    assert_eq!(found.as_deref(), Some("28P01"));
    // Nobody was told of one that is gone.
    fs::remove_file(&ca).unwrap();
    until("it is told", async || {
        show(&gateway, "crt-new", "app", &by_new).await.unwrap();
        let told = |line: &logs::Line| line.field("error").contains("No such file");
        logs::with_text(&ca.display().to_string()).iter().any(told)
    })
    .await;
}
