//! The configuration as a whole: the reference, the example files, the mistakes and what they are told.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    problem::{Report, join_keys},
    read::Read,
    tree::{self, Table, Value},
    *,
};

const VERIFIER: &str = "SCRAM-SHA-256$4096:c2FsdHNhbHRzYWx0c2FsdA==$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";

const LISTEN: &str = "[listen]\npostgres = { address = \"127.0.0.1:0\", tls = \"optional\" }\n";

/// A folder with files of the given names and texts; `$VERIFIER` stands for a verifier.
fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text.replace("$VERIFIER", VERIFIER)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }
    folder
}

fn load_text(text: &str) -> Result<Loaded, Problems> {
    let folder = folder(&[("pgwake.toml", text)]);
    load(&folder.path().join("pgwake.toml"))
}

fn endpoint(loaded: &Loaded, name: &str) -> Arc<Endpoint> {
    Arc::clone(loaded.config.endpoint(name).unwrap())
}

fn config_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config")
}

mod reference {
    use super::*;

    fn text() -> String {
        fs::read_to_string(config_folder().join("reference.toml")).unwrap()
    }

    /// The reference with its examples switched on.
    fn text_with_examples() -> String {
        let uncomment = |line: &str| match line.strip_prefix('#') {
            Some(rest) if rest.starts_with(|c: char| !c.is_whitespace()) => rest.to_owned(),
            _ => line.to_owned(),
        };
        let text = text().replace("to = \"nowhere\"", "to = \"file\"");
        text.lines().map(uncomment).collect::<Vec<_>>().join("\n")
    }

    fn parse(text: &str) -> Table {
        let mut report = Report::default();
        let table = tree::parse(&Path::new("reference.toml").into(), text, &mut report);
        report.finish(Path::new("reference.toml")).unwrap();
        table.unwrap()
    }

    /// All keys with a value, names of tenants, endpoints and roles as their placeholders.
    fn keys_written(path: &str, table: &Table, keys: &mut BTreeSet<String>) {
        for (name, node) in table {
            let name = match path.rsplit('.').next().unwrap() {
                "tenants" => "<tenant>",
                "endpoints" => "<endpoint>",
                "roles" => "<role>",
                "databases" => "<database>",
                _ => name,
            };
            let key = join_keys(path, name);
            match &node.value {
                Value::Table(table) => keys_written(&key, table, keys),
                Value::List(nodes) => {
                    for node in nodes {
                        if let Value::Table(table) = &node.value {
                            keys_written(&key, table, keys);
                        }
                    }
                }
                _ => (),
            }
            keys.insert(key);
        }
    }

    #[test]
    fn mentions_every_key_that_is_accepted() {
        let mut accepted = Vec::new();
        file::Root::keys("", &mut accepted);
        let mut written = BTreeSet::new();
        keys_written("", &parse(&text_with_examples()), &mut written);
        // These tables stand in full once; they may stand wherever their keys may.
        let tables = [
            "roles_from.",
            ".pool.",
            ".branches.",
            ".access.",
            ".idle_ignore.",
            ".tokens.",
            ".client_certificates.",
            ".limits.",
        ];
        let stands_once = |key: &str| tables.iter().any(|table| key.contains(table));
        let missing = |key: &&String| !written.contains(*key) && !stands_once(key);
        assert_eq!(
            accepted.iter().filter(missing).collect::<Vec<_>>(),
            Vec::<&String>::new()
        );
        assert!(accepted.len() > 50, "only {} keys are accepted", accepted.len());
        let reading = "tenants.<tenant>.endpoints.<endpoint>.roles_from";
        for key in ["role", "password", "database"] {
            assert!(written.contains(&join_keys(reading, key)), "{key}");
        }
        for key in file::TokensTable::KEYS {
            let shown = |level: &str| written.contains(&format!("{level}.tokens.{key}"));
            assert!(shown("defaults"), "{key}");
        }
        for key in file::QuotaTable::KEYS {
            assert!(
                text().contains(&format!("#   {key}")) || text().contains(&format!(", {key} ")),
                "{key}"
            );
        }
        for key in file::ScopedLimits::KEYS {
            assert!(written.contains(&format!("defaults.limits.{key}")), "{key}");
        }
        for level in ["tenants.<tenant>", "tenants.<tenant>.endpoints.<endpoint>"] {
            let key = format!("{level}.pool.size");
            assert!(written.contains(&key) && accepted.contains(&key), "{key}");
        }
    }

