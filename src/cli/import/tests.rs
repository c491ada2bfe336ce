//! What becomes of PgBouncer's files.

use std::fs;

use super::*;
use crate::ids::Verifier;

const VERIFIER: &str = "SCRAM-SHA-256$4096:qIgyEAy25hKTt5/JOoBV/Q==$rfUBUJFPIf58MtTC/ZLCBMguRI023mWlzgmEg9jLvJc=:Fr+hGH/ViCPzZmk1uXWXQ79dbY4fh7qZLNQ8Qn3PQv8=";

/// What is printed for these two files.
fn import(ini: &str, userlist: &str) -> Result<String, String> {
    let folder = tempfile::tempdir().unwrap();
    let [ini_file, userlist_file] = ["pgbouncer.ini", "userlist.txt"].map(|name| folder.path().join(name));
    fs::write(&ini_file, ini).unwrap();
    fs::write(&userlist_file, userlist).unwrap();
    let arguments = ImportArguments {
        ini: ini_file,
        userlist: Some(userlist_file),
    };
    let mut out = Vec::new();
    run(&arguments, &mut out).map_err(|error| error.to_string())?;
    Ok(String::from_utf8(out).unwrap())
}

/// The same as it is understood: it has to be a right configuration.
fn config(printed: &str) -> crate::config::Config {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pgwake.toml");
    fs::write(&file, printed).unwrap();
    let loaded = crate::config::load(&file);
    loaded
        .unwrap_or_else(|problems| panic!("{problems}\n{printed}"))
        .config
}

#[test]
fn databases_roles_sizes_and_times_carry_over() {
    let printed = import(
        "[databases]\n\
         shop = host=10.0.0.5 port=5433 pool_size=7 pool_mode=session max_db_connections=9\n\
         \"my db\" = host=/run/pg\n\
         alias = host=127.0.0.1 dbname=real_name\n\
         * = host=db.example.com\n\
         [pgbouncer]\n\
         listen_addr = 127.0.0.1, ::1\nlisten_port = 7432\nunix_socket_dir = /run/pgbouncer\n\
         pool_mode = transaction\ndefault_pool_size = 30\nquery_wait_timeout = 0.5\nmax_client_conn = 777\n\
         idle_transaction_timeout = 90\nclient_login_timeout = 20\nserver_tls_sslmode = require\n\
         admin_users = boss\nstats_users = boss, watcher\n",
        &format!("\"app\" \"{VERIFIER}\"\n\"boss\" \"{VERIFIER}\"\n\"o\"\"hara\" \"{VERIFIER}\"\n"),
    )
    .unwrap();
    let config = config(&printed);
    let listen: Vec<String> = config
        .listen
        .iter()
        .map(|listen| format!("{:?}", listen.address))
        .collect();
    assert_eq!(
        listen,
        [
            "Tcp(127.0.0.1:7432)",
            "Tcp([::1]:7432)",
            "Unix(\"/run/pgbouncer/.s.PGSQL.7432\")"
        ]
    );
    assert!(
        config
            .listen
            .iter()
            .all(|listen| listen.default_endpoint.as_ref().unwrap().name.as_str() == "fallback")
    );
    let routed: Vec<_> = config
        .databases
        .iter()
        .map(|(name, endpoint)| format!("{name}: {endpoint}"))
        .collect();
    assert_eq!(routed, ["my db: my-db", "real_name: alias", "shop: shop"]);
    let shop = config.endpoint("shop").unwrap();
    assert_eq!((shop.pool.size, shop.pool.mode.as_str()), (7, "session"));
    assert_eq!(shop.quotas.per_endpoint.server_sessions_max, Some(9));
    assert_eq!(shop.roles.keys().collect::<Vec<_>>(), ["app", "boss", "o\"hara"]);
    let alias = config.endpoint("alias").unwrap();
    assert_eq!((alias.pool.size, alias.pool.mode.as_str()), (30, "transaction"));
    assert_eq!(alias.pool.wait_timeout.as_millis(), 500);
    assert_eq!(
        alias.quotas.per_role.idle_in_transaction_time.unwrap().as_secs(),
        90
    );
    assert_eq!(
        (config.limits.clients_max, config.limits.login_timeout.as_secs()),
        (777, 20)
    );
    assert_eq!(config.admin.roles.keys().collect::<Vec<_>>(), ["boss"]);
    for said in [
        "alias",
        "name real_name in place of alias",
        "stats_users = watcher",
    ] {
        assert!(printed.contains(said), "no {said:?} in\n{printed}");
    }
}

#[test]
fn every_kind_of_secret_is_told_what_it_is_good_for() {
    let printed = import(
        "[databases]\nshop = host=127.0.0.1\n[pgbouncer]\nlisten_addr = 127.0.0.1\n",
        &format!("; a comment\n\"scram\" \"{VERIFIER}\"\n\"md5\" \"md500112233445566778899aabbccddeeff\"\n\"plain\" \"a \"\"b\\c\"\n\"none\" \"\"\n"),
    )
    .unwrap();
    let config = config(&printed);
    let roles = &config.endpoint("shop").unwrap().roles;
    // With the MD5 secret all would have to send their passwords over TLS, and there is none.
    assert_eq!(roles.keys().collect::<Vec<_>>(), ["plain", "scram"]);
    assert!(printed.contains("#[tenants.pgbouncer.roles.md5]"), "{printed}");
    assert_eq!(
        roles["plain"].server_password.as_ref().unwrap().reveal(),
        "a \"b\\c"
    );
    assert!(roles["scram"].server_password.is_none());
    for said in ["over TLS", "A password in clear", "none has no secret"] {
        assert!(printed.contains(said), "no {said:?} in\n{printed}");
    }
}

