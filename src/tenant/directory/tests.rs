//! Names that clients give, and what they mean.

use std::path::Path;

use super::*;
use crate::config::load;

fn directory() -> Directory {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pgwake.toml");
    let text = r#"
        [listen]
        postgres = { address = "127.0.0.1:0", tls = "optional" }
        [routing]
        domains = ["db.localhost", "eu.db.localhost"]
        databases = { shop = "demo-main", "Shop Two" = "demo-preview-pooler" }
        [tenants.demo]
        roles_from = "postgres"
        [tenants.demo.endpoints.demo-main]
        hosts = ["pg.acme.example"]
        compute = { kind = "process", data_dir = "main" }
        [tenants.demo.endpoints.demo-preview]
        compute = { kind = "process", data_dir = "preview" }
    "#;
    std::fs::write(&file, text).unwrap();
    Directory::new(
        &load(Path::new(&file))
            .unwrap_or_else(|problems| panic!("{problems}"))
            .config,
    )
}

/// The endpoint's name as it was said, and whether it exists.
fn resolved(server_name: Option<&str>, option: Option<&str>) -> Result<(String, bool), ResolveError> {
    let said = Said {
        server_name,
        option,
        database: b"app",
        default: None,
    };
    directory()
        .resolve(said)
        .map(|resolved| (resolved.said, resolved.endpoint.is_some()))
}

fn found(name: &str) -> Result<(String, bool), ResolveError> {
    Ok((name.to_owned(), true))
}

#[test]
fn an_endpoint_is_named_by_the_first_label_or_a_host_or_the_options() {
    assert_eq!(resolved(Some("demo-main.db.localhost"), None), found("demo-main"));
    assert_eq!(
        resolved(Some("demo-main.eu.db.localhost"), None),
        found("demo-main")
    );
    assert_eq!(resolved(Some("pg.acme.example"), None), found("demo-main"));
    assert_eq!(resolved(None, Some("demo-preview")), found("demo-preview"));
    for names_none in ["db.localhost", "eu.db.localhost", "localhost", "other.example"] {
        assert_eq!(
            resolved(Some(names_none), None),
            Err(ResolveError::Nothing),
            "{names_none}"
        );
        assert_eq!(
            resolved(Some(names_none), Some("demo-main")),
            found("demo-main"),
            "{names_none}"
        );
    }
}

#[test]
fn a_name_that_nobody_has_is_unknown_and_no_error() {
    assert_eq!(
        resolved(Some("nobody.db.localhost"), None),
        Ok(("nobody".to_owned(), false))
    );
    assert_eq!(
        resolved(Some("a.demo-main.db.localhost"), None),
        Ok(("a.demo-main".to_owned(), false))
    );
}

#[test]
fn every_spelling_of_a_name_is_the_same_name() {
    // Otherwise a spelling that is not found has the mock login of a name that is: its salt tells who exists.
    assert_eq!(resolved(None, Some("DEMO-Main")), found("demo-main"));
    assert_eq!(
        resolved(Some("demo-main.db.localhost"), Some("DEMO-MAIN")),
        found("demo-main")
    );
}

#[test]
fn a_contradiction_repeats_only_what_was_said() {
    let Err(error) = resolved(Some("pg.acme.example"), Some("demo-preview")) else {
        panic!("resolved")
    };
    let detail = error.detail().unwrap();
    assert!(
        detail.contains("pg.acme.example") && !detail.contains("demo-main"),
        "{detail}"
    );
}

/// The endpoint's name as it was said, whether it exists, and the pooling that it asks for.
fn pooled(said: Said<'_>) -> (String, bool, Option<PoolMode>) {
    let resolved = directory().resolve(said).unwrap();
    (resolved.said, resolved.endpoint.is_some(), resolved.pooling)
}

