//! Whatever fails on the way, one of the two serves, and there are never two owners.

use std::{fs, fs::File, time::Duration};

use pgwake::succession::{Channel, PROTOCOL, Word};
use rustix::process::Signal;

use super::{does, held_by_a_start, is_ended, replacing, served, successor};
use crate::harness::{child::Pgwake, gate::Gate, gateway::Setup, processes, python::python};

/// Somebody who says that it is a successor, up to the moment when everything is its own.
async fn given_everything(setup: &Setup) -> Channel {
    let channel = asking(setup).await;
    loop {
        let (word, _) = channel.hear().await.unwrap().unwrap();
        match word {
            Word::Offer(_) => (),
            Word::Yours => return channel,
            word => panic!("{word:?}"),
        }
    }
}

async fn asking(setup: &Setup) -> Channel {
    let channel = Channel::connect(&setup.path().join("state")).unwrap();
    let ask = Word::Replace(PROTOCOL, "a test".to_owned());
    channel.say(&ask).await.unwrap();
    channel
}

/// It starts, suspends and keeps state as ever.
async fn serves(pgwake: &Pgwake<'_>, setup: &Setup, endpoint: &str) {
    let client = pgwake.connect(endpoint).await;
    client.batch_execute("select 1").await.unwrap();
    drop(client);
    let data_dir = setup.data_dir(endpoint);
    processes::none_in(&data_dir).await;
    let client = pgwake.connect(endpoint).await;
    client.batch_execute("select 1").await.unwrap();
}

#[tokio::test]
async fn a_successor_with_a_wrong_configuration_asks_for_nothing() {
    const ENDPOINT: &str = "replacing-wrong";
    let setup = Setup::new().listed(ENDPOINT, "suspend_after = \"50ms\"");
    let pgwake = Pgwake::start(&setup).await;
    let wrong = setup.path().join("wrong.toml");
    let text = fs::read_to_string(setup.path().join("pgwake.toml")).unwrap();
    fs::write(&wrong, text.replace("suspend_after", "suspend_afterwards")).unwrap();

    let refused = replacing(&wrong).run().await;

    assert_eq!(refused.status.code(), Some(64), "{refused:?}");
    serves(&pgwake, &setup, ENDPOINT).await;
    let log = pgwake.ends_cleanly().await;
    assert!(!log.contains("to take this one's place"), "{log}");
}

#[tokio::test]
async fn what_was_given_up_is_taken_back_from_a_successor_that_fails() {
    const ENDPOINT: &str = "replacing-back";
    let setup = Setup::new().listed(ENDPOINT, "suspend_after = \"50ms\"");
    let pgwake = Pgwake::start(&setup).await;
    let mut working = served(&pgwake, ENDPOINT).await;
    does(&mut working, "begin").await;
    // Somebody else serves this one: it is found out only when everything has been handed over.
    let more = setup.path().join("more.toml");
    let text = fs::read_to_string(setup.path().join("pgwake.toml")).unwrap();
    let taken = setup.path().join("taken");
    let endpoint = format!(
        "[tenants.acme.endpoints.replacing-taken]\ncompute = {{ kind = \"process\", data_dir = \"{}\" }}\nroles_from = \"postgres\"\n",
        taken.display()
    );
    fs::write(&more, format!("{text}\n{endpoint}")).unwrap();
    let lock = File::create(taken.with_extension("lock")).unwrap();
    lock.lock().unwrap();

    let failed = replacing(&more).run().await.failed();

    assert!(
        failed.contains("replacing-taken") && failed.contains("already served"),
        "{failed}"
    );
    does(&mut working, "commit").await;
    drop(working);
    serves(&pgwake, &setup, ENDPOINT).await;
    let log = pgwake.ends_cleanly().await;
    assert!(log.contains("was not replaced, and goes on serving"), "{log}");
    assert!(!log.contains("cannot be"), "{log}");
}

