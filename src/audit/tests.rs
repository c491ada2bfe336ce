//! Lines in files, files that are moved away, and disks that take nothing.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use tokio::time::sleep;

use super::*;

/// What the file holds, once `enough`.
async fn lines(path: &Path, enough: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    let since = Instant::now();
    loop {
        let text = fs::read_to_string(path).unwrap_or_default();
        let whole = text
            .lines()
            .map(serde_json::from_str)
            .collect::<Result<Vec<Value>, _>>();
        match whole {
            Ok(found) if enough(&found) => return found,
            other => assert!(since.elapsed() < Duration::from_secs(20), "{other:?}"),
        }
        sleep(Duration::from_millis(5)).await;
    }
}

fn begin(path: &Path, when_full: WhenFull) -> Audit {
    let to = To::File(path.to_owned());
    Audit::begin(&Rules { to, when_full }).unwrap()
}

#[tokio::test]
async fn an_event_is_one_line_whatever_is_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit");
    let audit = begin(&path, WhenFull::Block);
    let role = "a\n\"b\"\u{1b}[2J\u{2028}";
    audit
        .tell(Event::new("auth_failed").with("role", role).with("tenant", ""))
        .await;
    let found = lines(&path, |found| found.len() == 1).await.remove(0);
    assert_eq!(found["role"], role);
    assert_eq!(found["event"], "auth_failed");
    assert!(found["time"].as_str().unwrap().ends_with('Z'), "{found}");
    assert!(found.get("tenant").is_none(), "{found}");
}

#[tokio::test]
async fn a_file_that_was_moved_away_is_begun_anew() {
    let dir = tempfile::tempdir().unwrap();
    let (path, moved) = (dir.path().join("audit"), dir.path().join("audit.1"));
    let audit = begin(&path, WhenFull::Drop);
    audit.tell(Event::new("one")).await;
    lines(&path, |found| found.len() == 1).await;
    fs::rename(&path, &moved).unwrap();
    let mut told = 1;
    while !path.exists() {
        audit.tell(Event::new("more")).await;
        told += 1;
        sleep(Duration::from_millis(20)).await;
    }
    let both = || {
        let count = |path| fs::read_to_string(path).unwrap().lines().count();
        count(&path) + count(&moved)
    };
    let since = Instant::now();
    while both() < told {
        assert!(since.elapsed() < Duration::from_secs(20), "{} of {told}", both());
        sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(both(), told, "a line was lost or doubled");
}

/// A line that an ended pgwake had written in part made the next one's first unreadable, too.
#[tokio::test]
async fn a_line_that_was_cut_off_earlier_is_ended_before_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit");
    fs::write(&path, "{\"event\":\"whole\"}\n{\"event\":\"cut o").unwrap();
    let audit = begin(&path, WhenFull::Block);
    audit.tell(Event::new("one")).await;
    audit.flush().await;
    let text = fs::read_to_string(&path).unwrap();
    let events = text.lines().map(serde_json::from_str::<Value>);
    let events: Vec<_> = events.flatten().map(|line| line["event"].clone()).collect();
    assert_eq!(events, ["whole", "one"], "{text}");
    // What ends with its line is only added to.
    let before = text;
    let audit = begin(&path, WhenFull::Block);
    audit.tell(Event::new("two")).await;
    audit.flush().await;
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(text.lines().count(), before.lines().count() + 1, "{text}");
}

/// A disk that is always full.
fn full(when_full: WhenFull) -> Audit {
    begin(Path::new("/dev/full"), when_full)
}

#[tokio::test]
async fn on_a_full_disk_lines_are_dropped_and_counted() {
    let audit = full(WhenFull::Drop);
    for _ in 0..3 * LINES_MAX {
        audit.tell(Event::new("one")).await;
    }
    audit.flush().await;
    let queue = audit.0.unwrap();
    assert_eq!(queue.dropped.load(Ordering::Relaxed), 3 * LINES_MAX as u64);
}

#[tokio::test]
async fn on_a_full_disk_nobody_goes_on_where_lines_must_be_written() {
    let audit = full(WhenFull::Block);
    let telling = async {
        // One line: thousands used to find room in the queue first.
        audit.tell(Event::new("one")).await;
    };
    let told = tokio::time::timeout(Duration::from_millis(500), telling).await;
    assert!(told.is_err(), "it went on without its lines");
}
