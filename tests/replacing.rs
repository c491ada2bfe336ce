//! One pgwake takes another's place: nobody is refused, nothing is stopped under anybody, and somebody serves whatever
//! fails on the way.

mod failing;
mod loaded;
mod supervised;
mod taking_over;

use std::path::Path;

use crate::harness::{
    child::Pgwake, gate::Gate, gateway::Setup, processes, programs::Program, raw::Raw, wait::until,
};

/// `pgwake serve --replace` on this configuration.
fn replacing(config: &Path) -> Program {
    Program::new(env!("CARGO_BIN_EXE_pgwake"))
        .arguments(&["serve", "--replace", "--config"])
        .argument(config)
}

/// Another pgwake takes the place of the one that serves what `setup` has written, and serves.
async fn successor(setup: &Setup) -> Pgwake<'_> {
    let program = replacing(&setup.path().join("pgwake.toml"));
    Pgwake::start_as(program, setup).await
}

/// A superuser's session that may send statements.
async fn served(pgwake: &Pgwake<'_>, endpoint: &str) -> Raw {
    let mut client = pgwake.raw_proved(endpoint).await;
    client.until(b'Z').await;
    client
}

/// A client that is held while its compute starts, which it does until the gate is opened.
async fn held_by_a_start(pgwake: &Pgwake<'_>, setup: &Setup, gate: &mut Gate, endpoint: &str) -> Raw {
    gate.close();
    let held = pgwake.raw_proved(endpoint).await;
    let data_dir = setup.data_dir(endpoint);
    until("the compute to be started", async || {
        !processes::in_directory(&data_dir).is_empty()
    })
    .await;
    held
}

/// It reads why its session ends, and that is all.
async fn is_ended(client: &mut Raw, sqlstate: &str) {
    let message = client.message().await;
    assert_eq!((message.tag, &*message.sqlstate()), (b'E', sqlstate));
    client.closed().await;
}

/// Sends a query that succeeds.
async fn does(client: &mut Raw, sql: &str) {
    client.query(sql).await;
    loop {
        let message = client.message().await;
        match message.tag {
            b'E' => panic!("{sql}: {:?}", message.fields()),
            b'Z' => return,
            _ => (),
        }
    }
}