#[tokio::test]
async fn a_successor_that_fails_removes_no_socket_that_it_was_given() {
    const ENDPOINT: &str = "replacing-removed";
    let setup = Setup::new();
    let socket = setup.path().join(".s.PGSQL.5432");
    let listen = format!("[\"127.0.0.1:0\", {{ unix = \"{}\" }}]", socket.display());
    let setup = setup.listen(&listen).listed(ENDPOINT, "suspend_after = \"50ms\"");
    let pgwake = Pgwake::start(&setup).await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let admin = format!("[listen]\nadmin = \"{}\"\n", taken.local_addr().unwrap());
    let text = fs::read_to_string(setup.path().join("pgwake.toml")).unwrap();
    let more = setup.path().join("more.toml");
    fs::write(&more, text.replace("[listen]\n", &admin)).unwrap();

    let failed = replacing(&more).run().await.failed();

    assert!(failed.contains("for operators"), "{failed}");
    assert!(socket.exists(), "the socket of the one that serves is gone");
    tokio::net::UnixStream::connect(&socket).await.unwrap();
    serves(&pgwake, &setup, ENDPOINT).await;
    pgwake.ends_cleanly().await;
}

#[tokio::test]
async fn a_successor_that_dies_before_it_owns_anything_has_changed_nothing() {
    const ENDPOINT: &str = "replacing-dead";
    let setup = Setup::new().listed(ENDPOINT, "suspend_after = \"50ms\"");
    let pgwake = Pgwake::start(&setup).await;
    let mut working = served(&pgwake, ENDPOINT).await;
    does(&mut working, "begin").await;
    let channel = given_everything(&setup).await;
    // Who comes meanwhile waits.
    let coming = tokio::spawn(tokio::net::TcpStream::connect(pgwake.address()));
    coming.await.unwrap().unwrap();

    drop(channel);

    does(&mut working, "commit").await;
    drop(working);
    serves(&pgwake, &setup, ENDPOINT).await;
    pgwake.ends_cleanly().await;
}

#[tokio::test]
async fn who_leaves_while_a_start_is_waited_for_has_changed_nothing() {
    const ENDPOINT: &str = "replacing-left";
    let setup = Setup::new();
    let mut gate = Gate::new(setup.path());
    let setup = setup.gated(ENDPOINT, &gate, "suspend_after = \"50ms\"");
    let mut pgwake = Pgwake::start(&setup).await;
    let mut held = held_by_a_start(&pgwake, &setup, &mut gate, ENDPOINT).await;
    let channel = asking(&setup).await;
    pgwake.running.hear_error("to take this one's place").await;

    drop(channel);
    pgwake.running.hear_error("was not replaced").await;
    gate.open();

    held.until(b'Z').await;
    does(&mut held, "select 1").await;
    drop(held);
    serves(&pgwake, &setup, ENDPOINT).await;
    pgwake.ends_cleanly().await;
}

#[tokio::test]
async fn a_start_that_does_not_end_is_named_and_nothing_is_replaced() {
    const ENDPOINT: &str = "replacing-restless";
    const OTHER: &str = "replacing-beside";
    let setup = Setup::new();
    let mut gate = Gate::new(setup.path());
    let setup = setup
        .gated(ENDPOINT, &gate, "suspend_after = \"50ms\"")
        .listed(OTHER, "suspend_after = \"50ms\"");
    let pgwake = Pgwake::start(&setup).await;
    let mut held = held_by_a_start(&pgwake, &setup, &mut gate, ENDPOINT).await;

    let refused = replacing(&setup.path().join("pgwake.toml")).run().await.failed();

    assert!(
        refused.contains(ENDPOINT) && refused.contains("try again in a moment") && !refused.contains(OTHER),
        "{refused}"
    );
    serves(&pgwake, &setup, OTHER).await;
    gate.open();
    held.until(b'Z').await;
    does(&mut held, "select 1").await;
    drop(held);
    pgwake.ends_cleanly().await;
}

