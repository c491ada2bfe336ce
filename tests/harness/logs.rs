//! What pgwake logs in this process, kept as it came: tests look their own lines up by endpoint, so every test
//! gives its endpoints names of their own.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Mutex, Once},
};

use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{Layer, layer::Context, layer::SubscriberExt, registry};

use super::wait::until;

static LINES: Mutex<Vec<Line>> = Mutex::new(Vec::new());
static BEGIN: Once = Once::new();

/// One line of the log.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) level: Level,
    pub(crate) target: String,
    /// Fields by name; `message` is the text.
    pub(crate) fields: BTreeMap<String, String>,
}

impl Line {
    /// A field's value; empty where there is none.
    pub(crate) fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }
}

/// Begins to keep lines. Once per process; more do nothing.
pub(crate) fn begin() {
    BEGIN.call_once(|| {
        tracing::subscriber::set_global_default(registry().with(Keep)).unwrap();
    });
}

/// All lines that contain this text in a field, oldest first.
pub(crate) fn with_text(text: &str) -> Vec<Line> {
    let lines = LINES.lock().unwrap();
    lines
        .iter()
        .filter(|line| line.fields.values().any(|value| value.contains(text)))
        .cloned()
        .collect()
}

/// All lines with this endpoint, oldest first.
pub(crate) fn of_endpoint(endpoint: &str) -> Vec<Line> {
    let lines = LINES.lock().unwrap();
    lines
        .iter()
        .filter(|line| line.field("endpoint") == endpoint)
        .cloned()
        .collect()
}

/// The access lines of an endpoint's sessions, oldest first.
pub(crate) fn access(endpoint: &str) -> Vec<Line> {
    of_endpoint(endpoint)
        .into_iter()
        .filter(|line| line.target == "pgwake::access")
        .collect()
}

/// Waits until an endpoint has had `count` access lines.
pub(crate) async fn access_lines(endpoint: &str, count: usize) -> Vec<Line> {
    until(&format!("{count} access lines of {endpoint}"), async || {
        access(endpoint).len() >= count
    })
    .await;
    access(endpoint)
}

struct Keep;

impl<S: Subscriber> Layer<S> for Keep {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        metadata.target().starts_with("pgwake") && *metadata.level() <= Level::DEBUG
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields(BTreeMap::new());
        event.record(&mut fields);
        let metadata = event.metadata();
        let line = Line {
            level: *metadata.level(),
            target: metadata.target().to_owned(),
            fields: fields.0,
        };
        LINES.lock().unwrap().push(line);
    }
}

struct Fields(BTreeMap<String, String>);

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}"));
    }
}
