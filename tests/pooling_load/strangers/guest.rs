//! One client that sets what its statements mean, in every way there is, and looks whether they still mean it.

use std::{fmt, pin::pin};

use futures_util::TryStreamExt;
use rand::{RngExt, rngs::StdRng, seq::IndexedRandom};
use tokio::{sync::RwLock, time::sleep};
use tokio_postgres::{Client, Config, Error, SimpleQueryMessage, Statement, types::Type};

use super::marks::{Kind, LOOK, Marks, Tenant, name};
use crate::pooling_load::{
    chance::up_to,
    client::{Heard, Listed, Session, Told, bounded},
    course::Course,
    pooled::Pooled,
};

/// What a client may be told whose server session is ended; before its BEGIN was answered, that is no end.
const LISTED: Listed = Listed {
    over: &["57P01", "08006", "08007"],
    goes_on: &["57P01"],
};

/// What guests saw.
#[derive(Default)]
pub(super) struct Sightings {
    /// How often they looked.
    pub(super) looks: usize,
    /// How often that was on another server session than the time before.
    pub(super) moves: usize,
    /// What was not theirs.
    pub(super) strange: Vec<String>,
    /// The errors.
    pub(super) heard: Heard,
}

pub(super) struct Guest {
    number: u64,
    random: StdRng,
    /// How many values it has made up.
    values: u64,
    marks: Marks,
    seat: Option<Seat>,
    pid: Option<String>,
    pub(super) seen: Sightings,
}

/// A session and what was prepared on it.
pub(super) struct Seat {
    pub(super) session: Session,
    look: Statement,
    copy: Statement,
    /// What is not there any more. Dropped, the driver would close each, and not tell anybody what comes in place of the
    /// answer to that.
    gone: Vec<Statement>,
}

/// How a transaction ends.
#[derive(Clone, Copy)]
enum End {
    Commit,
    RollBack,
    /// An error, then a rollback.
    Fail,
}

impl Sightings {
    /// Adds another's.
    pub(super) fn merge(&mut self, other: Self) {
        self.looks += other.looks;
        self.moves += other.moves;
        self.strange.extend(other.strange);
        self.heard.merge(other.heard);
    }
}

impl fmt::Display for Sightings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} looks, {} on another session than before",
            self.looks, self.moves
        )?;
        self.heard.fmt(f)
    }
}

impl Seat {
    pub(super) async fn of(session: Session) -> Result<Self, (Session, Error)> {
        match bounded("statements to be prepared", prepare(&session.client)).await {
            Ok((look, copy)) => Ok(Self {
                session,
                look,
                copy,
                gone: Vec::new(),
            }),
            Err(error) => Err((session, error)),
        }
    }

    async fn prepare_again(&mut self) -> Result<(), Error> {
        let (look, copy) = prepare(&self.session.client).await?;
        self.gone.push(std::mem::replace(&mut self.look, look));
        self.gone.push(std::mem::replace(&mut self.copy, copy));
        Ok(())
    }
}

async fn prepare(client: &Client) -> Result<(Statement, Statement), Error> {
    let look = client.prepare(LOOK).await?;
    let copy = client.prepare(&format!("copy ({LOOK}) to stdout")).await?;
    Ok((look, copy))
}

impl Guest {
    pub(super) fn new(number: u64, random: StdRng) -> Self {
        Self {
            number,
            random,
            values: 0,
            marks: Marks::at_startup(number),
            seat: None,
            pid: None,
            seen: Sightings::default(),
        }
    }

    /// Comes in again and again while the test goes on.
    pub(super) async fn stay(mut self, pooled: &Pooled, traffic: &RwLock<()>, course: &Course) -> Sightings {
        while course.goes_on() {
            let looks = self.seen.looks;
            let busy = bounded("the end of a quiet moment", traffic.read()).await;
            if let Some(mut seat) = self.seat.take() {
                match bounded("what a guest does", self.act(&mut seat)).await {
                    Ok(()) => self.seat = Some(seat),
                    Err(error) => {
                        let told = seat.session.told(&error).await;
                        self.seen.heard.note("at work", &told, &LISTED);
                    }
                }
            } else if let Err(told) = self.come_in(pooled).await {
                self.seen.heard.note("coming in", &told, &LISTED);
            }
            drop(busy);
            (looks..self.seen.looks).for_each(|_| course.worked());
            // Not to wait for anything: others are to have the server session meanwhile.
            sleep(up_to(&mut self.random, 20)).await;
        }
        self.seen
    }

