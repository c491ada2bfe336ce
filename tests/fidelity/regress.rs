//! Postgres' own regression and isolation tests, run by its own pg_regress and pg_isolation_regress.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use super::{Outcomes, tools};
use crate::{
    harness::{
        directories::Directory,
        postgres::{Version, programs},
        programs::Program,
    },
    suites::place::Stage,
};

/// A schedule and who runs it.
pub(crate) struct Suite {
    pub(crate) name: &'static str,
    /// Below `src/test` of Postgres' source.
    folder: &'static str,
    program: &'static str,
    schedule: &'static str,
    /// It finds out who waits for whom by the process numbers that clients are told.
    pub(crate) asks_for_pids: bool,
}

pub(crate) const SUITES: &[Suite] = &[
    Suite {
        name: "regress",
        folder: "regress",
        program: "pg_regress",
        schedule: "parallel_schedule",
        asks_for_pids: false,
    },
    Suite {
        name: "isolation",
        folder: "isolation",
        program: "pg_isolation_regress",
        schedule: "isolation_schedule",
        asks_for_pids: true,
    },
];

/// For all of a schedule.
const LIMIT: Duration = Duration::from_secs(1800);

impl Suite {
    /// Runs it; what is not ok comes with all that the test printed.
    pub(crate) async fn run(&self, stage: &Stage) -> Outcomes {
        // The server reads and writes there, too, as its own user.
        let home = Directory::new();
        let inputs = home.path().join(self.folder);
        copy(&tools().join("postgres/src/test").join(self.folder), &inputs);
        let results = inputs.join("results");
        fs::create_dir_all(&results).unwrap();
        for folder in [&inputs, &results] {
            fs::set_permissions(folder, fs::Permissions::from_mode(0o777)).unwrap();
        }
        let program = told(Program::new(inputs.join(self.program)), stage)
            .arguments(&["--host", "127.0.0.1", "--port", &stage.variable("PGPORT")])
            .arguments(&["--user", &stage.variable("PGUSER")])
            .arguments(&["--max-concurrent-tests", "20"])
            .argument(option("bindir", &programs(Version::Debian)))
            .argument(option("inputdir", &inputs))
            .argument(option("outputdir", &inputs))
            .argument(option("dlpath", &libraries(&inputs)))
            .argument(option("schedule", &inputs.join(self.schedule)));
        let finished = program.limit(LIMIT).run().await;
        let outcomes = read(&finished.output, &inputs);
        assert!(outcomes.len() > 50, "{} did not run: {finished:#?}", self.name);
        outcomes
    }
}

fn option(name: &str, path: &Path) -> String {
    format!("--{name}={}", path.display())
}

/// TLS as the suites have it; the address alone, since the programs name no server.
fn told(program: Program, stage: &Stage) -> Program {
    program
        .variable("PGPASSWORD", stage.variable("PGPASSWORD"))
        .variable("PGSSLMODE", "verify-ca")
        .variable("PGSSLROOTCERT", stage.variable("PGSSLROOTCERT"))
}

/// The folder of the tests' own library, with two of contrib's beside it.
fn libraries(inputs: &Path) -> PathBuf {
    let installed = programs(Version::Debian).with_file_name("lib");
    for name in ["refint.so", "autoinc.so"] {
        let from = installed.join(name);
        fs::copy(&from, inputs.join(name)).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
    }
    inputs.to_owned()
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-rT").args([from, to]).status().unwrap();
    assert!(copied.success(), "cp {} {}", from.display(), to.display());
}

/// Lines like `     boolean                      ... ok           80 ms`, with `test ` before a test that runs alone.
fn read(output: &str, inputs: &Path) -> Outcomes {
    // There is none where all is well.
    let all = fs::read(inputs.join("regression.diffs")).unwrap_or_default();
    let all = String::from_utf8_lossy(&all);
    let line = |line: &str| {
        let (name, outcome) = line.split_once(" ... ")?;
        let name = name.split_whitespace().next_back()?.to_owned();
        let outcome = outcome.split_whitespace().next()?;
        let outcome = match outcome {
            "ok" => outcome.to_owned(),
            _ => differences(&all, &name).unwrap_or_else(|| outcome.to_owned()),
        };
        Some((name, outcome))
    };
    output.lines().filter_map(line).collect()
}

/// In what a test's output is not what Postgres expects: `diff -U3 …/expected/NAME.out …/results/NAME.out`, the two files
/// once more, and the lines.
fn differences(all: &str, name: &str) -> Option<String> {
    let file = format!("/results/{name}.out");
    let mut sections = all.split("diff -U3 ").skip(1);
    let section =
        sections.find(|section| section.lines().next().is_some_and(|line| line.ends_with(&file)))?;
    let lines: Vec<&str> = section.lines().skip(3).collect();
    Some(lines.join("\n"))
}
