//! A second pgwake where one is already.

use std::{fs, os::unix::fs::DirBuilderExt};

use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::harness::{
    account::Account,
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

/// Whoever has the folder may change the roles in it, whatever its mode says, and was let.
#[tokio::test]
async fn state_in_another_users_folder_is_not_used() {
    let setup = Setup::new();
    let file = setup.write();
    let (state_dir, reason) = match Account::for_postgres() {
        Some(account) => {
            let folder = setup.path().join("state");
            fs::DirBuilder::new().mode(0o700).create(&folder).unwrap();
            account.own(&folder);
            (folder, format!("belongs to the user with number {}", account.uid))
        }
        // Nobody but root can give a folder away, and who is not root has no other that he may enter.
        None => ("/".into(), "can be entered by others".to_owned()),
    };
    let text = fs::read_to_string(&file).unwrap();
    let own = format!("state_dir = \"{}\"", state_dir.display());
    fs::write(&file, text.replace("state_dir = \"state\"", &own)).unwrap();
    let file = file.to_str().unwrap();

    let served = super::pgwake(&["serve", "--config", file]).run().await;
    let checked = super::pgwake(&["check", file]).run().await;

    assert_eq!(served.status.code(), Some(1), "{served:?}");
    assert!(served.errors.contains(&reason), "{served:?}");
    assert_eq!(checked.status.code(), Some(0), "{checked:?}");
    assert!(checked.output.contains(&reason), "{checked:?}");
}

/// It said that the log cannot be begun, and not which file that is; a pipe without a reader it waited for without a word.
#[tokio::test]
async fn an_audit_log_that_cannot_be_begun_is_named() {
    let setup = Setup::new();
    let file = setup.write();
    let text = fs::read_to_string(&file).unwrap();
    mknodat(
        CWD,
        setup.path().join("pipe"),
        FileType::Fifo,
        Mode::from(0o600),
        0,
    )
    .unwrap();
    for (audit, reason) in [("gone/audit", "No such file"), ("pipe", "nobody reads it")] {
        fs::write(
            &file,
            format!("{text}[audit]\nto = \"file\"\nfile = \"{audit}\"\n"),
        )
        .unwrap();

        let served = super::pgwake(&["serve", "--config", file.to_str().unwrap()])
            .run()
            .await;

        assert_eq!(served.status.code(), Some(1), "{served:?}");
        let named = setup.path().join(audit).display().to_string();
        assert!(
            served.errors.contains(&named) && served.errors.contains(reason),
            "{served:?}"
        );
    }
}

/// The first thread for work that blocks was begun when there was such work. Where the system had no more by then, tokio
/// panicked, and a reload ended pgwake.
#[tokio::test]
async fn every_runtime_has_a_thread_for_what_blocks() {
    let setup = Setup::new().admin("");
    let pgwake = Pgwake::start(&setup).await;
    let tasks = fs::read_dir(format!("/proc/{}/task", pgwake.running.pid())).unwrap();
    let names: Vec<_> = tasks
        .map(|task| fs::read_to_string(task.unwrap().path().join("comm")).unwrap())
        .collect();
    for runtime in ["clients-0", "admin", "control"] {
        let threads = names.iter().filter(|name| name.trim_end() == runtime).count();
        assert!(threads > 1, "{runtime}: {names:?}");
    }
}

/// While the system lets there be no more threads, jemalloc tried to begin a second one of its own without a pause, and wrote
/// a line of each try: a core and a disk were full of that.
#[tokio::test]
async fn memory_is_given_back_by_one_thread() {
    let setup = Setup::new();
    let pgwake = Pgwake::start(&setup).await;
    let tasks = fs::read_dir(format!("/proc/{}/task", pgwake.running.pid())).unwrap();
    let names = tasks.map(|task| fs::read_to_string(task.unwrap().path().join("comm")).unwrap());
    assert_eq!(names.filter(|name| name.starts_with("jemalloc")).count(), 1);
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
