//! pgwake itself is killed: the next one finds what runs, and starts nothing twice.

use std::fs;

use rustix::process::Signal;

use crate::harness::{
    child::Pgwake,
    gateway::{Setup, obstruct, times},
    processes,
    wait::until,
};

#[tokio::test]
async fn a_start_in_the_middle_of_which_it_is_killed_goes_on_and_is_not_repeated() {
    const ENDPOINT: &str = "cmd-interrupted";
    let setup = Setup::new().commands(ENDPOINT, "", "");
    let waits = "while [ ! -e \"$here/go\" ]; do sleep 0.05; done\n";
    obstruct(setup.path(), ENDPOINT, "start", waits);
    let lock = setup.path().join("state/lock");
    let first = Pgwake::start(&setup).await;
    let held = first.raw_proved(ENDPOINT).await;
    until("the start to begin", async || {
        times(setup.path(), ENDPOINT, "start") == 1
    })
    .await;
    let first_pid = fs::read_to_string(&lock).unwrap();
    first.signal(Signal::KILL);
    first.end().await;
    drop(held);

    let go = async {
        // The second one is on its way, and the start of the first still goes on.
        until("the second pgwake to have the state", async || {
            fs::read_to_string(&lock).is_ok_and(|pid| pid != first_pid && !pid.is_empty())
        })
        .await;
        assert_eq!(times(setup.path(), ENDPOINT, "status"), 2);
        fs::write(setup.path().join("go"), "").unwrap();
    };
    let (second, ()) = tokio::join!(Pgwake::start(&setup), go);

    let client = second.connect(ENDPOINT).await;
    client.query_one("select 1", &[]).await.unwrap();
    assert_eq!(times(setup.path(), ENDPOINT, "start"), 1);
    drop(client);
    let log = second.ends_cleanly().await;
    assert!(log.contains("found running"), "{log}");
    assert!(!log.contains("woken"), "{log}");
    assert!(processes::in_directory(&setup.data_dir(ENDPOINT)).is_empty());
}

#[tokio::test]
async fn what_runs_when_it_is_killed_is_found_and_suspended_though_nobody_asks_for_it() {
    const ENDPOINT: &str = "cmd-orphaned";
    let setup = Setup::new().printed(ENDPOINT, "", "suspend_after = \"500ms\"");
    let first = Pgwake::start(&setup).await;
    let client = first.connect(ENDPOINT).await;
    first.signal(Signal::KILL);
    first.end().await;
    drop(client);
    let data_dir = setup.data_dir(ENDPOINT);
    assert!(!processes::in_directory(&data_dir).is_empty());

    let second = Pgwake::start(&setup).await;

    processes::none_in(&data_dir).await;
    assert_eq!(times(setup.path(), ENDPOINT, "start"), 1);
    second.ends_cleanly().await;
}

#[tokio::test]
async fn commands_leave_no_process_and_no_open_file_behind() {
    const ENDPOINT: &str = "cmd-tidy";
    let setup = Setup::new().commands(ENDPOINT, "", "suspend_after = \"50ms\"");
    let pgwake = Pgwake::start(&setup).await;
    let data_dir = setup.data_dir(ENDPOINT);
    let pid = pgwake.running.pid();
    let mut open = 0;
    for round in 1..=5 {
        drop(pgwake.connect(ENDPOINT).await);
        until("the compute to be suspended", async || {
            processes::in_directory(&data_dir).is_empty() && times(setup.path(), ENDPOINT, "stop") == round
        })
        .await;
        // One that has ended and was not asked for would stay, too.
        until("no child to be left", async || children(pid) == 0).await;
        if round == 2 {
            // The first rounds may have opened what stays open: logs, runtimes.
            open = processes::open_files(pid);
        }
    }
    // The last connections may still be closing.
    until("no file to be left open", async || {
        processes::open_files(pid) <= open + 2
    })
    .await;
    pgwake.ends_cleanly().await;
}

/// How many processes have this one as their parent, those that have ended included.
fn children(pid: u32) -> usize {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let stats = entries.filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok());
    let parent = |stat: &String| stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok();
    stats.filter(|stat| parent(stat) == Some(pid)).count()
}
