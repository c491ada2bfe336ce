//! Both forms, with what people write into them.

use super::*;

fn asked(text: &str) -> Result<Asked, String> {
    let uri = text.strip_prefix("postgresql://");
    let said = uri.map_or_else(|| of_pairs(text), of_uri)?;
    Asked::of(said, &|_| None)
}

#[test]
fn both_forms_say_the_same() {
    for text in [
        "host=acme-main.db.example.com port=6432 user=app password='p\\'w d' dbname=shop sslmode=verify-full \
         sslrootcert=ca.pem channel_binding=require options='endpoint=acme-main -c geqo=off' connect_timeout=7",
        "postgresql://app:p'w%20d@acme-main.db.example.com:6432/shop?sslmode=verify-full&sslrootcert=ca.pem\
         &channel_binding=require&options=endpoint%3Dacme-main%20-c%20geqo%3Doff&connect_timeout=7",
    ] {
        let asked = asked(text).unwrap();
        assert_eq!((&*asked.host, asked.port), ("acme-main.db.example.com", 6432));
        assert_eq!((&*asked.user, &*asked.dbname), ("app", "shop"));
        assert_eq!(asked.password.as_ref().unwrap().reveal(), "p'w d");
        assert_eq!(asked.ssl_mode, SslMode::VerifyFull);
        assert_eq!(asked.roots, Roots::File("ca.pem".into()));
        assert_eq!(asked.binding, Binding::Require);
        assert_eq!(asked.options.as_deref(), Some("endpoint=acme-main -c geqo=off"));
        assert_eq!(asked.connect_timeout, Some(Duration::from_secs(7)));
        assert!(asked.asides.is_empty(), "{:?}", asked.asides);
    }
}

#[test]
fn what_is_not_said_is_as_libpq_has_it() {
    let asked = asked("host = 127.0.0.1 user = app").unwrap();
    assert_eq!((asked.port, &*asked.dbname), (5432, "app"));
    assert_eq!(
        (asked.ssl_mode, asked.binding),
        (SslMode::Prefer, Binding::Prefer)
    );
    assert_eq!(asked.roots, Roots::None);
}

#[test]
fn addresses_and_sockets_are_told_apart() {
    let six = asked("postgresql://app@[::1]:7/x").unwrap();
    assert_eq!((&*six.host, six.port), ("::1", 7));
    let socket = asked("postgresql://app@%2Frun%2Fpgwake/x").unwrap();
    assert!(socket.is_local() && socket.host == "/run/pgwake");
    let fixed = asked("host=a.example hostaddr=192.0.2.1 user=app").unwrap();
    assert_eq!(fixed.hostaddr, Some("192.0.2.1".parse().unwrap()));
}

#[test]
fn roots_make_require_a_check_as_in_libpq() {
    let checked = asked("host=a user=b sslmode=require sslrootcert=ca.pem").unwrap();
    assert_eq!(checked.ssl_mode, SslMode::VerifyCa);
    let system = asked("host=a user=b sslrootcert=system").unwrap();
    assert_eq!(
        (system.ssl_mode, system.roots),
        (SslMode::VerifyFull, Roots::System)
    );
}

#[test]
fn what_is_not_looked_at_is_named() {
    let asked = asked("host=a,b port=1,2 user=c sslcrl=x keepalives=1").unwrap();
    assert_eq!((&*asked.host, asked.port), ("a", 1));
    assert_eq!(asked.asides.len(), 3, "{:?}", asked.asides);
    assert!(asked.asides[2].contains("sslcrl"), "{:?}", asked.asides);
}

#[test]
fn mistakes_are_told_without_what_may_be_a_secret() {
    for (text, why) in [
        ("host=a", "user="),
        ("user=a", "host="),
        ("host=a user=b password='sesame", "password has no second quote"),
        ("host=a user=b sesame", "no \"=\""),
        ("host=a user=b sslmode=sesame", "sslmode is"),
        ("host=a user=b port=sesame", "port is no number"),
        ("host=a user=b hostaddr=sesame", "hostaddr is no"),
        ("host=a user=b sslmod=sesame", "\"sslmod\""),
        ("host=a user=b sslrootcert=system sslmode=require", "verify-full"),
        ("postgresql://app:sesame%@a/x", "password has a wrong %-escape"),
    ] {
        let error = asked(text).unwrap_err();
        assert!(
            error.contains(why) && !error.contains("sesame"),
            "{text}: {error}"
        );
    }
}

#[test]
fn a_service_comes_before_the_environment_and_a_password_from_a_file_last() {
    use std::os::unix::fs::PermissionsExt;

    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().display().to_string();
    let file = |name: &str, text: &str| {
        let file = folder.path().join(name);
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    };
    file(
        ".pg_service.conf",
        "[shop]\nhost=db.example\nport=6432\ndbname=shop\nsslcertmode=disable\n",
    );
    file(".pgpass", "db.example:6432:shop:app:sesame\n");
    let environment = |name: &str| match name {
        "HOME" => Some(home.clone()),
        "PGSERVICE" => Some("shop".to_owned()),
        "PGPORT" => Some("1".to_owned()),
        "PGUSER" => Some("app".to_owned()),
        _ => None,
    };
    let asked = Asked::of(of_pairs("").unwrap(), &environment).unwrap();
    assert_eq!(
        (&*asked.host, asked.port, &*asked.user),
        ("db.example", 6432, "app")
    );
    assert_eq!(asked.password.as_ref().unwrap().reveal(), "sesame");
    assert_eq!(asked.shown, None);
    assert_eq!(asked.asides.len(), 2, "{:?}", asked.asides);
    assert!(!format!("{:?}", asked.asides).contains("sesame"));

    let said = of_pairs("password=other port=7 sslcertmode=allow").unwrap();
    let asked = Asked::of(said, &environment).unwrap();
    assert_eq!((asked.port, asked.password.unwrap().reveal()), (7, "other"));
    let key = asked.shown.unwrap().key;
    assert_eq!(key, folder.path().join(".postgresql/postgresql.key"));
}
