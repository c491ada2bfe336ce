//! All clients at once, each with everything it has to say in one write.

use std::sync::Arc;

use futures_util::future::join_all;
use tokio::sync::Semaphore;

use super::{Difference, Heard, Line, Side, Taken, Way, Who, repeat, runs};
use crate::pooling::act::Act;

/// Each client does what it did, as fast as it is answered. Not more than `pinned_max` of those that pin their session,
/// if only for a moment, are there at a time.
pub(crate) async fn crowd(
    side: &Side,
    whos: &[Who],
    taken: &[Taken],
    pinned_max: usize,
) -> Result<(), Difference> {
    let pins = Arc::new(Semaphore::new(pinned_max));
    let clients = whos.iter().enumerate().map(|(client, who)| {
        let pins = pins.clone();
        let own = taken.iter().filter(move |taken| taken.step.client == client);
        async move {
            let own: Vec<&Taken> = own.collect();
            let pinning = own
                .iter()
                .any(|taken| matches!(&taken.step.act, Act::Say(batch) if batch.pins || batch.may_pin()));
            let _permit = if pinning { Some(pins.acquire().await) } else { None };
            alone(side, who, &own).await
        }
    });
    join_all(clients).await.into_iter().collect()
}

async fn alone(side: &Side, who: &Who, own: &[&Taken]) -> Result<(), Difference> {
    let mut line: Option<Line> = None;
    let mut ended = false;
    for run in runs(own.iter().copied()) {
        let act = &run[0].step.act;
        // Somebody else is always awake.
        if matches!(act, Act::Doze) {
            continue;
        }
        if ended && !matches!(act, Act::Enter | Act::Beside(_)) {
            continue;
        }
        let heard = repeat(side, who, &mut line, &run, Way::Whole).await;
        let way = "all at once, in one write";
        let heard = heard.map_err(|difference| difference.at(&run, way.to_owned()))?;
        ended = heard == Heard::Ended;
    }
    Ok(())
}