#[tokio::test]
async fn a_successor_that_knows_other_words_is_refused() {
    const ENDPOINT: &str = "replacing-words";
    let setup = Setup::new().listed(ENDPOINT, "suspend_after = \"50ms\"");
    let pgwake = Pgwake::start(&setup).await;
    let channel = Channel::connect(&setup.path().join("state")).unwrap();

    channel
        .say(&Word::Replace(PROTOCOL + 1, "9.9".to_owned()))
        .await
        .unwrap();

    let (word, _) = channel.hear().await.unwrap().unwrap();
    let Word::Refused(reason) = word else {
        panic!("{word:?}");
    };
    assert!(reason.contains("9.9") && reason.contains("protocol"), "{reason}");
    serves(&pgwake, &setup, ENDPOINT).await;
    pgwake.ends_cleanly().await;
}

#[tokio::test]
async fn a_successor_that_hangs_with_the_lock_is_ended() {
    const ENDPOINT: &str = "replacing-hangs";
    let setup = Setup::new().listed(ENDPOINT, "suspend_after = \"50ms\"");
    let pgwake = Pgwake::start(&setup).await;
    let state = setup.path().join("state");
    let mut hanging = python("hanging_successor", &[state.to_str().unwrap()]).start();
    hanging.hear("locked").await;

    hanging.say("close").await;

    let ended = hanging.end().await;
    assert!(!ended.status.success(), "{ended:?}");
    serves(&pgwake, &setup, ENDPOINT).await;
    let log = pgwake.ends_cleanly().await;
    assert!(log.contains("it is killed"), "{log}");
}

/// The predecessor is gone while its successor is being given everything, or before.
#[tokio::test]
async fn a_predecessor_that_is_killed_leaves_all_to_its_successor() {
    const ENDPOINT: &str = "replacing-killed";
    let setup = Setup::new().listed(ENDPOINT, "suspend_after = \"1h\"");
    for moment in 0..4_u64 {
        let elder = match moment {
            0 => Pgwake::start(&setup).await,
            _ => successor(&setup).await,
        };
        let client = elder.connect(ENDPOINT).await;
        client.batch_execute("select 1").await.unwrap();
        let postmaster = processes::postmaster(&setup.data_dir(ENDPOINT));
        let program = replacing(&setup.path().join("pgwake.toml"));
        let address = elder.address();

        // At another moment of it each time; which one does not matter.
        let (younger, ()) = tokio::join!(Pgwake::start_as(program, &setup), async {
            tokio::time::sleep(Duration::from_millis(moment * 40)).await;
            elder.signal(Signal::KILL);
        });

        drop(client);
        elder.end().await;
        let config = crate::harness::gateway::config_at(younger.address(), ENDPOINT);
        let client = crate::harness::tls_client::connect(&config, setup.authority())
            .await
            .unwrap();
        client.batch_execute("select 1").await.unwrap();
        assert_eq!(
            processes::postmaster(&setup.data_dir(ENDPOINT)),
            postmaster,
            "{address}"
        );
        drop(client);
        younger.ends_cleanly().await;
    }
}

/// Whoever is left after that serves, or nobody has to be there: it had taken over.
#[tokio::test]
async fn a_successor_that_is_killed_at_any_moment_leaves_a_server() {
    const ENDPOINT: &str = "replacing-any";
    let setup = Setup::new().listed(ENDPOINT, "suspend_after = \"1h\"");
    let mut pgwake = Pgwake::start(&setup).await;
    for moment in 0..8_u64 {
        let younger = replacing(&setup.path().join("pgwake.toml")).start();
        // At another moment of it each time; which one does not matter.
        tokio::time::sleep(Duration::from_millis(moment * 25)).await;
        younger.signal(Signal::KILL);
        younger.end().await;
        match pgwake.try_connect(ENDPOINT).await {
            Ok(client) => client.batch_execute("select 1").await.unwrap(),
            Err(_) => {
                // It had taken over: from then on it was a pgwake that crashed.
                let log = pgwake.end().await;
                assert!(
                    log.status.success() && log.errors.contains("another pgwake serves"),
                    "{log:?}"
                );
                pgwake = Pgwake::start(&setup).await;
            }
        }
    }
    let mut client = served(&pgwake, ENDPOINT).await;
    let younger = successor(&setup).await;
    is_ended(&mut client, "57P01").await;
    pgwake.end().await.succeeded();
    younger.ends_cleanly().await;
}
