//! psql and pgbench of the system's Postgres.

use super::{
    postgres::{Version, programs},
    programs::Program,
};

/// psql that prints bare values, one row a line, and stops at the first error.
/// Errors come with their SQLSTATE. Add `.arguments(&["-c", sql])`, or start it and speak to it.
pub(crate) fn psql(connection: &str) -> Program {
    Program::new(programs(Version::Debian).join("psql"))
        .arguments(&["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"])
        .arguments(&["-v", "VERBOSITY=verbose", "-d", connection])
}

/// pgbench with these arguments.
pub(crate) fn pgbench(connection: &str, arguments: &[&str]) -> Program {
    Program::new(programs(Version::Debian).join("pgbench"))
        .arguments(arguments)
        .argument(connection)
}
