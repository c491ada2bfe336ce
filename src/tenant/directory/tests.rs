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
