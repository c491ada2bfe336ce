//! Python scripts of `tests/drivers`, run with the drivers in `.tools/venv` (psycopg with libpq 18).

use std::path::Path;

use super::programs::Program;

/// The script `tests/drivers/<name>.py` with these arguments.
pub(crate) fn python(name: &str, arguments: &[&str]) -> Program {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let interpreter = root.join(".tools/venv/bin/python");
    assert!(
        interpreter.exists(),
        "no {}: run `make setup`",
        interpreter.display()
    );
    let script = root.join("tests/drivers").join(format!("{name}.py"));
    assert!(script.exists(), "no {}", script.display());
    Program::new(interpreter).argument(script).arguments(arguments)
}
