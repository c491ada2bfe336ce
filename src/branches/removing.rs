//! Removing a branch: its endpoint first, then its files, then the memory of it.

use std::sync::Arc;

use tokio::task::spawn_blocking;

use super::{BranchError, BranchRecord, Branches};
use crate::compute;
use crate::ids::EndpointName;
use crate::store::BranchState;

impl Branches {
    /// Removes a branch with its data: its sessions are ended (57P01), its compute is stopped. Cancel safe: it goes on.
    ///
    /// # Errors
    /// There is none, or its files cannot be removed; then the next start of pgwake goes on with it.
    pub async fn delete(self: &Arc<Self>, name: &EndpointName) -> Result<(), BranchError> {
        let (branches, name) = (self.clone(), name.clone());
        let deleting = async move {
            let _turn = branches.turn(&name).await;
            let record = branches.records().get(&name).cloned();
            let record = record.ok_or_else(|| BranchError::None(name.to_string()))?;
            branches.delete_now(record).await
        };
        let deleted = self.tasks.spawn_on(deleting, &self.runtime).await;
        deleted.unwrap_or(Err(BranchError::ShuttingDown))
    }

    /// The same, for whoever has its turn.
    pub(super) async fn delete_now(&self, record: BranchRecord) -> Result<(), BranchError> {
        let leaving = BranchRecord {
            state: BranchState::Leaving,
            ..record
        };
        self.put(leaving.clone()).await?;
        self.serving()?.withdraw(leaving.name.clone()).await;
        self.take_away(&leaving).await?;
        tracing::info!(branch = %leaving.name, "branch removed");
        Ok(())
    }

    /// Removes what there is of a branch that is no endpoint.
    pub(super) async fn take_away(&self, record: &BranchRecord) -> Result<(), BranchError> {
        let removed = compute::remove_branch(&record.data_dir).await;
        removed.map_err(|error| BranchError::of_copy(&record.name, error))?;
        if let Ok(serving) = self.serving() {
            let name = record.name.clone();
            let _ = spawn_blocking(move || serving.clear_away(&name)).await;
        }
        self.forget(&record.name).await
    }
}
