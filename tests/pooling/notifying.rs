//! NOTIFY: who has sent it is told by the number that the sender itself was told. Applications leave out their own.

use super::{
    line::{Line, Way, Who},
    pooled::Pooled,
    said::Said,
    told::errors,
};
use crate::harness::postgres::SUPERUSER;

/// The number of the sender of the next notification.
async fn sender(line: &mut Line) -> u32 {
    let told = line.until(b'A').await.unwrap();
    let notification = told.last().unwrap();
    u32::from_be_bytes(notification.body[..4].try_into().unwrap())
}

#[tokio::test]
async fn a_notification_names_its_sender_by_what_that_was_told() {
    const ENDPOINT: &str = "notifying";
    let pooled = Pooled::start(ENDPOINT, 2).await;
    let who = Who::new(SUPERUSER, "postgres");
    let (mut hears, own) = pooled.client(ENDPOINT, &who).await;
    let (mut other, others) = pooled.client(ENDPOINT, &who).await;
    let (mut third, thirds) = pooled.client(ENDPOINT, &who).await;
    assert!(errors(&hears.query("listen news").await).is_empty());

    hears.say(&[Said::query("notify news")], Way::Whole).await;
    assert_eq!(sender(&mut hears).await, own.pid);
    hears.until(b'Z').await.unwrap();

    // These two have one session between them.
    for _ in 0..2 {
        for (line, key) in [(&mut other, &others), (&mut third, &thirds)] {
            line.query("select 'before'; notify news, 'a long payload'").await;
            assert_eq!(sender(&mut hears).await, key.pid);
        }
    }

    // Beside pgwake it is the process' own.
    let direct = pooled.direct().await;
    let row = direct.query_one("select pg_backend_pid()", &[]).await.unwrap();
    direct.batch_execute("notify news").await.unwrap();
    assert_eq!(sender(&mut hears).await, row.get::<_, i32>(0).cast_unsigned());
}

/// One that came while pgwake asked the session what it listens to had its sender's process number.
#[tokio::test]
async fn a_notification_that_comes_amid_a_question_names_its_sender_as_well() {
    const ENDPOINT: &str = "notifying-amid";
    let pooled = Pooled::start(ENDPOINT, 2).await;
    let who = Who::new(SUPERUSER, "postgres");
    let (mut hears, _) = pooled.client(ENDPOINT, &who).await;
    let (mut other, others) = pooled.client(ENDPOINT, &who).await;
    for _ in 0..20 {
        // Each time it is asked again.
        assert!(errors(&hears.query("listen news").await).is_empty());
        other.query("notify news").await;
        assert_eq!(sender(&mut hears).await, others.pid);
    }
}
