//! Whether one more branch may be: its number, its bytes, the room on the disk, and the time that it takes.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak, atomic::Ordering},
    time::Duration,
};

use tokio::sync::Mutex as Turn;

use super::{BranchError, BranchRecord, Branches};
use crate::compute::{GiveUp, Measured, Room, Source};
use crate::config::{Config, Endpoint};
use crate::ids::EndpointName;

/// Copies that are smaller say nothing about a disk.
const MEASURED_BYTES_MIN: u64 = 8 * 1024 * 1024;

/// Room on a disk for one copy, as long as this lives: what it has not taken yet is nobody else's.
#[derive(Debug)]
pub(super) struct Promise {
    file_system: u64,
    bytes: u64,
    copy: GiveUp,
}

/// Those that are kept. Locked while somebody looks what is left for one more.
pub(super) type Promises = Turn<Vec<Weak<Promise>>>;

impl Promise {
    fn left(&self) -> u64 {
        self.bytes.saturating_sub(self.copy.copied())
    }
}

impl Branches {
    /// Takes a place for a branch that is to be made, until its record is removed.
    ///
    /// # Errors
    /// There are too many, or they are too large.
    pub(super) fn take_place(
        &self,
        record: BranchRecord,
        parent: &Endpoint,
        config: &Config,
    ) -> Result<(), BranchError> {
        let mut records = self.records();
        check_number(&records, &record.name, parent, config)?;
        check_bytes(&records, &record, parent, config)?;
        records.insert(record.name.clone(), record);
        Ok(())
    }

    /// One that is made anew counts with what it will have from now on. What it had before is returned.
    ///
    /// # Errors
    /// They are too large together, and it grows.
    pub(super) fn resize_place(
        &self,
        record: &BranchRecord,
        parent: &Endpoint,
        config: &Config,
    ) -> Result<u64, BranchError> {
        let mut records = self.records();
        let before = records.get(&record.name).map_or(0, |before| before.bytes);
        if record.bytes > before {
            check_bytes(&records, record, parent, config)?;
        }
        if let Some(kept) = records.get_mut(&record.name) {
            kept.bytes = record.bytes;
        }
        Ok(before)
    }

    /// It has not been made anew.
    pub(super) fn restore_place(&self, name: &EndpointName, bytes: u64) {
        if let Some(kept) = self.records().get_mut(name) {
            kept.bytes = bytes;
        }
    }

    /// Whether there is a place, before anything is looked at for it.
    ///
    /// # Errors
    /// There are too many.
    pub(super) fn check_place(
        &self,
        name: &EndpointName,
        parent: &Endpoint,
        config: &Config,
    ) -> Result<(), BranchError> {
        check_number(&self.records(), name, parent, config)
    }

    /// Room for a copy of so many bytes, beside `free_min` and what others that are being made will take.
    ///
    /// # Errors
    /// [`BranchError::NoRoom`], or it cannot be told.
    pub(super) async fn promise_room(
        &self,
        name: &EndpointName,
        (source, copy): (&Source, &GiveUp),
        bytes: u64,
        free_min: u64,
    ) -> Result<Arc<Promise>, BranchError> {
        let mut promises = self.promises.lock().await;
        promises.retain(|promise| promise.strong_count() > 0);
        // Before it is looked what is free: what they take meanwhile counts twice, and not at all the other way round.
        let kept = promises.iter().filter_map(Weak::upgrade);
        let kept: Vec<_> = kept
            .map(|promise| (promise.file_system, promise.left()))
            .collect();
        let room = source.room().await;
        let Room { file_system, free } = room.map_err(|error| BranchError::of_copy(name, error))?;
        let others = kept.iter().filter(|(on, _)| *on == file_system);
        let others: u64 = others.map(|(_, left)| left).sum();
        if free < bytes.saturating_add(others).saturating_add(free_min) {
            return Err(BranchError::NoRoom {
                parent: name.branch().map_or_else(|| name.clone(), |(parent, _)| parent),
                bytes: bytes.max(1),
                others,
                free_min,
            });
        }
        let promise = Arc::new(Promise {
            file_system,
            bytes,
            copy: copy.clone(),
        });
        promises.push(Arc::downgrade(&promise));
        Ok(promise)
    }

    /// Whether there is time for a copy: so much is left of how long it may take.
    ///
    /// # Errors
    /// [`BranchError::TooSlow`]
    pub(super) fn check_time(
        &self,
        measured: Measured,
        parent: &Endpoint,
        (left, within): (Duration, Duration),
    ) -> Result<(), BranchError> {
        let takes = measured.takes();
        let speed = self.speed.load(Ordering::Relaxed).max(1);
        let needed = Duration::from_secs_f64(takes as f64 / speed as f64);
        if needed > left {
            return Err(BranchError::TooSlow {
                parent: parent.name.clone(),
                bytes: takes,
                takes: needed,
                within,
            });
        }
        Ok(())
    }

    /// A plain copy took so long: half of what is expected of the next is known by it.
    pub(super) fn learn_speed(&self, bytes: u64, took: Duration) {
        if bytes < MEASURED_BYTES_MIN {
            return;
        }
        let speed = (bytes as f64 / took.as_secs_f64().max(0.001)) as u64;
        let before = self.speed.load(Ordering::Relaxed);
        self.speed.store(before / 2 + speed / 2, Ordering::Relaxed);
    }
}

fn check_number(
    records: &BTreeMap<EndpointName, BranchRecord>,
    name: &EndpointName,
    parent: &Endpoint,
    config: &Config,
) -> Result<(), BranchError> {
    let rules = &parent.branches;
    let others = || records.values().filter(|one| one.name != *name);
    let of_parent = others().filter(|one| one.name.branch().is_some_and(|(of, _)| of == parent.name));
    if of_parent.count() >= rules.max {
        return Err(BranchError::TooMany {
            whose: format!("endpoint \"{}\"", parent.name),
            limit: format!("{} are the limit (branches.max)", rules.max),
        });
    }
    let of_tenant = others().filter(|one| is_of_tenant(one, parent, config));
    if of_tenant.count() >= rules.tenant_max {
        return Err(BranchError::TooMany {
            whose: format!("tenant \"{}\"", parent.tenant),
            limit: format!("{} are the limit (branches.tenant_max)", rules.tenant_max),
        });
    }
    Ok(())
}

fn check_bytes(
    records: &BTreeMap<EndpointName, BranchRecord>,
    record: &BranchRecord,
    parent: &Endpoint,
    config: &Config,
) -> Result<(), BranchError> {
    let Some(max) = parent.branches.tenant_bytes_max else {
        return Ok(());
    };
    let others = records.values().filter(|one| one.name != record.name);
    let others = others.filter(|one| is_of_tenant(one, parent, config));
    let taken: u64 = others.map(|one| one.bytes).sum();
    if taken.saturating_add(record.bytes) > max {
        return Err(BranchError::TooLarge {
            tenant: parent.tenant.to_string(),
            bytes: record.bytes,
            max,
        });
    }
    Ok(())
}

fn is_of_tenant(record: &BranchRecord, parent: &Endpoint, config: &Config) -> bool {
    let of = record.name.branch().map(|(of, _)| of);
    of.and_then(|of| config.endpoints.get(&of))
        .is_some_and(|one| one.tenant == parent.tenant)
}
