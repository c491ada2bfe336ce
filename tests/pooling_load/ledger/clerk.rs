//! One client that moves money, in every form in which a transaction can be sent, and believes what it is told.

use std::collections::BTreeMap;

use rand::{RngExt, rngs::StdRng};
use tokio::{sync::RwLock, time::sleep};
use tokio_postgres::{Config, Error, Statement, types::ToSql};

use super::{ACCOUNTS, Outcome};
use crate::pooling_load::{
    chance::up_to,
    client::{Heard, Listed, Session, Told, bounded},
    course::Course,
    pooled::Pooled,
};

/// The session goes on where nothing was done: 57P03, the server could not be had in that moment; 53300, no server
/// session in time; 57P01, it was ended before its BEGIN; and 25P02, which follows from each.
const LISTED: Listed = Listed {
    over: &["57P01", "08006", "08007", "57P03"],
    goes_on: &["57P01", "57P03", "53300", "25P02"],
};
/// Before a client is greeted there is no session that could go on.
const AT_LOGIN: Listed = Listed {
    over: &["57P01", "08006", "08007", "57P03", "53300"],
    goes_on: LISTED.goes_on,
};
/// A session of session pooling is ended where it is idle and its compute is to be suspended; also while it prepares.
const IDLE: Listed = Listed {
    over: &["57P05"],
    goes_on: &[],
};
const IDLE_OR_LOST: Listed = Listed {
    over: &["57P01", "57P05", "08006", "08007", "57P03"],
    goes_on: &["25P02"],
};
const NOTHING: Listed = Listed {
    over: &[],
    goes_on: &[],
};

/// How a transfer is put to the server.
#[derive(Clone, Copy)]
enum Form {
    /// A statement at a time, as text.
    Steps,
    /// All of them in one text.
    Text,
    /// A statement at a time, prepared.
    Prepared,
    /// All at once, without waiting for an answer.
    Pipeline,
    /// One statement that is its own transaction.
    Single,
}

impl Form {
    /// Whether a transaction is still open after an error in it.
    fn leaves_it_open(self) -> bool {
        matches!(self, Self::Steps | Self::Prepared)
    }
}

const FORMS: [Form; 5] = [
    Form::Steps,
    Form::Text,
    Form::Prepared,
    Form::Pipeline,
    Form::Single,
];

/// What clerks were told.
#[derive(Default)]
pub(super) struct Report {
    /// About each transfer.
    pub(super) claims: BTreeMap<i64, Outcome>,
    /// The errors.
    pub(super) heard: Heard,
}

impl Report {
    /// Adds another's.
    pub(super) fn merge(&mut self, other: Self) {
        self.claims.extend(other.claims);
        self.heard.merge(other.heard);
    }
}

pub(super) struct Clerk<'a> {
    pooled: &'a Pooled,
    traffic: &'a RwLock<()>,
    random: StdRng,
    way: Way,
    /// What it may hear at work, and coming in.
    listed: [&'static Listed; 2],
    /// The longest pause between two transfers, in milliseconds.
    pause_millis: u64,
    next_id: i64,
    desk: Option<Desk>,
    report: Report,
}

/// What a clerk's session is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// A server session for each transaction.
    Transactions,
    /// One server session for its stay.
    Sessions,
}

/// What befalls the compute.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Weather {
    /// Suspends alone: whose sessions are lent for a transaction at a time notices nothing.
    Calm,
    /// Its server is lost, too.
    Rough,
}

impl Way {
    fn config(self, pooled: &Pooled) -> Config {
        match self {
            Self::Transactions => pooled.config(),
            Self::Sessions => pooled.gateway.config(pooled.endpoint),
        }
    }

    /// What may be heard at work, and coming in.
    fn listed(self, weather: Weather) -> [&'static Listed; 2] {
        match (self, weather) {
            (Self::Transactions, Weather::Rough) => [&LISTED, &AT_LOGIN],
            (Self::Sessions, Weather::Rough) => [&IDLE_OR_LOST; 2],
            (Self::Transactions, Weather::Calm) => [&NOTHING; 2],
            (Self::Sessions, Weather::Calm) => [&IDLE; 2],
        }
    }
}

