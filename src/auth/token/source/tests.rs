//! When keys are read again, with a file in paused time.

use std::{fs, path::PathBuf, sync::LazyLock};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::{Value, json};
use tokio::time::advance;

use super::*;
use crate::auth::token::issuer::Issuer;

static ISSUER: LazyLock<Issuer> = LazyLock::new(Issuer::new);

struct Stage {
    source: Arc<KeySource>,
    file: PathBuf,
    _dir: tempfile::TempDir,
}

impl Stage {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("keys");
        let source = KeySource::new(TokenKeys::File(file.clone()), TaskTracker::new());
        Self {
            source: Arc::new(source),
            file,
            _dir: dir,
        }
    }

    /// One key of this name.
    fn publish(&self, kid: &str) {
        let mut key = ISSUER.key_set()["keys"][4].clone();
        key["kid"] = Value::from(kid);
        fs::write(&self.file, json!({ "keys": [key] }).to_string()).unwrap();
    }

    async fn find(&self, kid: &str) -> Result<(), TokenError> {
        let found = self.source.find(Some(kid), Algorithm::EdDsa).await;
        found.map(|_| ())
    }

    fn readings(&self) -> u64 {
        self.source.flight().number
    }

    async fn settled(&self) {
        self.source.tasks.close();
        self.source.tasks.wait().await;
        self.source.tasks.reopen();
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_key_is_found_and_unknown_ones_cause_few_readings() {
    let stage = Stage::new();
    stage.publish("one");
    stage.find("one").await.unwrap();
    assert_eq!(stage.readings(), 1);
    stage.publish("two");
    assert_eq!(stage.find("two").await, Err(TokenError::UnknownKey));
    for _ in 0..100 {
        assert_eq!(stage.find("three").await, Err(TokenError::UnknownKey));
    }
    assert_eq!(stage.readings(), 1, "strangers had it read");
    advance(PACE_OF_FILES.again_after).await;
    stage.find("two").await.unwrap();
    assert_eq!(stage.readings(), 2);
    // What is not published any more is not taken any more.
    assert_eq!(stage.find("one").await, Err(TokenError::UnknownKey));
}

#[tokio::test(start_paused = true)]
async fn old_keys_are_used_while_reading_fails_and_not_for_ever() {
    let stage = Stage::new();
    stage.publish("one");
    stage.find("one").await.unwrap();
    fs::write(&stage.file, "{").unwrap();
    for hours in 1..24 {
        advance(Duration::from_secs(3600)).await;
        stage.find("one").await.unwrap();
        stage.settled().await;
        assert_eq!(stage.readings(), 1 + hours, "it was not tried again");
    }
    advance(Duration::from_secs(3600)).await;
    assert_eq!(stage.find("one").await, Err(TokenError::NoKeys));
    stage.publish("one");
    advance(PACE_OF_FILES.again_after).await;
    stage.find("one").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn keys_that_are_old_are_read_again_beside_the_logins() {
    let stage = Stage::new();
    stage.publish("one");
    stage.find("one").await.unwrap();
    stage.publish("two");
    advance(PACE_OF_FILES.fresh_for + Duration::from_millis(1)).await;
    // It does not wait for the reading, and so still has its key.
    stage.find("one").await.unwrap();
    stage.settled().await;
    assert_eq!(stage.find("one").await, Err(TokenError::UnknownKey));
    stage.find("two").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_nobody_has_asked_for_in_a_long_time_is_read_before_it_is_used() {
    let stage = Stage::new();
    stage.publish("taken-back");
    stage.find("taken-back").await.unwrap();
    stage.publish("other");
    advance(Duration::from_secs(3600)).await;
    assert_eq!(stage.find("taken-back").await, Err(TokenError::UnknownKey));
    stage.find("other").await.unwrap();
    assert_eq!(stage.readings(), 2);
}

#[tokio::test(start_paused = true)]
async fn all_who_wait_share_one_reading() {
    let stage = Stage::new();
    stage.publish("one");
    let (first, second, third) = tokio::join!(stage.find("one"), stage.find("one"), stage.find("two"));
    assert_eq!(
        (first, second, third),
        (Ok(()), Ok(()), Err(TokenError::UnknownKey))
    );
    assert_eq!(stage.readings(), 1);
}

#[test]
fn a_set_without_a_key_that_can_be_used_is_a_problem() {
    let many: Vec<Value> = (0..101).map(|_| ISSUER.key_set()["keys"][4].clone()).collect();
    for (set, expected) in [
        (json!({}), "there is no list"),
        (json!([]), "there is no list"),
        (json!({ "keys": [] }), "none of its keys"),
        (
            json!({ "keys": [{ "kty": "oct", "k": "AAAA" }] }),
            "none of its keys",
        ),
        (
            json!({ "keys": [{ "kty": "RSA", "n": "AQAB", "e": "AQAB" }] }),
            "none of its keys",
        ),
        (json!({ "keys": many }), "more than 100"),
    ] {
        let problem = KeySet::parse(set.to_string().as_bytes()).unwrap_err();
        assert!(problem.contains(expected), "{problem}");
    }
    let deep = "[".repeat(100_000);
    assert!(KeySet::parse(deep.as_bytes()).is_err());
}

/// Each reading waited for a pipe in a thread of its own that never came back, until there were no more threads.
#[tokio::test]
async fn a_pipe_in_the_place_of_a_file_is_not_waited_for() {
    let stage = Stage::new();
    mknodat(CWD, &stage.file, FileType::Fifo, Mode::from(0o600), 0).unwrap();

    let fetched = timeout(READING_TIMEOUT, fetch(&TokenKeys::File(stage.file.clone()))).await;

    // Whoever waits for it is let go.
    let _ends = fs::File::options()
        .read(true)
        .write(true)
        .open(&stage.file)
        .unwrap();
    assert!(fetched.unwrap().unwrap_err().contains("is not a regular file"));
}