#[test]
fn a_name_with_pooler_behind_it_asks_for_transaction_pooling_of_the_same_endpoint() {
    let transaction = Some(PoolMode::Transaction);
    for (server_name, option, pooling) in [
        (Some("demo-main.db.localhost"), None, None),
        (Some("pg.acme.example"), None, None),
        (Some("demo-main-pooler.db.localhost"), None, transaction),
        (Some("demo-main-pooler.eu.db.localhost"), None, transaction),
        (None, Some("demo-main"), None),
        (None, Some("Demo-Main-POOLER"), transaction),
        // Both name one endpoint: whoever asks for transaction pooling gets it.
        (
            Some("demo-main.db.localhost"),
            Some("demo-main-pooler"),
            transaction,
        ),
        (
            Some("demo-main-pooler.db.localhost"),
            Some("demo-main"),
            transaction,
        ),
        (Some("pg.acme.example"), Some("demo-main-pooler"), transaction),
    ] {
        let said = Said {
            database: b"app",
            server_name,
            option,
            default: None,
        };
        assert_eq!(pooled(said), ("demo-main".to_owned(), true, pooling), "{said:?}");
    }
}

#[test]
fn the_listeners_default_asks_for_what_its_name_says() {
    for pooling in [None, Some(PoolMode::Transaction)] {
        let default = DefaultEndpoint {
            name: EndpointName::parse("demo-main").unwrap(),
            pooling,
        };
        let said = Said {
            default: Some(&default),
            ..Said::default()
        };
        assert_eq!(pooled(said), ("demo-main".to_owned(), true, pooling));
    }
}

#[test]
fn an_unknown_name_with_pooler_behind_it_is_the_unknown_name() {
    // Both have one mock login, as both names of an endpoint that exists have one login.
    let said = |option| Said {
        option: Some(option),
        ..Said::default()
    };
    let transaction = Some(PoolMode::Transaction);
    assert_eq!(pooled(said("nobody")), ("nobody".to_owned(), false, None));
    assert_eq!(
        pooled(said("nobody-pooler")),
        ("nobody".to_owned(), false, transaction)
    );
    assert_eq!(
        pooled(said("demo-main-pooler-pooler")),
        ("demo-main-pooler".to_owned(), false, transaction)
    );
}

#[test]
fn a_contradiction_repeats_the_suffix_too() {
    let server_name = "demo-main.db.localhost".to_owned();
    let option = "demo-preview-pooler".to_owned();
    assert_eq!(
        resolved(Some(&server_name), Some(&option)),
        Err(ResolveError::Contradiction { server_name, option })
    );
}

#[test]
fn a_database_names_an_endpoint_where_nothing_else_does() {
    type Found = Result<(String, Option<PoolMode>), ResolveError>;
    let default = DefaultEndpoint {
        name: EndpointName::parse("demo-preview").unwrap(),
        pooling: None,
    };
    let of = |database: &'static [u8], server_name, option, default| -> Found {
        let said = Said {
            server_name,
            option,
            database,
            default,
        };
        let resolved = directory().resolve(said)?;
        Ok((resolved.said, resolved.pooling))
    };
    let found = |name: &str, pooling| -> Found { Ok((name.to_owned(), pooling)) };
    assert_eq!(of(b"shop", None, None, None), found("demo-main", None));
    let pooled = found("demo-preview", Some(PoolMode::Transaction));
    assert_eq!(of(b"Shop Two", None, None, None), pooled);
    // It goes before the listener's default, and behind all that names an endpoint.
    assert_eq!(of(b"shop", None, None, Some(&default)), found("demo-main", None));
    assert_eq!(
        of(b"app", None, None, Some(&default)),
        found("demo-preview", None)
    );
    let by_name = of(b"shop", Some("demo-other.db.localhost"), None, None);
    assert_eq!(by_name, found("demo-other", None));
    assert_eq!(
        of(b"shop", None, Some("demo-other"), None),
        found("demo-other", None)
    );
    // What is not listed is nothing, however it is spelled.
    for unlisted in [&b"app"[..], b"SHOP", b"shop ", b"", b"\xff", b"demo-main"] {
        assert_eq!(of_nothing(unlisted), ResolveError::Nothing, "{unlisted:?}");
    }
}

fn of_nothing(database: &[u8]) -> ResolveError {
    let said = Said {
        database,
        ..Said::default()
    };
    directory().resolve(said).unwrap_err()
}
