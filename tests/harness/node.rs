//! Node scripts of `tests/drivers/node`, run with the packages in `.tools/node`.

use std::path::Path;

use super::programs::Program;

/// The script `tests/drivers/node/<name>.js` with these arguments.
pub(crate) fn node(name: &str, arguments: &[&str]) -> Program {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let packages = root.join(".tools/node/node_modules");
    assert!(packages.exists(), "no {}: run `make setup`", packages.display());
    let script = root.join("tests/drivers/node").join(format!("{name}.js"));
    assert!(script.exists(), "no {}", script.display());
    Program::new("node").argument(script).arguments(arguments)
}
