//! What a supervisor hears (sd_notify): that pgwake is ready, that it reloads, that it lives, that it ends. And that its
//! Postgres says nothing there.

use std::fs;

use rustix::process::Signal;
use tokio::{net::UnixDatagram, time::timeout};

use crate::harness::{
    child::{Pgwake, program},
    gateway::Setup,
    processes,
    wait::PATIENCE,
};

/// The socket that NOTIFY_SOCKET names.
struct Supervisor(UnixDatagram);

impl Supervisor {
    async fn next(&self) -> String {
        let mut bytes = [0; 4096];
        let received = timeout(PATIENCE, self.0.recv(&mut bytes)).await;
        let length = received.expect("something is said in time").unwrap();
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    }

    /// The next word that begins like this; those in between are left out.
    async fn hear(&self, beginning: &str) -> String {
        loop {
            let said = self.next().await;
            if said.starts_with(beginning) {
                return said;
            }
        }
    }
}

#[tokio::test]
async fn a_supervisor_hears_of_readiness_reloads_life_and_the_end() {
    const ENDPOINT: &str = "supervised";
    let setup = Setup::new().listed(ENDPOINT, "");
    let path = setup.path().join("notify");
    let supervisor = Supervisor(UnixDatagram::bind(&path).unwrap());
    let program = program(&setup)
        .variable("NOTIFY_SOCKET", &path)
        .variable("WATCHDOG_USEC", "200000");

    let pgwake = Pgwake::start_as(program, &setup).await;

    assert_eq!(
        supervisor.next().await,
        "READY=1\nSTATUS=serving 0 clients; 0 of 1 endpoints awake"
    );
    supervisor.hear("WATCHDOG=1").await;
    supervisor.hear("WATCHDOG=1").await;
    let client = pgwake.connect(ENDPOINT).await;
    client.batch_execute("select 1").await.unwrap();
    let servers = processes::in_directory(&setup.data_dir(ENDPOINT));
    assert!(!servers.is_empty());
    for server in servers {
        // One that has just ended has none.
        let environment = fs::read(format!("/proc/{}/environ", server.pid)).unwrap_or_default();
        let environment = String::from_utf8_lossy(&environment);
        for variable in ["NOTIFY_SOCKET", "WATCHDOG_USEC"] {
            assert!(!environment.contains(variable), "{server:?}: {environment}");
        }
    }
    drop(client);

    pgwake.signal(Signal::HUP);
    let reloading = supervisor.hear("RELOADING=1\n").await;
    let since = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=");
    assert!(since.unwrap().parse::<u64>().unwrap() > 0, "{reloading}");
    supervisor.hear("READY=1").await;

    pgwake.signal(Signal::TERM);
    let stopping = supervisor.hear("STOPPING=1\n").await;
    assert!(
        stopping.contains("\nEXTEND_TIMEOUT_USEC=") && stopping.contains("\nSTATUS=ending"),
        "{stopping}"
    );
    let ended = pgwake.end().await;
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
}
