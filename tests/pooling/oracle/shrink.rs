//! Leaves out of a failing case what it does not need to fail.

use std::time::Duration;

use tokio::time::Instant;

use super::{Play, Room, case::Case, twins::Twins};
use crate::pooling::{act::Act, play::Difference};

/// How long to try.
const TIME_MAX: Duration = Duration::from_secs(60);

/// The least case found that still fails, and how.
pub(super) async fn shrink(
    twins: &Twins,
    room: Room,
    mut case: Case,
    mut difference: Difference,
    play: Play,
) -> (Case, Difference) {
    let deadline = Instant::now() + TIME_MAX;
    if play != Play::Crowd {
        let mut less = case.clone();
        for (client, acts) in less.acts.iter_mut().enumerate() {
            acts.truncate(difference.done(client));
            let is_there = acts.iter().rev().find_map(|act| match act {
                Act::Enter => Some(true),
                Act::Leave { .. } => Some(false),
                _ => None,
            });
            if is_there == Some(true) {
                acts.push(Act::Leave { says_so: true });
            }
        }
        attempt(twins, room, &mut case, less, &mut difference, play).await;
    }
    for client in 0..case.acts.len() {
        let mut less = case.clone();
        less.acts[client].clear();
        attempt(twins, room, &mut case, less, &mut difference, play).await;
    }
    let mut length = case.acts.iter().map(Vec::len).max().unwrap_or(0) / 2;
    while length > 0 && Instant::now() < deadline {
        for client in 0..case.acts.len() {
            let mut at = 0;
            while at < case.acts[client].len() && Instant::now() < deadline {
                let mut less = case.clone();
                let end = (at + length).min(less.acts[client].len());
                less.acts[client].drain(at..end);
                if !attempt(twins, room, &mut case, less, &mut difference, play).await {
                    at += length;
                }
            }
        }
        length /= 2;
    }
    (case, difference)
}

/// Takes the smaller case if it fails, too.
async fn attempt(
    twins: &Twins,
    room: Room,
    case: &mut Case,
    less: Case,
    difference: &mut Difference,
    play: Play,
) -> bool {
    if less.len() == case.len() || !is_playable(&less) {
        return false;
    }
    let Ok(taken) = room.record(twins, &less).await else {
        return false;
    };
    let Err(new) = room.play(twins, &less, &taken, play).await else {
        return false;
    };
    if new.kind() != difference.kind() {
        return false;
    }
    (*case, *difference) = (less, new);
    true
}

/// Whether everybody is there while he says something, and leaves in the end.
fn is_playable(case: &Case) -> bool {
    case.acts.iter().all(|acts| {
        let mut is_there = false;
        let in_order = acts.iter().all(|act| match act {
            Act::Enter => !std::mem::replace(&mut is_there, true),
            Act::Leave { .. } => std::mem::replace(&mut is_there, false),
            Act::Say(_) => is_there,
            Act::Beside(_) | Act::Visit { .. } | Act::Doze => true,
        });
        in_order && !is_there
    })
}
