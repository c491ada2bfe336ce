//! A second pgwake where one is already.

use std::fs;

use crate::harness::{
    child::{Pgwake, program},
    gateway::Setup,
};

#[tokio::test]
async fn a_second_one_on_the_same_state_names_the_first() {
    let setup = Setup::new();
    let first = Pgwake::start(&setup).await;
    let pid = first.running.pid().to_string();

    let second = program(&setup).run().await;
    assert_eq!(second.status.code(), Some(1));
    assert!(second.errors.contains(&format!("pid {pid}")), "{second:?}");
    assert!(second.errors.contains("state_dir"), "{second:?}");

    first.signal(rustix::process::Signal::TERM);
    assert!(first.end().await.status.success());
    // What the first one has left, the next one may have.
    Pgwake::start(&setup).await;
}

#[tokio::test]
async fn a_second_one_on_the_same_data_directory_names_the_first() {
    const ENDPOINT: &str = "cmd-data";
    let setup = Setup::new().listed(ENDPOINT, "");
    let first = Pgwake::start(&setup).await;
    let pid = first.running.pid().to_string();
    first
        .connect(ENDPOINT)
        .await
        .batch_execute("select 1")
        .await
        .unwrap();

    let file = setup.write();
    let text = fs::read_to_string(&file).unwrap();
    fs::write(
        &file,
        text.replace("state_dir = \"state\"", "state_dir = \"other\""),
    )
    .unwrap();
    let second = super::pgwake(&["serve", "--config", file.to_str().unwrap()])
        .run()
        .await;

    assert_eq!(second.status.code(), Some(1));
    assert!(second.errors.contains(&format!("pid {pid}")), "{second:?}");
    assert!(second.errors.contains(ENDPOINT), "{second:?}");
    // The first one has not noticed anything.
    first
        .connect(ENDPOINT)
        .await
        .batch_execute("select 1")
        .await
        .unwrap();
}
