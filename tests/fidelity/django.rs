//! Django's own tests, of all that talks to its database, run by its own runner with the packages of
//! `.tools/fidelity/venv`.

use std::{path::Path, time::Duration};

use super::{
    Outcomes,
    pytest::{copy, read, told},
    tools,
};
use crate::{
    harness::{directories::Directory, programs::Program},
    suites::place::Stage,
};

/// A way in which Django uses its database.
pub(crate) struct Suite {
    pub(crate) name: &'static str,
    variables: &'static [(&'static str, &'static str)],
}

pub(crate) const SUITES: &[Suite] = &[
    Suite {
        name: "django",
        variables: &[],
    },
    Suite {
        name: "django-binding",
        variables: &[("BINDING", "yes")],
    },
];

/// Folders of its tests. What is left out draws pages and forms.
const APPLICATIONS: &[&str] = &[
    "aggregation",
    "annotations",
    "async",
    "backends",
    "bulk_create",
    "constraints",
    "custom_pk",
    "datetimes",
    "db_functions",
    "db_utils",
    "delete",
    "expressions",
    "expressions_case",
    "expressions_window",
    "fixtures",
    "foreign_object",
    "get_or_create",
    "indexes",
    "inspectdb",
    "introspection",
    "lookup",
    "many_to_many",
    "migrate_signals",
    "migrations",
    "model_fields",
    "multiple_database",
    "ordering",
    "postgres_tests",
    "prefetch_related",
    "queries",
    "raw_query",
    "schema",
    "select_for_update",
    "select_related",
    "serializers",
    "servers",
    "sessions_tests",
    "test_runner",
    "test_utils",
    "timezones",
    "transaction_hooks",
    "transactions",
    "update",
];

const LIMIT: Duration = Duration::from_secs(1800);

impl Suite {
    /// Runs it.
    pub(crate) async fn run(&self, stage: &Stage) -> Outcomes {
        let home = Directory::new();
        let tests = home.path().join("tests");
        // Its tests look for their neighbours in the whole source.
        copy(&tools().join("django"), &tests);
        let outcomes = home.path().join("outcomes");
        let settings = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fidelity");
        let program = self
            .variables
            .iter()
            .fold(told(Program::new("env"), stage), |program, (name, value)| {
                program.variable(name, value)
            });
        let program = program
            .argument(format!("--chdir={}", tests.join("tests").display()))
            .argument(tools().join("venv/bin/python"))
            .variable("OUTCOMES", &outcomes)
            .variable("PYTHONPATH", &settings)
            .variable("PYTHONDONTWRITEBYTECODE", "1")
            .arguments(&[
                "runtests.py",
                "--settings=django_settings",
                "--parallel=1",
                "--noinput",
            ])
            .arguments(APPLICATIONS);
        let finished = program.limit(LIMIT).run().await;
        let outcomes = read(&outcomes);
        assert!(outcomes.len() > 50, "{} did not run: {finished:#?}", self.name);
        outcomes
    }
}
