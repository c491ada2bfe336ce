//! One turn: a server session is borrowed for a client, relayed with until it may be given back, and given
//! back. In session pooling there is one turn per stay, and giving back is closing.

use std::{pin::pin, sync::Arc};

use bytes::{Bytes, BytesMut};

use super::{
    House,
    checkout::{Checkout, CheckoutError},
    end_with,
    error::SessionError,
    exchange::{Exchange, Loss, Refusals, Touched, TransactionRate},
    hold::Held,
    idling::{Ending, IdleWatch, Rest},
    lane::Lane,
    record::{EndedBy, Outcome, SessionRecord},
    relay::{End, IdleReports, Relay, Sides},
    roster::Passed,
    say_goodbye, say_to,
    standing::Standing,
    words::Tags,
};
use crate::auth::Authenticated;
use crate::cancel::{Registration, SecretLength, Target};
use crate::error::{ClientError, Fault};
use crate::ids::EndpointName;
use crate::pool::{LoginError, ServerSession};
use crate::shutdown::Phase;
use crate::tenant::quota::{ClientPermit, Paced};
use crate::tls::Stream;
use crate::wake::{AwakeLease, WakeError, Weight};
use crate::wire::frame::{Broken, Sender};
use crate::wire::reply::ErrorFields;
use crate::wire::say;

/// A client that may be served.
pub(super) struct Turn<'a> {
    pub(super) house: &'a Arc<House>,
    pub(super) who: &'a Authenticated,
    /// How long the secret of its cancel key is.
    pub(super) secret_length: SecretLength,
    pub(super) permit: &'a ClientPermit,
}