#[test]
fn md5_secrets_are_taken_where_they_keep_nobody_out() {
    let printed = import(
        "[databases]\nshop = host=127.0.0.1\n[pgbouncer]\nlisten_addr = 127.0.0.1\n",
        "\"one\" \"md500112233445566778899aabbccddeeff\"\n",
    )
    .unwrap();
    let config = config(&printed);
    let roles = &config.endpoint("shop").unwrap().roles;
    assert!(
        matches!(roles["one"].verifier, Some(Verifier::Md5(_))),
        "{printed}"
    );
    let tls = import(
        "[pgbouncer]\nclient_tls_cert_file = /a.pem\nclient_tls_key_file = /a.key\nclient_tls_sslmode = require\n\
         listen_addr = 127.0.0.1\n",
        &format!("\"one\" \"md500112233445566778899aabbccddeeff\"\n\"two\" \"{VERIFIER}\"\n"),
    )
    .unwrap();
    assert!(tls.contains("\n[tenants.pgbouncer.roles.one]\n"), "{tls}");
    let files = "certificates = [{ certificate = \"/a.pem\", key = \"/a.key\" }]";
    assert!(tls.contains(files) && !tls.contains("optional"), "{tls}");
}

#[test]
fn no_key_is_passed_over_known_or_not() {
    let printed = import(
        "[databases]\nshop = host=a,b user=x password=sesame connect_query='it''s' nonsense=1\n\
         [users]\napp = pool_mode=session\n\
         [peers]\n1 = host=x\n\
         [pgbouncer]\nlisten_addr = db.example.com\nauth_type = hba\nauth_query = SELECT $1\nquery_timeout = 7\n\
         pool_mode = statement\nserver_lifetime = 0\ndefault_pool_size = many\nbrand_new_key = 3\nmax_client_conn=0\n",
        &format!("\"app\" \"{VERIFIER}\"\n"),
    )
    .unwrap();
    config(&printed);
    for key in [
        "host = a,b",
        "user = x",
        "password = …",
        "connect_query = it's",
        "nonsense = 1",
        "[users] app",
        "[peers] 1",
        "listen_addr = db.example.com",
        "auth_type = hba",
        "auth_query = SELECT $1",
        "query_timeout = 7",
        "pool_mode = statement",
        "server_lifetime = 0",
        "default_pool_size = many",
        "brand_new_key = 3",
        "max_client_conn = 0",
    ] {
        let line = printed.lines().find(|line| line.starts_with(&format!("# {key}")));
        assert!(line.is_some(), "no {key:?} in\n{printed}");
    }
    assert!(!printed.contains("sesame"), "{printed}");
}

#[test]
fn without_roles_what_nobody_could_use_is_commented_out() {
    let printed = import(
        "[databases]\nshop = host=127.0.0.1\n* = host=10.0.0.1\n[pgbouncer]\nlisten_addr = *\n",
        "",
    )
    .unwrap();
    let config = config(&printed);
    assert!(
        config.endpoints.is_empty() && config.databases.is_empty(),
        "{printed}"
    );
    assert!(
        printed.contains("#[tenants.pgbouncer.endpoints.shop]"),
        "{printed}"
    );
    // With a role, and without the marks, it is right.
    let switched_on = |line: &str| match line.strip_prefix('#') {
        Some(rest) if !rest.starts_with([' ', '#']) => format!("{rest}\n"),
        _ => format!("{line}\n"),
    };
    let mut repaired: String = printed.lines().map(switched_on).collect();
    repaired += &format!("[tenants.pgbouncer.roles.app]\nverifier = \"{VERIFIER}\"\n");
    let repaired = self::config(&repaired);
    assert_eq!((repaired.endpoints.len(), repaired.databases.len()), (2, 1));
}

#[test]
fn files_that_are_none_are_told_with_their_line() {
    for (ini, userlist, why) in [
        ("[databases\n", "", "pgbouncer.ini:1: a section has no end"),
        ("[pgbouncer]\nlisten_port\n", "", "pgbouncer.ini:2: neither"),
        ("[databases]\nshop = host\n", "", "database shop: a word without"),
        ("[databases]\nshop = host='x\n", "", "database shop: a quote"),
        ("%include /dev/zero\n", "", "/dev/zero: larger than 16 MiB"),
        ("%include /nonexistent.ini\n", "", "nonexistent.ini"),
        ("", "app secret\n", "userlist.txt:1: not \"user\""),
        ("", "\"app\" \"secret\n", "userlist.txt:1: not \"user\""),
    ] {
        let error = import(ini, userlist).unwrap_err();
        assert!(error.contains(why), "{error}");
        assert!(!error.contains("secret\n"), "{error}");
    }
}

#[test]
fn included_files_are_read_and_no_circle_is_followed() {
    let folder = tempfile::tempdir().unwrap();
    let main = folder.path().join("main.ini");
    fs::write(&main, "[pgbouncer]\nlisten_port = 1\n%include more.ini\n").unwrap();
    fs::write(
        folder.path().join("more.ini"),
        "listen_port = 2\n[databases]\nshop = host=a\n",
    )
    .unwrap();
    let ini = Ini::read(&main).unwrap();
    assert_eq!(ini.setting("listen_port"), Some("2"));
    assert_eq!(ini.databases.len(), 1);
    fs::write(folder.path().join("more.ini"), "%include main.ini\n").unwrap();
    assert!(Ini::read(&main).unwrap_err().contains("by itself"));
}