    async fn come_in(&mut self, pooled: &Pooled) -> Result<(), Told> {
        let config = self.config(pooled);
        let session = Session::connect(&config, &pooled.gateway.authority).await?;
        let (mut session, error) = match Seat::of(session).await {
            Ok(mut seat) => match bounded("what a guest sets at first", self.begin(&seat)).await {
                Ok(()) => {
                    self.seat = Some(seat);
                    return Ok(());
                }
                Err(error) => return Err(seat.session.told(&error).await),
            },
            Err(failed) => failed,
        };
        Err(session.told(&error).await)
    }

    fn config(&self, pooled: &Pooled) -> Config {
        let mut config = pooled.config();
        if Kind::of(self.number) == Kind::Born {
            let name = name(self.number);
            config
                .application_name(format!("{name}.0"))
                .options(format!("-c search_path={name}_a -c app.tenant_id={name}.0"));
        }
        config
    }

    /// The first thing on a session.
    pub(super) async fn begin(&mut self, seat: &Seat) -> Result<(), Error> {
        self.marks = Marks::at_startup(self.number);
        if Kind::of(self.number) == Kind::Dressed {
            self.brand(&seat.session.client).await?;
            self.call_itself(&seat.session.client).await?;
            self.move_in(&seat.session.client).await?;
            self.change_roles(&seat.session.client).await?;
        }
        Ok(())
    }

    /// One turn or several.
    pub(super) async fn act(&mut self, seat: &mut Seat) -> Result<(), Error> {
        let is_bare = Kind::of(self.number) == Kind::Bare;
        match self.random.random_range(0..12) {
            0..6 => self.look(seat).await,
            6 if is_bare => self.transaction(seat, End::Commit).await,
            _ if is_bare => self.look(seat).await,
            6..9 => self.change(&seat.session.client).await,
            9 => {
                let ends = [End::Commit, End::RollBack, End::Fail];
                let end = *ends.choose(&mut self.random).unwrap();
                self.transaction(seat, end).await
            }
            10 => self.for_a_transaction(seat).await,
            _ => self.start_over(seat).await,
        }
    }

    async fn look(&mut self, seat: &Seat) -> Result<(), Error> {
        let client = &seat.session.client;
        let ways = ["text", "unnamed", "prepared", "copied"];
        let way = *ways.choose(&mut self.random).unwrap();
        let row: Vec<Option<String>> = match way {
            "text" => texts(&client.simple_query(LOOK).await?),
            "copied" => copied(seat).await?,
            _ => {
                let rows = match way {
                    "unnamed" => client.query_typed(LOOK, &[]).await?,
                    _ => client.query(&seat.look, &[]).await?,
                };
                (0..rows[0].len()).map(|column| rows[0].get(column)).collect()
            }
        };
        self.seen.looks += 1;
        let pid = row.last().cloned().flatten();
        self.seen.moves += usize::from(self.pid.is_some() && self.pid != pid);
        self.pid = pid;
        if !self.marks.are_shown_by(&row) {
            let (guest, marks) = (name(self.number), &self.marks);
            self.seen
                .strange
                .push(format!("{guest} ({way}): has {marks:?}, sees {row:?}"));
        }
        Ok(())
    }

    /// A value that nobody has had.
    fn value(&mut self) -> String {
        self.values += 1;
        format!("{}.{}", name(self.number), self.values)
    }

    async fn change(&mut self, client: &Client) -> Result<(), Error> {
        match self.random.random_range(0..4) {
            0 => self.brand(client).await,
            1 => self.call_itself(client).await,
            2 => self.move_in(client).await,
            _ => self.change_roles(client).await,
        }
    }

    async fn brand(&mut self, client: &Client) -> Result<(), Error> {
        let tenant = self.value();
        match self.random.random_range(0..4) {
            0 => {
                let sql = format!("set app.tenant_id = '{tenant}'");
                client.batch_execute(&sql).await?;
            }
            1 => {
                let sql = "select set_config('app.tenant_id', $1, false)";
                client.query_typed(sql, &[(&tenant, Type::TEXT)]).await?;
            }
            // No word of this statement says what it does.
            2 => {
                let sql = format!("select public.brand('{tenant}')");
                client.batch_execute(&sql).await?;
            }
            _ => {
                let sql = format!("do $$begin perform set_config('app.tenant_id', '{tenant}', false); end$$");
                client.batch_execute(&sql).await?;
            }
        }
        self.marks.tenant = Tenant::Is(tenant);
        Ok(())
    }

