//! What changes is heard of at once: a question that waits for its answer, again and again.
//!
//! Events only cause doubt: what holds is asked for. Where some may have been missed, everything is in doubt.

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;

use super::{
    book::Book,
    client::{Heard, Trouble},
    said::{Event, News},
};
use crate::shutdown::{Phase, ShutdownWatch};

/// Answers that come at once are not asked for more often.
const PAUSE: Duration = Duration::from_millis(100);
/// After failures the pauses double up to this.
const PAUSE_MAX: Duration = Duration::from_secs(30);

impl Book {
    /// Hears of changes until pgwake stops; nothing is asked for names after that. Cancel safe.
    pub async fn follow(self: Arc<Self>, mut shutdown: ShutdownWatch) {
        tokio::select! {
            () = self.listen() => (),
            () = self.look_when_told() => (),
            () = self.tell_unasked() => (),
            () = shutdown.reached(Phase::Stopping) => (),
        }
        self.close();
    }

    async fn listen(self: &Arc<Self>) {
        let mut cursor: Option<String> = None;
        let mut pause = PAUSE;
        let mut is_failing = false;
        loop {
            match self.client().events(cursor.as_deref()).await {
                Ok(Heard::News(news)) => {
                    if cursor.is_none() {
                        // From here on nothing is missed; what came before may have been.
                        self.doubt_all();
                        self.look_again();
                    }
                    cursor = Some(self.hear(news));
                    self.settle_debts();
                    pause = PAUSE;
                    if is_failing {
                        tracing::info!("the control plane's events are heard again");
                        is_failing = false;
                    }
                }
                // It is there: what has been missed is asked for as soon as there is a cursor, however long it was away.
                Ok(Heard::Gap) if cursor.is_some() => (cursor, pause) = (None, PAUSE),
                answered => {
                    let trouble = answered
                        .err()
                        .unwrap_or_else(|| Trouble::wrong("410 without a cursor"));
                    if !is_failing {
                        tracing::warn!(reason = %trouble, "the control plane's events are not heard");
                        is_failing = true;
                    }
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            }
            sleep(pause).await;
        }
    }

    fn hear(self: &Arc<Self>, news: News) -> String {
        for event in news.events {
            match event {
                Event::Changed(name) => self.doubt(&name),
                Event::Gone(name, generation, why) => self.client().note_gone(&name, generation, why),
            }
        }
        news.cursor
    }
}
