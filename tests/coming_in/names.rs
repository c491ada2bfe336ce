//! Which endpoint is meant: by server name, by `options`, by the listener; and what is said where nothing is.

use super::{access_of, host, libpq, nowhere, startup};
use crate::harness::{
    gateway::{DOMAIN, Gateway, Setup},
    postgres::{Postgres, Version},
    psql::psql,
    raw::Raw,
};

/// The endpoint that psql came to with this host name and these further parameters.
async fn reached(gateway: &Gateway, host: &str, application: &str, more: &str) -> String {
    let more = format!("application_name={application} {more}");
    psql(&libpq(gateway, host, &more))
        .arguments(&["-c", "select 1"])
        .run()
        .await
        .succeeded();
    access_of(application).await.field("endpoint").to_owned()
}

#[tokio::test]
async fn the_first_label_under_any_listed_domain_is_the_endpoint() {
    let postgres = Postgres::start(Version::Debian).await;
    let gateway = Setup::new()
        .domain("eu.pg.example")
        .certificate("local", &[&format!("*.{DOMAIN}")])
        .certificate("eu", &["*.eu.pg.example"])
        .certificate("acme", &["pg.acme.example"])
        .fixed("nam-one", &postgres, "hosts = [\"pg.acme.example\"]")
        .fixed("nam-two", &postgres, "")
        .start()
        .await;
    for (host, application, endpoint) in [
        ("nam-one.db.localhost", "nam-1", "nam-one"),
        ("nam-two.db.localhost", "nam-2", "nam-two"),
        ("nam-two.eu.pg.example", "nam-3", "nam-two"),
        ("NAM-Two.EU.pg.example", "nam-4", "nam-two"),
        ("pg.acme.example", "nam-5", "nam-one"),
    ] {
        let more = "channel_binding=require";
        assert_eq!(
            reached(&gateway, host, application, more).await,
            endpoint,
            "{host}"
        );
    }
}

#[tokio::test]
async fn options_name_the_endpoint_where_the_server_name_does_not() {
    let postgres = Postgres::start(Version::Debian).await;
    let gateway = Setup::new().fixed("nam-option", &postgres, "").start().await;
    for (number, options) in [
        "endpoint=nam-option",
        "endpoint%3Dnam-option",
        "-c endpoint=nam-option",
        "-cendpoint=nam-option",
        "-c geqo=off endpoint=nam-option -c work_mem=5MB",
    ]
    .into_iter()
    .enumerate()
    {
        for host in [DOMAIN, "localhost", "127.0.0.1"] {
            let application = format!("nam-option-{number}-{host}");
            let more = format!("options='{options}'");
            let endpoint = reached(&gateway, host, &application, &more).await;
            assert_eq!(endpoint, "nam-option", "{options} at {host}");
        }
    }
}

#[tokio::test]
async fn a_connection_string_as_serverless_providers_print_it_works() {
    let postgres = Postgres::start(Version::Debian).await;
    let gateway = Setup::new().fixed("nam-url", &postgres, "").start().await;
    let url = format!(
        "postgresql://postgres:the%20superuser's%20password@localhost:{}/postgres?sslmode=verify-full\
         &hostaddr=127.0.0.1&channel_binding=require&options=endpoint%3Dnam-url&sslrootcert={}",
        gateway.address().port(),
        gateway.path().join("ca.pem").display()
    );
    let said = psql(&url)
        .arguments(&["-c", "select 6 * 7"])
        .run()
        .await
        .succeeded();
    assert_eq!(said, "42");
}

#[tokio::test]
async fn what_else_stands_in_options_reaches_postgres() {
    let postgres = Postgres::start(Version::Debian).await;
    let gateway = Setup::new().fixed("nam-rest", &postgres, "").start().await;
    let settings =
        "select current_setting('geqo') || current_setting('my.word') || current_setting('work_mem')";
    for options in [
        r"-c geqo=off endpoint=nam-rest -c my.word=a\\ b -c work_mem=5MB",
        r"-c geqo=off -c my.word=a\\ b -c work_mem=5MB -c endpoint=nam-rest",
        r"endpoint%3Dnam-rest --geqo=off -cmy.word=a\\ b --work-mem=5MB",
    ] {
        let connection = libpq(&gateway, "localhost", &format!("options='{options}'"));
        let said = psql(&connection)
            .arguments(&["-c", settings])
            .run()
            .await
            .succeeded();
        assert_eq!(said, "offa b5MB", "{options}");
    }
    // Where the server name says it all, options are the server's alone.
    let connection = libpq(&gateway, &host("nam-rest"), "options='-c geqo=off'");
    let said = psql(&connection)
        .arguments(&["-c", "show geqo"])
        .run()
        .await
        .succeeded();
    assert_eq!(said, "off");
}