    #[test]
    fn every_key_that_may_be_inherited_is_shown_with_its_default() {
        let mut written = BTreeSet::new();
        keys_written("", &parse(&text()), &mut written);
        let mut expected: Vec<_> = file::Inherited::KEYS
            .iter()
            .map(|key| format!("defaults.{key}"))
            .collect();
        expected.extend(
            file::PoolTable::KEYS
                .iter()
                .map(|key| format!("defaults.pool.{key}")),
        );
        let with_default = ["role_claim", "leeway", "end_sessions"];
        expected
            .extend(["audit.to", "audit.when_full", "defaults.client_certificates.name"].map(str::to_owned));
        expected.extend(with_default.map(|key| format!("defaults.tokens.{key}")));
        let limits = file::LimitsTable::KEYS.iter();
        // Without it there is room for any number.
        let limits = limits.filter(|key| **key != "awake_processes_max");
        expected.extend(limits.map(|key| format!("limits.{key}")));
        expected.extend(["limits.clients_max", "limits.operator_reserve"].map(str::to_owned));
        expected.extend(file::GateTable::KEYS.iter().map(|key| format!("gate.{key}")));
        expected.extend(
            file::AdminTable::KEYS
                .iter()
                .filter(|key| **key != "roles")
                .map(|key| format!("admin.{key}")),
        );
        expected.extend(["defaults.access.allow", "defaults.access.deny"].map(str::to_owned));
        expected.extend(
            file::IdleIgnoreTable::KEYS
                .iter()
                .map(|key| format!("defaults.idle_ignore.{key}")),
        );
        expected.extend(["state_dir", "routing.domains", "tls.certificates"].map(str::to_owned));
        let missing: Vec<_> = expected.iter().filter(|key| !written.contains(*key)).collect();
        assert_eq!(missing, Vec::<&String>::new());
    }

    #[test]
    fn its_values_are_the_built_in_defaults() {
        let endpoint_text = "\n[tenants.t]\nroles.app.verifier = \"$VERIFIER\"\n\
            endpoints.some-endpoint.compute = { kind = \"process\", data_dir = \"/data\" }\n";
        let reference = load_text(&format!("{}{endpoint_text}", text())).unwrap();
        let built_in = load_text(&format!("{LISTEN}{endpoint_text}")).unwrap();
        assert_eq!(
            reference.origins.endpoints["some-endpoint"]["hold_timeout"].level,
            Level::Defaults,
            "the reference was not read"
        );
        let shown = |loaded: &Loaded| {
            let config = Config {
                listen: Vec::new(),
                ..loaded.config.clone()
            };
            format!("{config:#?}")
        };
        assert_eq!(shown(&reference), shown(&built_in));
    }

    #[test]
    fn its_examples_are_right_but_for_the_files_that_they_name() {
        let folder = folder(&[("pgwake.toml", &text_with_examples())]);
        let problems = load(&folder.path().join("pgwake.toml")).unwrap_err();
        let names_nothing_here = |p: &&Problem| {
            p.message.contains("cannot be read")
                || p.message.contains("is not set")
                || p.message.contains("there is no `postgres` in")
                || p.message.contains("there is no certificate")
        };
        let others: Vec<_> = problems.iter().filter(|p| !names_nothing_here(p)).collect();
        assert_eq!(others, Vec::<&Problem>::new());
    }
}

#[test]
fn the_small_examples_are_right_but_for_the_files_that_they_name() {
    let sidecar = load(&config_folder().join("sidecar.toml")).unwrap();
    assert_eq!(sidecar.config.endpoints.len(), 1);
    // Whatever this machine has in /etc/pgwake.
    let text = |name: &str| {
        let text = fs::read_to_string(config_folder().join(name)).unwrap();
        text.replace("/etc/pgwake/", "not-there/")
    };
    let acme = "tenants.d/acme.toml";
    let folder = folder(&[("pgwake.toml", &text("gateway.toml")), (acme, &text(acme))]);
    let problems = load(&folder.path().join("pgwake.toml")).unwrap_err();
    let (missing, others): (Vec<_>, Vec<_>) =
        problems.iter().partition(|p| p.message.contains("/not-there/"));
    assert_eq!(others, Vec::<&Problem>::new());
    let of_acme = missing.iter().filter(|p| p.place.file.ends_with(acme));
    assert_eq!(of_acme.count(), 2, "its secret and its roots");
}

