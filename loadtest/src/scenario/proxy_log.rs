//! What pgwake's log (JSON) says of wakes and sessions while a scenario runs.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde_json::Value;
use tokio::time::sleep;

const DAY_S: f64 = 86_400.0;

/// The log from a moment on.
pub(super) struct ProxyLog {
    path: PathBuf,
    read: u64,
    rest: Vec<u8>,
    lines: Vec<Value>,
}

impl ProxyLog {
    /// From its present end.
    pub(super) fn from_now(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            read: path.metadata().map_or(0, |file| file.len()),
            rest: Vec::new(),
            lines: Vec::new(),
        }
    }

    /// Waits a moment for a line of this endpoint: the proxy writes behind its clients' backs.
    pub(super) async fn line(&mut self, message: &str, endpoint: &str) -> Option<Value> {
        for _ in 0..50 {
            self.read_on();
            let found = self
                .lines
                .iter()
                .find(|line| line["message"] == message && line["endpoint"] == endpoint);
            if let Some(line) = found {
                return Some(line.clone());
            }
            sleep(Duration::from_millis(10)).await;
        }
        None
    }

    fn read_on(&mut self) {
        let Ok(mut file) = File::open(&self.path) else {
            return;
        };
        if file.seek(SeekFrom::Start(self.read)).is_err() {
            return;
        }
        let read = file.read_to_end(&mut self.rest).unwrap_or(0);
        self.read += read as u64;
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            self.lines.extend(serde_json::from_slice::<Value>(&line));
        }
    }
}

/// The phases in `look 0 ms, launch 2 ms, boot 28 ms`.
pub(super) fn phases(text: &str) -> Vec<(String, f64)> {
    let phase = |part: &str| {
        let mut words = part.split(' ');
        Some((words.next()?.to_owned(), words.next()?.parse().ok()?))
    };
    text.split(", ").filter_map(phase).collect()
}

/// How many milliseconds after `begin` a line was written, by its timestamp (`2026-11-27T23:50:37.123456Z`).
pub(super) fn millis_after(line: &Value, begin: SystemTime) -> Option<f64> {
    let (_, clock) = line["timestamp"].as_str()?.split_once('T')?;
    let mut parts = clock.trim_end_matches('Z').split(':').map(str::parse::<f64>);
    let (Some(Ok(hours)), Some(Ok(minutes)), Some(Ok(seconds))) = (parts.next(), parts.next(), parts.next())
    else {
        return None;
    };
    let said = hours * 3600.0 + minutes * 60.0 + seconds;
    let began = begin.duration_since(UNIX_EPOCH).ok()?.as_secs_f64() % DAY_S;
    let after = said - began;
    // Over midnight.
    Some(
        if after < -DAY_S / 2.0 {
            after + DAY_S
        } else {
            after
        } * 1000.0,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_pgwake_writes_is_understood() {
        let begin = UNIX_EPOCH + Duration::from_millis(1_795_823_437_000);
        let line = json!({ "timestamp": "2026-11-27T23:50:37.250000Z" });
        assert!((millis_after(&line, begin).unwrap() - 250.0).abs() < 1.0);
        let found = phases("look 0 ms, launch 2 ms, boot 28 ms");
        assert_eq!(found[2], ("boot".to_owned(), 28.0));
    }
}