#[tokio::test]
async fn server_name_and_option_may_agree_and_must_not_differ() {
    let gateway = Setup::new().tenants(&nowhere("nam-agree")).start().await;
    let mut client = gateway.raw_to("nam-agree").await;
    client.send(&startup(&[("options", "endpoint=nam-agree")])).await;
    client.message().await.authentication(10);

    let mut client = gateway.raw_to("nam-agree").await;
    client.send(&startup(&[("options", "endpoint=nam-other")])).await;
    let refusal = client.message().await.fields();
    client.closed().await;
    assert_eq!((&*refusal[&'S'], &*refusal[&'C']), ("FATAL", "08004"));
    assert!(refusal[&'M'].contains("different"), "{refusal:?}");
    for name in ["nam-agree", "nam-other"] {
        assert!(refusal[&'D'].contains(name), "{refusal:?}");
    }
    assert!(refusal.contains_key(&'H'), "{refusal:?}");
}

#[tokio::test]
async fn naming_nothing_is_an_error_with_a_hint() {
    let gateway = Setup::new().tenants(&nowhere("nam-nothing")).start().await;
    for name in [DOMAIN, "localhost", "127.0.0.1"] {
        for options in ["", "-c geqo=off"] {
            let mut client = gateway.raw(name).await;
            client.send(&startup(&[("options", options)])).await;
            let refusal = client.message().await.fields();
            client.closed().await;
            assert_eq!((&*refusal[&'S'], &*refusal[&'C']), ("FATAL", "08004"), "{name}");
            assert!(refusal[&'H'].contains("options=endpoint="), "{refusal:?}");
            assert!(refusal[&'D'].contains("session"), "{refusal:?}");
        }
    }
}

#[tokio::test]
async fn the_listeners_default_serves_who_names_nothing() {
    let postgres = Postgres::start(Version::Debian).await;
    let gateway = Setup::new()
        .listen(r#"{ address = "127.0.0.1:0", tls = "optional", default_endpoint = "nam-default" }"#)
        .fixed("nam-default", &postgres, "")
        .fixed("nam-beside", &postgres, "")
        .start()
        .await;
    for (number, (host, more, endpoint)) in [
        ("localhost", "", "nam-default"),
        ("localhost", "sslmode=disable", "nam-default"),
        ("localhost", "options=endpoint=nam-beside", "nam-beside"),
        ("nam-beside.db.localhost", "", "nam-beside"),
    ]
    .into_iter()
    .enumerate()
    {
        let application = format!("nam-default-{number}");
        assert_eq!(reached(&gateway, host, &application, more).await, endpoint);
    }
}

#[tokio::test]
async fn names_that_nobody_has_go_on_to_a_login() {
    let gateway = Setup::new().tenants(&nowhere("nam-known")).start().await;
    for options in ["endpoint=nam-unknown", "endpoint=", "endpoint=No_Such Name"] {
        let config = gateway.authority.client_config(&[]);
        let mut client = Raw::tcp(gateway.address())
            .await
            .request_tls(config, "localhost")
            .await;
        client.send(&startup(&[("options", options)])).await;
        client.message().await.authentication(10);
    }
    let mut client = gateway.raw_to("nam-unknown").await;
    client.send(&startup(&[])).await;
    client.message().await.authentication(10);
}

#[tokio::test]
async fn a_database_leads_to_its_endpoint_where_nothing_else_names_one() {
    let postgres = Postgres::start(Version::Debian).await;
    let setup = Setup::new()
        .fixed("nam-database", &postgres, "")
        .fixed("nam-other", &postgres, "")
        .tenants("[routing.databases]\npostgres = \"nam-database-pooler\"");
    let file = setup.write();
    let gateway = setup.start().await;
    gateway.server.reloader().set_file(&file);
    // The certificate is for localhost, too, which names no endpoint.
    let lead = async |application: &str, more: &str| reached(&gateway, "localhost", application, more).await;
    assert_eq!(lead("nam-db-1", "").await, "nam-database");
    assert_eq!(access_of("nam-db-1").await.field("pooling"), "transaction");
    assert_eq!(lead("nam-db-2", "options=endpoint=nam-other").await, "nam-other");
    let named = reached(&gateway, &host("nam-other"), "nam-db-3", "").await;
    assert_eq!(named, "nam-other");

    // What is not listed is answered as before there was a list, and as where there is none.
    let refused = async |more: &str| {
        let asked = psql(&libpq(&gateway, "localhost", more));
        asked.arguments(&["-c", "select 1"]).run().await.failed()
    };
    for unlisted in ["dbname=template1", "dbname=POSTGRES", "dbname=nam-database"] {
        let said = refused(unlisted).await;
        assert!(said.contains("no endpoint is named"), "{said}");
    }
    // A list that is read again leads elsewhere.
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(
        &file,
        text.replace("postgres = \"nam-database-pooler\"", "template1 = \"nam-other\""),
    )
    .unwrap();
    let changes = gateway.server.reload().await.unwrap().to_string();
    assert!(changes.contains("routing.databases"), "{changes}");
    assert_eq!(lead("nam-db-4", "dbname=template1").await, "nam-other");
    assert!(refused("dbname=postgres").await.contains("no endpoint is named"));
}
