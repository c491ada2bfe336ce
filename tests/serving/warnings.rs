//! What pgwake says about its computes before anybody needs them.

use std::fs;

use crate::harness::{gateway::Setup, logs};

/// What a compute lacks was only told to the first client that woke it.
#[tokio::test]
async fn a_compute_that_cannot_be_started_is_told_when_pgwake_starts() {
    let setup = Setup::new();
    let data_dir = setup.data_dir("warnings-letter");
    fs::create_dir_all(&data_dir).unwrap();
    fs::write(data_dir.join("letter.txt"), "").unwrap();
    let endpoint = format!(
        "[tenants.acme.endpoints.warnings-letter]\n\
         roles.app.verifier = \"md50123456789abcdef0123456789abcdef\"\n\
         compute = {{ kind = \"process\", data_dir = \"{}\" }}\n",
        data_dir.display()
    );

    let gateway = setup.tenants(&endpoint).start_untaught().await.unwrap();

    let told = logs::of_endpoint("warnings-letter");
    let warning = told
        .iter()
        .find(|line| line.field("message") == "could not be started now");
    let reason = warning.unwrap().field("reason");
    assert!(reason.contains("not a Postgres data directory"), "{reason}");
    gateway.server.stop().await;
}