impl Turn<'_> {
    /// Serves the client until its stay is over. The server gets `parameters` at its startup. Not cancel safe: the
    /// stream is given up with it.
    pub(super) async fn take(
        &self,
        client: &mut Stream,
        parameters: Vec<(Bytes, Bytes)>,
        (standing, record): (&mut Standing, &mut SessionRecord),
    ) -> Outcome {
        let mut early = BytesMut::new();
        let mut held = Held::new(client, &mut early, record, self.house, &self.who.endpoint);
        let checkout = Checkout {
            house: self.house,
            who: self.who,
            permit: self.permit,
            parameters: &parameters,
        };
        let (lease, server, _counted) = match Box::pin(checkout.run(&mut held, record)).await {
            Ok(lent) => lent,
            Err(error) => {
                self.tell_over(&error, record).await;
                return refuse(client, record, error).await;
            }
        };
        drop(parameters);
        self.serve((client, early), &lease, server, (standing, record))
            .await
    }

    async fn serve(
        &self,
        (client, early): (&mut Stream, BytesMut),
        lease: &AwakeLease,
        mut server: ServerSession,
        (standing, record): (&mut Standing, &mut SessionRecord),
    ) -> Outcome {
        let target = server.key.take().map(|server_key| Target {
            endpoint: self.who.endpoint.name.clone(),
            address: lease.address().clone(),
            server_key,
        });
        if let Some(target) = &target {
            lease.works_at(target.server_key.pid);
        }
        let cancels = &self.house.cancels;
        let registration = target
            .as_ref()
            .map(|target| cancels.register(target, self.secret_length));
        if !greet(client, &mut server, registration.as_ref()).await {
            server.close().await;
            return Outcome::of(&SessionError::ClientGone);
        }
        record.came_in(&self.house.metrics);
        if let (Some(listed), Some(registration)) = (record.listed(), &registration) {
            listed.set_key(registration.key());
        }
        let reports = IdleReports::of(&self.who.endpoint, lease);
        let touched = |touched: Touched| self.touched(touched);
        let mut rate = TransactionRate::new(self.permit.meter(Paced::Transactions), record.id);
        let refusals = Refusals::default();
        let mut exchange = Exchange::new(&touched, None).limited_to(&mut rate, &refusals);
        let mut up = Lane::new(Sender::Client).paced(self.permit.meter(Paced::BytesIn));
        let mut down = Lane::new(Sender::Server).paced(self.permit.meter(Paced::BytesOut));
        up.push(&early);
        down.push(&std::mem::take(&mut server.early));
        drop(early);
        let sides = Sides {
            client,
            server: &mut server.stream,
            up: &mut up,
            down: &mut down,
        };
        let mut relay = Relay::new(sides, &mut exchange, reports)
            .until(Ending::of(self.who.ends_at, self.permit.times()))
            .watched(IdleWatch::of(self.permit.times()))
            .standing(standing)
            .listed(record.listed(), Passed::default());
        let mut shutdown = record.shutdown(self.house);
        let end = {
            let relay = pin!(relay.run(lease, &mut shutdown));
            self.house.relayed(relay, &refusals, record).await
        };
        drop(relay);

        record.passed = Passed {
            bytes_in: up.bytes(),
            bytes_out: down.bytes(),
            queries: exchange.queries(),
        };
        let last = Last::of(&exchange, &down);
        drop(registration);
        if end.is_loss_of_server() {
            self.house.roles.lost_sight(&self.who.endpoint.name);
        }
        let abandoned = end.leaves_server_behind() && last.is_running;
        // Inside a message that its client will never end a Terminate would be read as the end of that message.
        let server_takes_messages = up.is_between_messages();
        let outcome = finish(client, end, last, &self.who.endpoint.name, record).await;
        if let Some(target) = target.filter(|_| abandoned) {
            self.abandon(&target).await;
        }
        if server_takes_messages {
            server.close().await;
        }
        outcome
    }

    /// Where it was for a limit that there is no session.
    async fn tell_over(&self, error: &CheckoutError, record: &SessionRecord) {
        if let CheckoutError::OverLimit(over) | CheckoutError::Wake(WakeError::OverLimit(over)) = error {
            self.house.tell_over(over, record).await;
        }
    }

    /// What was committed concerns others: who logs in, and the clients of transaction pooling.
    fn touched(&self, touched: Touched) {
        if touched.roles {
            self.house.roles.changed(&self.who.endpoint);
        }
        let Some(pooling) = self.house.pooling.get(&self.who.endpoint.name) else {
            return;
        };
        if touched
            .tags
            .has(Tags::ROLES | Tags::DATABASE | Tags::ALTER_SYSTEM)
        {
            pooling.changed();
        }
        if touched.tags.has(Tags::FUNCTION_DDL | Tags::CALLING_DDL) {
            pooling.forget_databases();
        }
        if touched.tags.change_texts() {
            pooling.texts.renew();
        }
    }

    /// Cancels what still runs for a client that has left; not beyond the end of pgwake.
    async fn abandon(&self, target: &Target) {
        let mut shutdown = self.house.shutdown.clone();
        tokio::select! {
            () = self.house.cancels.deliver(target) => (),
            () = shutdown.reached(Phase::Stopping) => (),
        }
    }
}

/// How things stood when the relay ended.
pub(super) struct Last {
    loss: Loss,
    fatal: Option<ErrorFields>,
    is_running: bool,
    client_takes_messages: bool,
}

impl Last {
    /// Of an exchange whose answers went through `down`.
    pub(super) fn of(exchange: &Exchange<'_>, down: &Lane) -> Self {
        Self {
            loss: exchange.loss(),
            fatal: exchange.fatal().cloned(),
            is_running: !exchange.expected.is_answered(),
            client_takes_messages: down.is_between_messages(),
        }
    }
}

