//! The greeting: ParameterStatus, the cancel key, ReadyForQuery.
//!
//! From memory where it is known to be true: a greeting like this was seen, and the compute is not ready, or a session
//! of the same pool lives. Otherwise a session is borrowed first, because a dropped database, a revoked right or a
//! refused setting must fail now and not at the first statement.

use bytes::BytesMut;
use tokio::time::Instant;

use super::{Pooled, lend::LendError, turn::Unserved};
use crate::config::WakeOn;
use crate::pool::LoginError;
use crate::session::{
    end_with,
    error::SessionError,
    let_in,
    record::{Outcome, SessionRecord, Step},
    say_goodbye, say_to,
    turn::said_by_server,
};
use crate::tls::Stream;
use crate::wire::say;

impl Pooled {
    /// Greets the client, or tells it why it cannot be served. Not cancel safe.
    pub(super) async fn greet(
        &mut self,
        client: &mut Stream,
        record: &mut SessionRecord,
    ) -> Result<(), Outcome> {
        match self.remembered_greeting() {
            Some(greeting) => self.believed = greeting,
            None => {
                let_in(client, &mut self.welcome).await?;
                self.first_session(client, record).await?;
            }
        }
        let mut greeting = BytesMut::from(&*std::mem::take(&mut self.welcome));
        let told_before = greeting.len();
        self.believed.tell_all(&mut greeting);
        say::backend_key_data(self.cancel.key(), &mut greeting);
        say::ready_idle(&mut greeting);
        self.bytes_down += (greeting.len() - told_before) as u64;
        if say_to(client, &greeting).await {
            self.is_greeted = true;
            record.came_in(&self.house.metrics);
            return Ok(());
        }
        Err(Outcome::of(&SessionError::ClientGone))
    }

    fn remembered_greeting(&self) -> Option<crate::session::reported::Reported> {
        let mut greeting = self.pooling.greeting(&self.beginning.key)?;
        match self.house.wakes.awake(&self.endpoint.name) {
            Some((_, generation)) if !self.pooling.pool.has_live(&self.beginning.key, generation) => {
                return None;
            }
            Some(_) => (),
            None if self.endpoint.pool.wake_on == WakeOn::Connect && self.weight.counts() => self.wake(),
            None => (),
        }
        greeting.note_application(&self.beginning.application);
        Some(greeting)
    }

    /// The wake goes on without anybody who waits for it.
    fn wake(&self) {
        let deadline = Instant::now() + self.endpoint.hold_timeout;
        let wakes = &self.house.wakes;
        // Who is refused a wake hears of it with its first statement.
        drop(wakes.wake_for(self.as_client(), &self.endpoint.name, deadline));
    }

    /// Borrows a session, and believes what its server says.
    async fn first_session(
        &mut self,
        client: &mut Stream,
        record: &mut SessionRecord,
    ) -> Result<(), Outcome> {
        let brought = self.brought(client, record).await;
        record.step_ended(Step::Connect);
        let turn = match brought {
            Ok(turn) => turn,
            Err(Unserved::Unlent(error)) => return Err(Box::pin(self.turn_away(client, error, record)).await),
            Err(Unserved::Unbrought(error)) => return Err(self.end_for(client, error, record).await),
        };
        self.believed.follow(&turn.loan.session.carried.reported);
        self.keep(turn).await;
        Ok(())
    }

    /// There is no session: the client cannot come in.
    async fn turn_away(&mut self, client: &mut Stream, error: LendError, record: &SessionRecord) -> Outcome {
        if let Some(over) = error.over_limit() {
            self.house.tell_over(over, record).await;
        }
        match error {
            LendError::Login(error) => self.end_for_login(client, error, record).await,
            LendError::Session(SessionError::ClientGone) => Outcome::of(&SessionError::ClientGone),
            LendError::Session(error) => self.end(client, &error, record).await,
            LendError::Wake(error) => {
                say_goodbye(client, &error, record.id).await;
                Outcome::failed(&error)
            }
        }
    }

    /// The server does not let the client in: in its own words where it had any, but for a password that was changed
    /// while the client stayed.
    pub(super) async fn end_for_login(
        &mut self,
        client: &mut Stream,
        error: LoginError,
        record: &SessionRecord,
    ) -> Outcome {
        self.house.not_let_in(&self.endpoint, &error);
        if self.is_greeted && error.is_about_the_role() {
            return self.end(client, &SessionError::PasswordChanged, record).await;
        }
        if let LoginError::Refused { fields, message } = &error {
            end_with(client, message).await;
            return said_by_server(fields);
        }
        say_goodbye(client, &error, record.id).await;
        Outcome::failed(&error)
    }
}
