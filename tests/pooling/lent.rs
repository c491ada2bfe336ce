//! Sessions that end in the moment in which they are lent.

use std::time::Duration;

use rustix::process::Signal;
use tokio::time::sleep;

use super::{
    line::{Way, Who},
    pooled::{Pooled, pool},
    said::Said,
    told::{tags, values},
};
use crate::harness::{
    postgres::{PASSWORD, Postgres, Version},
    processes,
};

/// A server that ends an idle session may do so in the moment in which it is lent: the client read that it had been idle
/// for too long, in answer to its statement. Here the server stands still in that moment.
#[tokio::test]
async fn a_session_that_ends_when_it_is_lent_is_no_loss() {
    const ENDPOINT: &str = "lent-idle";
    const TIMEOUT: Duration = Duration::from_secs(2);
    let postgres = Postgres::start(Version::Debian).await;
    let direct = postgres.connect().await;
    let sql = format!(
        "create role idler superuser login password '{}'",
        PASSWORD.replace('\'', "''")
    );
    direct.batch_execute(&sql).await.unwrap();
    direct.batch_execute("create table copied (i int)").await.unwrap();
    let sql = format!(
        "alter role idler set idle_session_timeout = {}",
        TIMEOUT.as_millis()
    );
    direct.batch_execute(&sql).await.unwrap();
    let pooled = Pooled::with(postgres, &[(ENDPOINT, &pool(8, ""))]).await;
    let named = |name: &str| Said::parse(name, "select 'named'");
    let run = |name: &str| [Said::bind("", name, &[]), Said::execute("", 0), Said::Sync];
    let copied = vec![
        Said::query("copy copied from stdin"),
        Said::data("1\n"),
        Said::CopyDone,
    ];
    let all: [(Option<&str>, Vec<Said>, &str); 5] = [
        (
            None,
            vec![Said::query("select 'again'"), Said::query("select 2")],
            "TDCZTDCZ",
        ),
        (
            Some("begin"),
            vec![Said::query("select 'again'"), Said::query("commit")],
            "TDCZCZ",
        ),
        (None, run("s").to_vec(), "2DCZ"),
        // Nothing of it goes to the server but what comes behind it.
        (None, [&[named("t")][..], &run("t")].concat(), "12DCZ"),
        (None, copied, "GCZ"),
    ];
    let mut lines = Vec::new();
    for (before, ..) in &all {
        let (mut line, _) = pooled.client(ENDPOINT, &Who::new("idler", "postgres")).await;
        line.ask(&[named("s"), Said::Sync], Way::Whole).await;
        let pid = values(&line.query("select pg_backend_pid()").await)[0]
            .parse()
            .unwrap();
        if let Some(before) = before {
            line.query(before).await;
        }
        processes::signal(pid, Signal::STOP);
        lines.push((line, pid));
    }

    sleep(TIMEOUT * 2).await;
    for ((line, _), (_, said, _)) in lines.iter_mut().zip(&all) {
        line.say(said, Way::Whole).await;
    }
    // All of it is with the servers when they go on.
    sleep(TIMEOUT / 10).await;
    lines
        .iter()
        .for_each(|(_, pid)| processes::signal(*pid, Signal::CONT));

    for ((line, pid), (_, said, expected)) in lines.iter_mut().zip(&all) {
        let mut told = Vec::new();
        while tags(&told).matches('Z').count() < expected.matches('Z').count() {
            told.push(line.message().await.unwrap());
        }
        assert_eq!(tags(&told), *expected, "{said:?}: {told:?}");
        let other = values(&line.query("select pg_backend_pid()").await);
        assert_ne!(other, [pid.to_string()], "{said:?}: its session is there");
    }
    let count = values(&lines[0].0.query("select count(*) from copied").await);
    assert_eq!(count, ["1"], "done once");
}
