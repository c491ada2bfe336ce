//! The first reading of roles: an endpoint whose roles come from Postgres, and that was never awake, is started
//! once by pgwake itself, one after another.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::auth::WakeRight;
use crate::config::{Endpoint, RolesFrom};
use crate::session::House;
use crate::shutdown::Phase;

/// A failed first reading is tried again after this long, then after twice as long each time: trying wakes the
/// compute, and one whose roles cannot be read must get its sleep.
const AGAIN_AFTER_MIN: Duration = Duration::from_secs(60);
/// Longest pause between two tries.
const AGAIN_AFTER_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Learns the roles of every endpoint that needs it. Ends with the drain. Cancel safe.
pub(super) async fn learn_all(house: Arc<House>) {
    let mut shutdown = house.shutdown.clone();
    tokio::select! {
        () = learn(&house) => (),
        () = shutdown.reached(Phase::Draining) => (),
    }
}

async fn learn(house: &House) {
    let unread = |endpoint: &Arc<Endpoint>| {
        matches!(endpoint.roles_from, RolesFrom::Postgres(_)) && !house.roles.was_read(&endpoint.name)
    };
    let mut waiting: Vec<_> = house.directory.endpoints().filter(unread).collect();
    let mut pause = AGAIN_AFTER_MIN;
    while !waiting.is_empty() {
        for endpoint in &waiting {
            learn_one(house, endpoint).await;
        }
        waiting.retain(unread);
        if !waiting.is_empty() {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(AGAIN_AFTER_MAX);
            waiting = house.directory.endpoints().filter(unread).collect();
        }
    }
}

async fn learn_one(house: &House, endpoint: &Arc<Endpoint>) {
    tracing::info!(endpoint = %endpoint.name, "waking once to learn its roles");
    let deadline = Instant::now() + endpoint.start_timeout;
    match house
        .wakes
        .lease(&endpoint.name, &WakeRight::for_reading_roles(), deadline)
        .await
    {
        // The lease keeps it awake while it is read.
        Ok(_lease) => drop(house.roles.refresh(endpoint).await),
        Err(error) => tracing::warn!(endpoint = %endpoint.name, %error, "its roles could not be learnt"),
    }
}