/// Tells the client why the relay ended, where that was not its own doing.
pub(super) async fn finish(
    client: &mut Stream,
    end: End,
    last: Last,
    endpoint: &EndpointName,
    record: &SessionRecord,
) -> Outcome {
    let lost = |reason: String| SessionError::ServerLost {
        reason,
        loss: last.loss,
    };
    let error = match (end, last.fatal) {
        (End::Terminated, _) => return Outcome::ended(),
        (End::ServerClosed | End::ComputeLost(_), Some(fatal)) => {
            // Passed on already: the client need only be given the time to read it.
            end_with(client, &[]).await;
            return said_by_server(&fatal);
        }
        (End::ServerClosed, None) => lost("the server closed the connection".into()),
        (End::ServerBroken, _) => lost("the server sent what is no message".into()),
        (End::ComputeLost(reason), None) => lost(reason.to_string()),
        (End::ClientGone, _) => return Outcome::of(&SessionError::ClientGone),
        (End::ClientBroken(Broken::Tag(tag)), _) => SessionError::UnknownMessage(tag),
        (End::ClientBroken(Broken::Length), _) => SessionError::BadLength,
        (end @ (End::IdleEnded | End::CutOff), _) => {
            let endpoint = endpoint.clone();
            match record.weight {
                Weight::Counts => SessionError::IdleEnded { endpoint },
                Weight::Ignored(by) => SessionError::Ignored {
                    endpoint,
                    by,
                    open: matches!(end, End::CutOff).then_some(last.loss),
                },
            }
        }
        (End::Dismissed(dismissal), _) => dismissal.error(endpoint),
        (End::Expired(Ending::Token), _) => SessionError::TokenExpired,
        (End::Expired(Ending::Age(limit)), _) => SessionError::TooOld { limit },
        (End::Idled(Rest::Idle, limit), _) => SessionError::IdleTooLong { limit },
        (End::Idled(_, limit), _) => SessionError::IdleInTransactionTooLong { limit },
        (End::ShutDown, _) => record.ending(),
        (End::Released | End::Gate | End::BeginFailed | End::Unheard, _) => {
            unreachable!("only a turn of transaction pooling ends so")
        }
    };
    if last.client_takes_messages {
        say_goodbye(client, &error, record.id).await;
    }
    Outcome::of(&error)
}

/// Passes on what the server has said, with a cancel key of our own. `false`: the client does not take it.
async fn greet(client: &mut Stream, server: &mut ServerSession, key: Option<&Registration>) -> bool {
    let mut greeting = BytesMut::from(std::mem::take(&mut server.greeting));
    if let Some(registration) = key {
        say::backend_key_data(registration.key(), &mut greeting);
    }
    say::ready_idle(&mut greeting);
    say_to(client, &greeting).await
}

/// The server ended the session itself, and the client has read why.
pub(super) fn said_by_server(fatal: &ErrorFields) -> Outcome {
    Outcome {
        sqlstate: fatal.sqlstate.clone().into(),
        what: format!("server ended the session: {} {}", fatal.sqlstate, fatal.message),
        fault: None,
        by: EndedBy::Server,
    }
}

/// There is no server session: the client is told why, in the server's own words where it had any.
async fn refuse(client: &mut Stream, record: &SessionRecord, error: CheckoutError) -> Outcome {
    match error {
        CheckoutError::Session(SessionError::ClientGone) => Outcome::of(&SessionError::ClientGone),
        CheckoutError::Session(error) => {
            say_goodbye(client, &error, record.id).await;
            Outcome::of(&error)
        }
        CheckoutError::OverLimit(error) => refuse_with(client, record, &error).await,
        CheckoutError::Wake(error) => refuse_with(client, record, &error).await,
        CheckoutError::Login(LoginError::Refused { fields, message }) => {
            end_with(client, &message).await;
            // pgwake let it in and the server did not: their rules differ, which is the operator's to repair.
            let fault = fields.sqlstate.starts_with("28").then_some(Fault::Tenant);
            Outcome {
                fault,
                ..said_by_server(&fields)
            }
        }
        CheckoutError::Login(error) => refuse_with(client, record, &error).await,
    }
}

async fn refuse_with(
    client: &mut Stream,
    record: &SessionRecord,
    error: &(impl ClientError + Sync),
) -> Outcome {
    say_goodbye(client, error, record.id).await;
    Outcome::failed(error)
}
