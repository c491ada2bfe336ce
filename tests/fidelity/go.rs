//! The own tests of Go's drivers, run by `go test` from Debian's packages of their sources.

use std::{path::Path, time::Duration};

use serde_json::Value;

use super::{Outcomes, tools};
use crate::{harness::programs::Program, suites::place::Stage};

/// One driver's own tests.
pub(crate) struct Suite {
    pub(crate) name: &'static str,
    /// Below [`SOURCES`].
    folder: &'static str,
    /// Below that.
    packages: &'static [&'static str],
    /// The database that the tests expect, and what is in it.
    database: &'static str,
    prepared: &'static str,
    variables: &'static [(&'static str, &'static str)],
}

/// Where Debian has them.
const SOURCES: &str = "/usr/share/gocode";
const PGX: &str = "create extension hstore; create domain uint64 as numeric(20,0)";

pub(crate) const SUITES: &[Suite] = &[
    Suite {
        name: "pgx",
        folder: "github.com/jackc/pgx/v4",
        packages: &[".", "./stdlib", "./pgxpool"],
        database: "pgx_test",
        prepared: PGX,
        variables: &[],
    },
    Suite {
        name: "pgconn",
        folder: "github.com/jackc/pgconn",
        packages: &[".", "./stmtcache"],
        database: "pgx_test",
        prepared: PGX,
        variables: &[],
    },
    Suite {
        name: "lib-pq",
        folder: "github.com/lib/pq",
        packages: &["."],
        database: "pqgotest",
        prepared: "",
        variables: &[],
    },
    Suite {
        name: "lib-pq-binary",
        folder: "github.com/lib/pq",
        packages: &["."],
        database: "pqgotest",
        prepared: "",
        variables: &[("PQTEST_BINARY_PARAMETERS", "yes")],
    },
];

/// For all of a suite, and for one package.
const LIMIT: Duration = Duration::from_secs(1800);
const PACKAGE_LIMIT: &str = "-timeout=600s";

impl Suite {
    /// Runs it.
    pub(crate) async fn run(&self, stage: &Stage) -> Outcomes {
        stage.make_database(self.database, self.prepared).await;
        let folder = Path::new(SOURCES).join("src").join(self.folder);
        let program = self
            .told(Program::new("env"), stage)
            .argument(format!("--chdir={}", folder.display()))
            .arguments(&[
                "go",
                "test",
                "-json",
                "-vet=off",
                "-count=1",
                "-p=1",
                PACKAGE_LIMIT,
            ])
            .arguments(self.packages);
        let finished = program.limit(LIMIT).run().await;
        let outcomes = finished.output.lines().filter_map(outcome).collect::<Outcomes>();
        assert!(outcomes.len() > 50, "{} did not run: {finished:#?}", self.name);
        outcomes
    }

    fn told(&self, program: Program, stage: &Stage) -> Program {
        let told = |name: &str| stage.variable(name);
        let connection = format!(
            "host=127.0.0.1 port={} user={} password={} dbname={} sslmode=verify-ca sslrootcert={}",
            told("PGPORT"),
            told("PGUSER"),
            stage.quoted_password(),
            self.database,
            told("PGSSLROOTCERT")
        );
        let named = [
            "PGX_TEST_DATABASE",
            "PGX_TEST_CONN_STRING",
            "PGX_TEST_TCP_CONN_STRING",
        ];
        let program = named
            .iter()
            .fold(program, |program, name| program.variable(name, &connection));
        let program = self
            .variables
            .iter()
            .fold(program, |program, (name, value)| program.variable(name, value));
        program
            .variable("PGHOST", "127.0.0.1")
            .variable("PGPORT", told("PGPORT"))
            .variable("PGUSER", told("PGUSER"))
            .variable("PGPASSWORD", told("PGPASSWORD"))
            .variable("PGDATABASE", self.database)
            .variable("PGSSLMODE", "verify-ca")
            .variable("PGSSLROOTCERT", told("PGSSLROOTCERT"))
            // Packages by their folders, as Debian lays them out, and nothing from the network.
            .variable("GO111MODULE", "off")
            .variable("GOPATH", SOURCES)
            .variable("GOCACHE", tools().join("go"))
    }
}

/// The end of a test among the events of <https://pkg.go.dev/cmd/test2json>.
fn outcome(line: &str) -> Option<(String, String)> {
    let event: Value = serde_json::from_str(line).ok()?;
    let outcome = match event["Action"].as_str()? {
        "pass" => "passed",
        "skip" => "skipped",
        "fail" => "failed",
        _ => return None,
    };
    let test = format!("{} {}", event["Package"].as_str()?, event["Test"].as_str()?);
    Some((test, outcome.to_owned()))
}