/// A session and what was prepared on it.
struct Desk {
    session: Session,
    add: Statement,
    enter: Statement,
    transfer: Statement,
}

/// One transfer.
struct Transfer {
    id: i64,
    debtor: i64,
    creditor: i64,
    amount: i64,
}

/// How far a transfer had come when it failed.
enum Failure {
    /// Nothing that could make it last had been sent.
    Before(Error),
    /// What makes it last was on its way.
    Committing(Error),
}

impl<'a> Clerk<'a> {
    pub(super) fn new(pooled: &'a Pooled, traffic: &'a RwLock<()>, number: u64, random: StdRng) -> Self {
        Self {
            pooled,
            traffic,
            random,
            way: Way::Transactions,
            listed: Way::Transactions.listed(Weather::Rough),
            pause_millis: 0,
            next_id: number.cast_signed() * 1_000_000,
            desk: None,
            report: Report::default(),
        }
    }

    /// One that comes this way, and rests between two transfers for up to so many milliseconds.
    pub(super) fn resting(mut self, way: Way, weather: Weather, pause_millis: u64) -> Self {
        (self.way, self.listed) = (way, way.listed(weather));
        self.pause_millis = pause_millis;
        self
    }

    /// Works while the test goes on.
    pub(super) async fn work(mut self, course: &Course) -> Report {
        while course.goes_on() {
            if self.pause_millis > 0 {
                // Not to wait for anything: it is what the test is about.
                sleep(up_to(&mut self.random, self.pause_millis)).await;
            }
            let _busy = bounded("the end of a quiet moment", self.traffic.read()).await;
            let Some(mut desk) = self.desk.take() else {
                match Desk::open(self.pooled, self.way).await {
                    Ok(desk) => self.desk = Some(desk),
                    Err(told) => {
                        self.report.heard.note("coming in", &told, self.listed[1]);
                        self.rest_after(&told).await;
                    }
                }
                continue;
            };
            if self.transfer(&mut desk, course).await {
                self.desk = Some(desk);
            }
        }
        self.report
    }

    /// Tries one transfer; says whether the session goes on.
    async fn transfer(&mut self, desk: &mut Desk, course: &Course) -> bool {
        let transfer = self.draw();
        let form = FORMS[self.random.random_range(0..FORMS.len())];
        let tried = bounded("a transfer", desk.put(form, &transfer)).await;
        let (when, error, outcome) = match tried {
            Ok(()) => {
                self.report.claims.insert(transfer.id, Outcome::Done);
                course.worked();
                return true;
            }
            Err(Failure::Before(error)) => ("working", error, Outcome::Undone),
            Err(Failure::Committing(error)) => ("committing", error, Outcome::Unknown),
        };
        let told = desk.session.told(&error).await;
        self.report.heard.note(when, &told, self.listed[0]);
        self.rest_after(&told).await;
        // The server itself may have had the COMMIT when it was told to end.
        let is_unknown = told.is_over && ["57P01", "08007"].contains(&&*told.code);
        let outcome = if is_unknown { outcome } else { Outcome::Undone };
        self.report.claims.insert(transfer.id, outcome);
        !told.is_over && (!form.leaves_it_open() || self.roll_back(desk).await)
    }

    /// Not to wait for anything: whom nobody can serve does not ask again at once.
    async fn rest_after(&mut self, told: &Told) {
        if told.code == "57P03" {
            sleep(up_to(&mut self.random, 50)).await;
        }
    }

    fn draw(&mut self) -> Transfer {
        self.next_id += 1;
        let debtor = self.random.random_range(0..ACCOUNTS);
        let creditor = (debtor + self.random.random_range(1..ACCOUNTS)) % ACCOUNTS;
        Transfer {
            id: self.next_id,
            debtor: debtor + 1,
            creditor: creditor + 1,
            amount: self.random.random_range(1..50),
        }
    }

    /// Whether anybody can be served or not: this can be done.
    async fn roll_back(&mut self, desk: &mut Desk) -> bool {
        if let Err(error) = bounded("a rollback", desk.session.client.batch_execute("rollback")).await {
            let told = desk.session.told(&error).await;
            self.report.heard.note("rolling back", &told, &NOTHING);
            return false;
        }
        true
    }
}