    async fn call_itself(&mut self, client: &Client) -> Result<(), Error> {
        let application = self.value();
        client
            .batch_execute(&format!("set application_name = '{application}'"))
            .await?;
        self.marks.application = application;
        Ok(())
    }

    async fn move_in(&mut self, client: &Client) -> Result<(), Error> {
        let house = ["a", "b"].choose(&mut self.random).unwrap();
        let schema = format!("{}_{house}", name(self.number));
        client
            .batch_execute(&format!("set search_path to {schema}, public"))
            .await?;
        self.marks.schema = schema;
        Ok(())
    }

    async fn change_roles(&mut self, client: &Client) -> Result<(), Error> {
        let roles = [name(self.number), "guests".to_owned()];
        let role = roles
            .choose(&mut self.random)
            .filter(|_| self.marks.role.is_none())
            .cloned();
        let sql = role
            .as_ref()
            .map_or("reset role".into(), |role| format!("set role {role}"));
        client.batch_execute(&sql).await?;
        self.marks.role = role;
        Ok(())
    }

    /// What is set in a transaction lasts if the transaction does.
    async fn transaction(&mut self, seat: &mut Seat, end: End) -> Result<(), Error> {
        let before = self.marks.clone();
        seat.session.client.batch_execute("begin").await?;
        if Kind::of(self.number) != Kind::Bare {
            self.change(&seat.session.client).await?;
        }
        self.look(seat).await?;
        let client = &seat.session.client;
        if matches!(end, End::Commit) {
            return client.batch_execute("commit").await;
        }
        if matches!(end, End::Fail) {
            match client.batch_execute("select 1 / 0").await {
                Err(error) if error.code().is_some_and(|code| code.code() == "22012") => (),
                other => return other,
            }
        }
        client.batch_execute("rollback").await?;
        self.marks = before;
        Ok(())
    }

    /// What is set for a transaction ends with it.
    async fn for_a_transaction(&mut self, seat: &mut Seat) -> Result<(), Error> {
        let before = self.marks.clone();
        seat.session.client.batch_execute("begin").await?;
        let tenant = self.value();
        let sql = match self.random.random_range(0..2) {
            0 => format!("set local app.tenant_id = '{tenant}'"),
            _ => format!("select set_config('app.tenant_id', '{tenant}', true)"),
        };
        seat.session.client.batch_execute(&sql).await?;
        self.marks.tenant = Tenant::Is(tenant);
        self.look(seat).await?;
        seat.session.client.batch_execute("commit").await?;
        self.marks = before;
        Ok(())
    }

    /// Back to what it came with.
    async fn start_over(&mut self, seat: &mut Seat) -> Result<(), Error> {
        let startup = Marks::at_startup(self.number);
        let role = self.marks.role.take();
        self.marks = Marks {
            tenant: match startup.tenant {
                Tenant::Never => Tenant::Reset,
                other => other,
            },
            ..startup
        };
        if self.random.random_range(0..2) == 0 {
            seat.session.client.batch_execute("reset all").await?;
            self.marks.role = role;
        } else {
            seat.session.client.batch_execute("discard all").await?;
            seat.prepare_again().await?;
        }
        Ok(())
    }
}

/// The first row of a simple Query's answer.
fn texts(messages: &[SimpleQueryMessage]) -> Vec<Option<String>> {
    let mut rows = messages.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let row = rows.next().unwrap();
    (0..row.len())
        .map(|column| row.get(column).map(ToOwned::to_owned))
        .collect()
}

/// The look as COPY gives it.
async fn copied(seat: &Seat) -> Result<Vec<Option<String>>, Error> {
    let mut stream = pin!(seat.session.client.copy_out(&seat.copy).await?);
    let chunks: Vec<bytes::Bytes> = stream.as_mut().try_collect().await?;
    // To the driver that is its end: what ends the session before the statement is over, it would tell nobody. What
    // comes in order, CommandComplete and ReadyForQuery, is an error to it as well.
    while let Err(error) = stream.try_next().await
        && !error.is_closed()
    {
        if error.as_db_error().is_some() {
            return Err(error);
        }
    }
    let line = String::from_utf8(chunks.concat()).unwrap();
    let value = |text: &str| (text != "\\N").then(|| text.to_owned());
    Ok(line.trim_end_matches('\n').split('\t').map(value).collect())
}
