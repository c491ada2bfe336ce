//! The suites by name, and how each is run.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use super::{place::Stage, rust};
use crate::harness::{
    programs::{Finished, Program},
    python::python,
};

/// How much a suite does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Length {
    /// Each step once, with little data; ends at the first difference.
    Short,
    /// More rounds, more clients, more data; goes on after a difference, so that all are known.
    Long,
}

/// What a suite is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// `tests/drivers/<name>_suite.py`, run in `.tools/venv`.
    Python,
    /// `tests/drivers/node/<name>.mjs`, with the packages of `.tools/node`.
    Node,
    /// `tests/suites/rust.rs`, in this process.
    Here,
    /// `tests/drivers/sqlx`, a program of its own that `make test-drivers` has built.
    Sqlx,
}

/// One suite.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Suite {
    pub(crate) name: &'static str,
    kind: Kind,
}

/// All of them, in the order of the table.
pub(crate) const SUITES: &[Suite] = &[
    Suite {
        name: "psql",
        kind: Kind::Python,
    },
    Suite {
        name: "pgbench",
        kind: Kind::Python,
    },
    Suite {
        name: "psycopg",
        kind: Kind::Python,
    },
    Suite {
        name: "psycopg_pool",
        kind: Kind::Python,
    },
    Suite {
        name: "asyncpg",
        kind: Kind::Python,
    },
    Suite {
        name: "pg8000",
        kind: Kind::Python,
    },
    Suite {
        name: "sqlalchemy",
        kind: Kind::Python,
    },
    Suite {
        name: "pg",
        kind: Kind::Node,
    },
    Suite {
        name: "postgres_js",
        kind: Kind::Node,
    },
    Suite {
        name: "tokio_postgres",
        kind: Kind::Here,
    },
    Suite {
        name: "sqlx",
        kind: Kind::Sqlx,
    },
];

impl Suite {
    /// The suite of this name.
    pub(crate) fn named(name: &str) -> Self {
        let found = SUITES.iter().find(|suite| suite.name == name);
        *found.unwrap_or_else(|| panic!("no suite {name}"))
    }

    /// Runs it to its end.
    pub(crate) async fn run(self, stage: &Stage, length: Length) -> Finished {
        let program = match self.kind {
            Kind::Here => return rust::run(stage, length).await,
            Kind::Python => {
                python(&format!("{}_suite", self.name), &[]).variable("PYTHONDONTWRITEBYTECODE", "1")
            }
            Kind::Node => node(self.name),
            Kind::Sqlx => Program::new(sqlx()),
        };
        let word = match length {
            Length::Short => "short",
            Length::Long => "long",
        };
        let limit = match length {
            Length::Short => Duration::from_secs(120),
            Length::Long => Duration::from_secs(900),
        };
        let told = |program: Program, (name, value): (&str, String)| program.variable(name, value);
        let program = stage.variables().into_iter().fold(program, told);
        program.variable("SUITE_LENGTH", word).limit(limit).run().await
    }
}

/// A script of `tests/drivers/node`.
fn node(name: &str) -> Program {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let packages = root.join(".tools/node/node_modules");
    assert!(packages.exists(), "no {}: run `make setup`", packages.display());
    let script = root.join("tests/drivers/node").join(format!("{name}.mjs"));
    assert!(script.exists(), "no {}", script.display());
    Program::new("node").argument(script)
}

/// The program of `tests/drivers/sqlx`, in cargo's target directory beside what this was built into.
fn sqlx() -> PathBuf {
    let here = std::env::current_exe().unwrap();
    let target = here
        .ancestors()
        .find(|folder| folder.ends_with("debug") || folder.ends_with("release"));
    let program = target
        .unwrap()
        .parent()
        .unwrap()
        .join("sqlx-suite/debug/sqlx-suite");
    assert!(
        program.exists(),
        "no {}: run `make test-drivers`",
        program.display()
    );
    program
}
