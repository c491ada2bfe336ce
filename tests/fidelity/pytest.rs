//! The own tests of drivers and of what stands on them, run by pytest with the packages of `.tools/fidelity/venv`.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{Outcomes, tools};
use crate::{
    harness::{directories::Directory, programs::Program},
    suites::place::Stage,
};

/// One driver's own tests.
pub(crate) struct Suite {
    pub(crate) name: &'static str,
    /// Below `.tools/fidelity`: an unpacked source archive.
    source: &'static str,
    /// What is taken from there: the tests alone, so that the installed driver is what is tested.
    taken: &'static str,
    /// pytest's, `{url}` and `{ca}` filled in.
    arguments: &'static [&'static str],
    /// The database that the tests expect, and what is in it.
    database: &'static str,
    prepared: &'static str,
}

const SQLALCHEMY: &[&str] = &[
    "test/dialect/postgresql",
    "test/dialect/test_suite.py",
    "--maxfail=10000",
    "--dburi",
];
const SQLALCHEMY_PREPARED: &str = "create extension hstore; create extension citext; create schema test_schema; \
     create schema test_schema_2; alter database test set default_text_search_config = 'pg_catalog.english'";

pub(crate) const SUITES: &[Suite] = &[
    Suite {
        name: "asyncpg",
        source: "asyncpg",
        taken: "tests",
        // Style checks, and what starts clusters of its own.
        arguments: &[
            "tests",
            "--deselect=tests/test__sourcecode.py",
            "--deselect=tests/test__environment.py",
            "--deselect=tests/test_connect.py::TestConnectionAttributes",
        ],
        database: "postgres",
        prepared: "",
    },
    Suite {
        name: "psycopg2",
        source: "psycopg2",
        taken: "tests",
        arguments: &["tests"],
        database: "psycopg2_test",
        prepared: "create extension hstore",
    },
    Suite {
        name: "pg8000",
        source: "pg8000",
        taken: "test",
        // Logins that want another pg_hba.conf, and the readme's examples.
        arguments: &[
            "test",
            "--ignore-glob=*/auth/*",
            "--ignore-glob=*benchmark*",
            "--ignore=test/test_readme.py",
        ],
        database: "postgres",
        prepared: "create extension hstore",
    },
    Suite {
        name: "sqlalchemy-psycopg",
        source: "sqlalchemy",
        taken: ".",
        arguments: &["postgresql+psycopg://{login}/test?sslmode=verify-ca&sslrootcert={ca}"],
        database: "test",
        prepared: SQLALCHEMY_PREPARED,
    },
    Suite {
        name: "sqlalchemy-asyncpg",
        source: "sqlalchemy",
        taken: ".",
        arguments: &["postgresql+asyncpg://{login}/test?ssl=require"],
        database: "test",
        prepared: SQLALCHEMY_PREPARED,
    },
];

/// For all of a suite, and for one test.
const LIMIT: Duration = Duration::from_secs(1800);
const TEST_LIMIT_SECONDS: &str = "120";

impl Suite {
    /// Runs it.
    pub(crate) async fn run(&self, stage: &Stage) -> Outcomes {
        let home = Directory::new();
        let tests = home.path().join("tests");
        // Without the dot of one that is taken whole: no directory can be made by that name.
        let taken: PathBuf = tests.join(self.taken).components().collect();
        copy(&tools().join(self.source).join(self.taken), &taken);
        stage.make_database(self.database, self.prepared).await;
        let outcomes = home.path().join("outcomes");
        let plugin = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fidelity");
        let mut program = told(Program::new("env"), stage)
            .argument(format!("--chdir={}", tests.display()))
            .argument(tools().join("venv/bin/python"))
            .variable("OUTCOMES", &outcomes)
            .variable("PYTHONPATH", &plugin)
            .variable("PYTHONDONTWRITEBYTECODE", "1")
            .arguments(&["-m", "pytest", "-q", "--timeout", TEST_LIMIT_SECONDS])
            .arguments(&["-p", "outcomes", "-p", "no:cacheprovider", "--rootdir"])
            .argument(&tests);
        if self.source == "sqlalchemy" {
            program = program.arguments(SQLALCHEMY);
        }
        for argument in self.arguments {
            program = program.argument(filled(argument, stage));
        }
        let finished = program.limit(LIMIT).run().await;
        let outcomes = read(&outcomes);
        assert!(outcomes.len() > 50, "{} did not run: {finished:#?}", self.name);
        outcomes
    }
}

/// What each driver is told: libpq's variables, by address, and psycopg2's own.
pub(super) fn told(program: Program, stage: &Stage) -> Program {
    let login = |name: &str| stage.variable(name);
    let quoted = stage.quoted_password();
    let replication = format!(
        "host=127.0.0.1 port={} user={} dbname=psycopg2_test password={quoted}",
        login("PGPORT"),
        login("PGUSER")
    );
    program
        .variable("PGHOST", "127.0.0.1")
        .variable("PGPORT", login("PGPORT"))
        .variable("PGUSER", login("PGUSER"))
        .variable("PGPASSWORD", login("PGPASSWORD"))
        .variable("PGDATABASE", login("PGDATABASE"))
        .variable("PGSSLMODE", "verify-ca")
        .variable("PGSSLROOTCERT", login("PGSSLROOTCERT"))
        .variable("PSYCOPG2_TESTDB_PASSWORD", quoted)
        .variable("PSYCOPG2_TEST_REPL_DSN", replication)
}

/// An argument with the stage's login and authority in it.
fn filled(argument: &str, stage: &Stage) -> String {
    let escaped: String = stage
        .variable("PGPASSWORD")
        .bytes()
        .map(|byte| format!("%{byte:02x}"))
        .collect();
    let login = format!(
        "{}:{escaped}@127.0.0.1:{}",
        stage.variable("PGUSER"),
        stage.variable("PGPORT")
    );
    argument
        .replace("{login}", &login)
        .replace("{ca}", &stage.variable("PGSSLROOTCERT"))
}

pub(super) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    let copied = std::process::Command::new("cp")
        .arg("-rT")
        .args([from, to])
        .status()
        .unwrap();
    assert!(copied.success(), "cp {} {}", from.display(), to.display());
}

/// What was written to this file: the outcome, a tab, the test. A failure before or after a test counts as the test's own.
pub(super) fn read(file: &Path) -> Outcomes {
    let said = fs::read_to_string(file).unwrap_or_default();
    let mut outcomes = Outcomes::new();
    for (outcome, test) in said.lines().filter_map(|line| line.split_once('\t')) {
        let known = outcomes
            .entry(test.to_owned())
            .or_insert_with(|| outcome.to_owned());
        if outcome == "failed" {
            "failed".clone_into(known);
        }
    }
    outcomes
}