impl Desk {
    async fn open(pooled: &Pooled, way: Way) -> Result<Self, Told> {
        let mut session = Session::connect(&way.config(pooled), &pooled.gateway.authority).await?;
        let mut prepared = Vec::new();
        for sql in [
            "update accounts set balance = balance + $2 where id = $1",
            "insert into journal values ($1, $2, $3, $4)",
            "select transfer($1, $2, $3, $4)",
        ] {
            match bounded("a statement to be prepared", session.client.prepare(sql)).await {
                Ok(statement) => prepared.push(statement),
                Err(error) => {
                    let told = session.told(&error).await;
                    // The next try is a session of its own all the same.
                    return Err(Told {
                        is_over: told.is_over,
                        ..told
                    });
                }
            }
        }
        let [add, enter, transfer] = <[Statement; 3]>::try_from(prepared).unwrap();
        Ok(Self {
            session,
            add,
            enter,
            transfer,
        })
    }

    async fn put(&self, form: Form, transfer: &Transfer) -> Result<(), Failure> {
        let client = &self.session.client;
        let [first, second, entry] = transfer.statements();
        match form {
            Form::Steps => {
                for sql in ["begin", &first, &second, &entry] {
                    client.batch_execute(sql).await.map_err(Failure::Before)?;
                }
                client.batch_execute("commit").await.map_err(Failure::Committing)
            }
            Form::Text => {
                let all = format!("begin; {first}; {second}; {entry}; commit");
                client.batch_execute(&all).await.map_err(Failure::Committing)
            }
            Form::Prepared => {
                client.batch_execute("begin").await.map_err(Failure::Before)?;
                self.steps(transfer).await.map_err(Failure::Before)?;
                client.batch_execute("commit").await.map_err(Failure::Committing)
            }
            Form::Pipeline => self.pipeline(transfer).await.map_err(Failure::Committing),
            Form::Single => {
                let done = client.execute(&self.transfer, &transfer.entry()).await;
                done.map(|_| ()).map_err(Failure::Committing)
            }
        }
    }

    async fn steps(&self, transfer: &Transfer) -> Result<(), Error> {
        for (account, amount) in transfer.in_order() {
            self.session
                .client
                .execute(&self.add, &[&account, &amount])
                .await?;
        }
        self.session
            .client
            .execute(&self.enter, &transfer.entry())
            .await
            .map(|_| ())
    }

    /// The first thing that failed tells: a COMMIT after it is answered, too, and commits nothing.
    async fn pipeline(&self, transfer: &Transfer) -> Result<(), Error> {
        let client = &self.session.client;
        let [(first, less), (second, more)] = transfer.in_order();
        let (parameters, more_parameters) = (
            [&first as &(dyn ToSql + Sync), &less],
            [&second as &(dyn ToSql + Sync), &more],
        );
        let entry = transfer.entry();
        let (begun, taken, given, entered, committed) = tokio::join!(
            client.batch_execute("begin"),
            client.execute(&self.add, &parameters),
            client.execute(&self.add, &more_parameters),
            client.execute(&self.enter, &entry),
            client.batch_execute("commit"),
        );
        begun?;
        taken?;
        given?;
        entered?;
        committed
    }
}

impl Transfer {
    /// The accounts and what is added to them, in the one order in which nobody waits for nobody.
    fn in_order(&self) -> [(i64, i64); 2] {
        let mut both = [(self.debtor, -self.amount), (self.creditor, self.amount)];
        both.sort_unstable();
        both
    }

    fn entry(&self) -> [&(dyn ToSql + Sync); 4] {
        [&self.id, &self.debtor, &self.creditor, &self.amount]
    }

    /// The same as text.
    fn statements(&self) -> [String; 3] {
        let [first, second] = self.in_order().map(|(account, amount)| {
            format!("update accounts set balance = balance + {amount} where id = {account}")
        });
        let entry = format!(
            "insert into journal values ({}, {}, {}, {})",
            self.id, self.debtor, self.creditor, self.amount
        );
        [first, second, entry]
    }
}
