//! What an operator has disabled or paused is so again after a restart, and when an endpoint comes back.

use super::StartError;
use crate::ids::EndpointName;
use crate::session::Poolings;
use crate::store::{StandingOrders, Store};
use crate::wake::{Admission, Wakes};

/// Puts the orders that are kept in force, before anybody can come.
pub(super) fn put_in_force<'a>(
    store: &Store,
    endpoints: impl Iterator<Item = &'a EndpointName>,
    wakes: &Wakes,
    pooling: &Poolings,
) -> Result<(), StartError> {
    let kept = store.orders()?;
    for name in endpoints {
        if let Some(orders) = kept.get(name.as_str()) {
            obey(name, *orders, wakes, pooling);
        }
    }
    Ok(())
}

/// Puts an endpoint's orders in force, and says so: somebody may have forgotten them.
pub(super) fn obey(name: &EndpointName, orders: StandingOrders, wakes: &Wakes, pooling: &Poolings) {
    if orders.is_disabled {
        tracing::warn!(endpoint = %name, "still disabled, by an operator's order");
        wakes.set_admission(name, Admission::Disabled);
    }
    if orders.is_paused
        && let Some(pooling) = pooling.get(name)
    {
        tracing::warn!(endpoint = %name, "its pool is still paused, by an operator's order");
        pooling.pool.pause();
    }
}
