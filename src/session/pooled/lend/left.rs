//! Who leaves while it waits for a server session: nobody does anything for it, unless it has said all that it wanted, up to its
//! Terminate. Postgres would do that; so one is borrowed without it.

use std::future::Pending;

use bytes::BytesMut;

use super::{LendError, Loan, Pooled, line::Place};
use crate::pool::Permit;
use crate::session::{error::SessionError, hold::Held, record::SessionRecord};
use crate::tls::Stream;

impl Pooled {
    /// Borrows a session. Not cancel safe: a notice may be half written.
    pub(in crate::session::pooled) async fn lend(
        &mut self,
        client: &mut Stream,
        record: &mut SessionRecord,
    ) -> Result<Loan, LendError> {
        match self.lend_to(client, record).await {
            Err(LendError::Session(SessionError::ClientGone)) if self.up.ends_with_terminate() => {
                Box::pin(self.lend_without(client, record)).await
            }
            lent => lent,
        }
    }

    /// Its place in the line is gone with its wait.
    async fn lend_without(
        &mut self,
        client: &mut Stream,
        record: &mut SessionRecord,
    ) -> Result<Loan, LendError> {
        let mut early = BytesMut::new();
        let held = Held::new(client, &mut early, record, &self.house, &self.endpoint);
        let mut held = held.without_client();
        let place: Option<Place<'_, Pending<Permit>>> = None;
        self.lend_held(&mut held, (None, place), record).await
    }
}