/// Every file of `config/invalid` opens with `# expect: …` lines, one per problem: fragments of it, separated by ` | `.
/// Paths in them are relative to that folder.
#[test]
fn every_mistake_gives_the_problems_that_it_must_give_and_no_other() {
    let invalid = config_folder().join("invalid");
    let mut files: Vec<_> = fs::read_dir(&invalid)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    assert!(
        files.len() >= INVALID_FILES_MIN,
        "only {} files found",
        files.len()
    );
    // Whatever was checked out: this one has to be readable by others.
    fs::set_permissions(invalid.join("open.secret"), fs::Permissions::from_mode(0o644)).unwrap();
    let wrong: Vec<_> = files.iter().filter_map(|file| compare(file).err()).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

const INVALID_FILES_MIN: usize = 39;

fn compare(file: &Path) -> Result<(), String> {
    let name = file.file_name().unwrap().to_str().unwrap();
    // Kept as bytes: one of the files is not UTF-8.
    let text = String::from_utf8_lossy(&fs::read(file).unwrap()).into_owned();
    let expected: Vec<Vec<_>> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# expect: "))
        .map(|line| line.split(" | ").map(str::to_owned).collect())
        .collect();
    if expected.is_empty() {
        return Err(format!("{name} expects nothing"));
    }
    let Err(problems) = load(file) else {
        return Err(format!("{name} is accepted"));
    };
    let folder = format!("{}/", file.parent().unwrap().display());
    let relative = |problem: &Problem| problem.to_string().replace(&folder, "");
    let mut shown: Vec<_> = problems.iter().map(relative).collect();
    for fragments in &expected {
        let fits = |problem: &String| {
            fragments
                .iter()
                .all(|fragment| problem.contains(fragment.as_str()))
        };
        let Some(index) = shown.iter().position(fits) else {
            return Err(format!("{name} does not give {fragments:?}\n{problems}"));
        };
        shown.remove(index);
    }
    match shown.is_empty() {
        true => Ok(()),
        false => Err(format!("{name} gives more than it should:\n{}", shown.join("\n"))),
    }
}

mod inheritance {
    use super::*;

    const LEVELS: &str = r#"
        [defaults]
        suspend_after = "never"
        hold_timeout = "1s"
        start_timeout = "2s"
        login = "password"
        pool = { mode = "transaction", size = 3, lifetime = "2h", pinned_max = 3 }
        [tenants.t]
        hold_timeout = "3s"
        start_timeout = "4s"
        suspend_idle_sessions = true
        pool.size = 4
        pool.wake_on = "query"
        [tenants.t.roles.app]
        verifier = "$VERIFIER"
        server_password = "of-the-tenant"
        [tenants.t.roles.reader]
        verifier = "md50123456789abcdef0123456789abcdef"
        [tenants.t.endpoints.own]
        start_timeout = "5s"
        roles_from = "postgres"
        roles.app.server_password = "its-own"
        compute = { kind = "process", data_dir = "data", database = "app" }
        pool = { size = 2, statement_bytes_max = "64KiB" }
        [tenants.t.endpoints.plain]
        compute = { kind = "fixed", address = "127.0.0.1:5432" }
    "#;

    fn levels() -> Loaded {
        load_text(&format!("{LISTEN}{LEVELS}")).unwrap()
    }

    #[test]
    fn the_nearest_level_that_says_something_holds() {
        let loaded = levels();
        let own = endpoint(&loaded, "own");
        assert_eq!(own.suspend_after, None);
        assert_eq!(own.hold_timeout, Duration::from_secs(3));
        assert_eq!(own.start_timeout, Duration::from_secs(5));
        assert_eq!(own.stop_timeout, Duration::from_secs(10));
        assert_eq!(own.login, LoginMethod::Password);
        assert!(own.suspend_idle_sessions);
        let plain = endpoint(&loaded, "plain");
        assert_eq!(plain.start_timeout, Duration::from_secs(4));
        assert_eq!(plain.roles_from, RolesFrom::Config);
    }

    #[test]
    fn limits_are_inherited_key_by_key_and_can_be_taken_away() {
        let text = r#"
            [limits]
            wakes = "600/min"
            [defaults.limits]
            per_tenant = { clients_max = 50, wakes = "10/min", session_age = "1h" }
            per_endpoint.bytes_in = "1MiB/s"
            per_role = { transactions = "20/s", idle_time = "5m" }
            operator_roles = ["boss"]
            [tenants.t]
            roles.app.verifier = "$VERIFIER"
            limits = { per_tenant = { clients_max = "unlimited", operator_reserve = 2 }, per_role.transactions = "5/s" }
            [tenants.t.endpoints.own]
            limits = { per_role.idle_time = "unlimited", per_endpoint.clients_max = 3, operator_roles = [] }
            compute = { kind = "fixed", address = "127.0.0.1:5432" }
            [tenants.t.endpoints.plain]
            compute = { kind = "fixed", address = "127.0.0.1:5433" }
        "#;
        let loaded = load_text(&format!("{LISTEN}{text}")).unwrap();
        let process = &loaded.config.limits.quota;
        assert_eq!(process.clients_max, Some(10_000));
        assert_eq!(process.wakes.map(|rate| rate.count), Some(600));
        let (own, plain) = (endpoint(&loaded, "own"), endpoint(&loaded, "plain"));
        let tenant = &own.quotas.per_tenant;
        assert_eq!((tenant.clients_max, tenant.operator_reserve), (None, 2));
        assert_eq!(tenant.wakes.map(|rate| rate.count), Some(10));
        assert_eq!(tenant.session_age, Some(Duration::from_secs(3600)));
        assert_eq!(plain.quotas.per_tenant, *tenant);
        assert_eq!(own.quotas.per_endpoint.clients_max, Some(3));
        assert_eq!(own.quotas.per_endpoint.bytes_in, Some(ByteRate(1 << 20)));
        assert_eq!(plain.quotas.per_endpoint.clients_max, None);
        assert_eq!(own.quotas.per_role.transactions.map(|rate| rate.count), Some(5));
        assert_eq!(own.quotas.per_role.idle_time, None);
        assert_eq!(plain.quotas.per_role.idle_time, Some(Duration::from_secs(300)));
        assert_eq!(own.quotas.operator_roles, Vec::<String>::new());
        assert_eq!(plain.quotas.operator_roles, ["boss"]);
        let origin = &loaded.origins.endpoints["own"]["limits.per_role.transactions"];
        assert_eq!(origin.level, Level::Tenant);
    }

    #[test]
    fn a_pool_is_inherited_key_by_key() {
        let loaded = levels();
        let own = Pool {
            mode: PoolMode::Transaction,
            size: 2,
            lifetime: Duration::from_secs(7200),
            // Three in the defaults, and no more than there are.
            pinned_max: 2,
            statement_bytes_max: 65_536,
            wake_on: WakeOn::Query,
            ..Pool::default()
        };
        assert_eq!(endpoint(&loaded, "own").pool, own);
        let plain = Pool {
            size: 4,
            pinned_max: 3,
            statement_bytes_max: Pool::default().statement_bytes_max,
            ..own
        };
        assert_eq!(endpoint(&loaded, "plain").pool, plain);
        let origin = |endpoint: &str, key: &str| loaded.origins.endpoints[endpoint].get(key).map(|o| o.level);
        assert_eq!(origin("own", "pool.size"), Some(Level::Own));
        assert_eq!(origin("plain", "pool.size"), Some(Level::Tenant));
        assert_eq!(origin("own", "pool.mode"), Some(Level::Defaults));
        assert_eq!(origin("own", "pool.idle_time"), None);
    }

    #[test]
    fn whose_traffic_does_not_count_is_inherited_key_by_key_and_compared_whole() {
        let text = format!(
            "{LISTEN}[defaults]\nidle_ignore = {{ roles = [\"monitor\"], application_names = [\"exporter\"] }}\n\
             [tenants.t]\nroles_from = \"postgres\"\n\
             [tenants.t.endpoints.plain]\ncompute = {{ kind = \"process\", data_dir = \"plain\" }}\n\
             [tenants.t.endpoints.own]\ncompute = {{ kind = \"process\", data_dir = \"own\" }}\n\
             idle_ignore.application_names = []\n"
        );
        let loaded = load_text(&text).unwrap();
        let plain = &endpoint(&loaded, "plain").idle_ignore;
        assert_eq!(plain.ignores("monitor", b"exporter"), Some(IgnoredBy::Role));
        let by_name = |name: &[u8]| plain.ignores("app", name);
        assert_eq!(by_name(b"exporter"), Some(IgnoredBy::ApplicationName));
        for other in [&b""[..], b"Exporter", b"exporter 2", b"monitor", b"exporter\xff"] {
            assert_eq!(by_name(other), None, "{other:?}");
        }
        let own = &endpoint(&loaded, "own").idle_ignore;
        assert_eq!(own.ignores("monitor", b""), Some(IgnoredBy::Role));
        assert_eq!(own.ignores("app", b"exporter"), None);
    }

    #[test]
    fn half_of_a_pool_may_be_pinned_and_at_least_one_session() {
        for (size, pinned_max) in [(1, 1), (2, 1), (3, 1), (9, 4), (40, 20)] {
            let text = format!(
                "{LISTEN}[tenants.t.endpoints.one]\nroles_from = \"postgres\"\npool.size = {size}\n\
                 compute = {{ kind = \"process\", data_dir = \"one\" }}\n"
            );
            let loaded = load_text(&text).unwrap();
            assert_eq!(endpoint(&loaded, "one").pool.pinned_max, pinned_max, "{size}");
        }
    }

    #[test]
    fn roles_are_joined_key_by_key() {
        let loaded = levels();
        let password = |name: &str| {
            let role = endpoint(&loaded, name).roles["app"].clone();
            role.server_password.unwrap().reveal().to_owned()
        };
        assert_eq!(password("own"), "its-own");
        assert_eq!(password("plain"), "of-the-tenant");
        assert_eq!(endpoint(&loaded, "own").roles.len(), 2);
    }

    #[test]
    fn every_value_knows_its_line() {
        let loaded = levels();
        let origins = &loaded.origins.endpoints["own"];
        let line_of = |key: &str| {
            let origin = &origins[key];
            (origin.level, origin.place.line - LISTEN.lines().count())
        };
        assert_eq!(line_of("suspend_after"), (Level::Defaults, 3));
        assert_eq!(line_of("hold_timeout"), (Level::Tenant, 9));
        assert_eq!(line_of("start_timeout"), (Level::Own, 20));
        assert_eq!(line_of("roles.app.verifier"), (Level::Tenant, 15));
        assert_eq!(line_of("roles.app.server_password"), (Level::Own, 22));
        assert!(
            !origins.contains_key("stop_timeout"),
            "built-in values have no origin"
        );
    }

    #[test]
    fn what_is_left_out_of_a_compute_has_sensible_answers() {
        let loaded = levels();
        let Compute::Process(process) = &endpoint(&loaded, "own").compute else {
            panic!("not a process")
        };
        assert!(process.data_dir.is_absolute());
        assert_eq!(
            process.owner.as_deref(),
            Some("app"),
            "the role that is listed first"
        );
        let Compute::Fixed(fixed) = &endpoint(&loaded, "plain").compute else {
            panic!("not fixed")
        };
        assert_eq!(fixed.tls, ServerTls::Disable, "this machine");
        let RolesFrom::Postgres(reading) = &endpoint(&loaded, "own").roles_from else {
            panic!("not from postgres")
        };
        assert_eq!(
            (reading.role.as_str(), reading.database.as_str()),
            ("postgres", "postgres")
        );
    }
}

mod includes {
    use super::*;

    const ROOT: &str = "include = [\"d/*.toml\", \"missing.d/*.toml\"]\n\
        [listen]\npostgres = { address = \"127.0.0.1:0\", tls = \"optional\" }\n";

    #[test]
    fn a_tenant_may_be_spread_over_files_and_paths_belong_to_the_file_that_names_them() {
        let folder = folder(&[
            ("pgwake.toml", ROOT),
            (
                "d/a.toml",
                "[tenants.t.roles.app]\nverifier = { file = \"secret\" }\n",
            ),
            ("d/secret", "$VERIFIER\n"),
            (
                "d/b.toml",
                "[tenants.t.endpoints.one]\ncompute = { kind = \"process\", data_dir = \"one\" }\n",
            ),
        ]);
        let loaded = load(&folder.path().join("pgwake.toml")).unwrap();
        let Compute::Process(process) = &endpoint(&loaded, "one").compute else {
            panic!("not a process")
        };
        assert_eq!(process.data_dir, folder.path().join("d/one"));
        assert_eq!(loaded.origins.files.len(), 3);
        assert_eq!(loaded.origins.includes_unmatched, ["missing.d/*.toml"]);
    }

    #[test]
    fn problems_of_all_files_are_told_at_once_with_their_own_lines() {
        let folder = folder(&[
            (
                "pgwake.toml",
                &format!("{ROOT}\n[limits]\nclients_max = \"many\"\n"),
            ),
            ("d/a.toml", "[tenants.t]\nhold_timeout = 30\n"),
            ("d/b.toml", "\n\n[tenants.t\n"),
        ]);
        let problems = load(&folder.path().join("pgwake.toml")).unwrap_err();
        let places: Vec<_> = problems
            .iter()
            .map(|p| (p.place.file.file_name().unwrap().to_str().unwrap(), p.place.line))
            .collect();
        assert_eq!(places, [("pgwake.toml", 6), ("a.toml", 2), ("b.toml", 3)]);
    }

    #[test]
    fn three_thousand_endpoints_load() {
        let tenant = |t: usize| {
            let endpoints: String = (0..30)
                .map(|e| {
                    format!(
                        "[tenants.t{t}.endpoints.t{t}-e{e}]\nhosts = [\"e{e}.t{t}.example\"]\nhold_timeout = \"20s\"\n\
                         roles.own.verifier = \"$VERIFIER\"\n\
                         compute = {{ kind = \"process\", data_dir = \"/data/t{t}/e{e}\" }}\n"
                    )
                })
                .collect();
            (
                format!("d/t{t}.toml"),
                format!("[tenants.t{t}.roles.app]\nverifier = \"$VERIFIER\"\n{endpoints}"),
            )
        };
        let tenants: Vec<_> = (0..100).map(tenant).collect();
        let mut files = vec![("pgwake.toml", ROOT)];
        files.extend(tenants.iter().map(|(name, text)| (name.as_str(), text.as_str())));
        let folder = folder(&files);
        let started = std::time::Instant::now();
        let loaded = load(&folder.path().join("pgwake.toml")).unwrap();
        println!("3,000 endpoints loaded in {:?}", started.elapsed());
        assert_eq!(loaded.config.endpoints.len(), 3000);
        assert_eq!(endpoint(&loaded, "t99-e29").roles.len(), 2);
    }
}

#[test]
fn secrets_are_in_no_problem_and_in_no_debug_output() {
    let secret = "hunter2hunter2";
    let text = format!(
        "{LISTEN}[tenants.t.roles.app]\nverifier = \"{secret}\"\nserver_password = [\"{secret}\"]\n\
         [tenants.t.endpoints.one]\nroles_from = {{ password = \"{secret}\", {secret_key} = 1 }}\n",
        secret_key = "roel"
    );
    let problems = load_text(&text).unwrap_err();
    assert!(problems.iter().count() >= 3, "{problems}");
    assert!(!format!("{problems}{problems:?}").contains(secret));
    let right = format!(
        "{LISTEN}[tenants.t.roles.app]\nverifier = \"$VERIFIER\"\nserver_password = \"{secret}\"\n\
         [tenants.t.endpoints.one]\ncompute = {{ kind = \"process\", data_dir = \"one\" }}\n"
    );
    assert!(!format!("{:?}", load_text(&right).unwrap()).contains(secret));
}

#[test]
fn a_certificate_and_its_private_key_are_accepted() {
    let folder = folder(&[
        (
            "pgwake.toml",
            "[listen]\npostgres = [\"127.0.0.1:0\", { unix = \".s.PGSQL.5432\" }]\n\
             [routing]\ndomains = [\"DB.localhost\"]\n\
             [tls]\ncertificates = [{ certificate = \"c.pem\", key = \"k.pem\" }]\n",
        ),
        ("c.pem", ""),
        ("k.pem", ""),
    ]);
    let config = load(&folder.path().join("pgwake.toml")).unwrap().config;
    assert_eq!(config.domains, ["db.localhost"]);
    assert_eq!(config.listen[0].tls, ListenTls::Required);
    assert_eq!(config.certificates[0].key, folder.path().join("k.pem"));
    let socket = folder.path().join(".s.PGSQL.5432");
    assert_eq!(config.listen[1].address, ListenAddress::Unix(socket));
}
