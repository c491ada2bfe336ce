//! A few clients that take turns, written by hand: played on Postgres itself, then through pgwake message by message,
//! byte by byte and in as few writes as there can be. What is told must be the same each time.

use std::collections::VecDeque;

use tokio_postgres::Client;

use super::{
    act::{Act, Batch, Step},
    line::{Way, Who},
    play::{Beside, Order, Side, Taken, record, replay},
    pooled::{Pooled, pool},
    said::Said,
};
use crate::harness::{
    postgres::{Postgres, SUPERUSER, Version},
    raw::Message,
};

/// In how many pieces a script is written.
const WAYS: [Way; 4] = [Way::Whole, Way::Messages, Way::Bytes, Way::Together];

/// Said by everybody in the end: what a client was told too much shows itself.
const THE_END: &str = "select 'the end'";

/// What clients do in which order. They come in when they first do something, and leave in the end.
pub(crate) struct Script {
    endpoint: String,
    sessions: usize,
    before: String,
    whos: Vec<Who>,
    steps: Vec<Step>,
}

/// What was told to each step, on Postgres itself.
pub(crate) struct Played {
    taken: Vec<Taken>,
}

impl Script {
    /// On an endpoint with so many server sessions.
    pub(crate) fn new(endpoint: &str, sessions: usize) -> Self {
        Self {
            endpoint: endpoint.to_owned(),
            sessions,
            before: String::new(),
            whos: Vec::new(),
            steps: Vec::new(),
        }
    }

    /// What is done on Postgres before each time; it must not mind what an earlier time left.
    pub(crate) fn before(mut self, sql: &str) -> Self {
        self.before.push_str(sql);
        self.before.push(';');
        self
    }

    /// Who the next client is; the superuser where it is not said.
    pub(crate) fn who(mut self, who: Who) -> Self {
        self.whos.push(who);
        self
    }

    pub(crate) fn act(mut self, client: usize, act: Act) -> Self {
        self.steps.push(Step { client, act });
        self
    }

    pub(crate) fn say(self, client: usize, said: impl IntoIterator<Item = Said>) -> Self {
        self.act(client, Act::say(said))
    }

    pub(crate) fn query(self, client: usize, sql: &str) -> Self {
        self.act(client, Act::query(sql))
    }

    /// Where it may be told this SQLSTATE instead.
    pub(crate) fn query_or(self, client: usize, sql: &str, sqlstate: &'static str) -> Self {
        self.act(client, Act::Say(Batch::query(sql).or_error(sqlstate)))
    }

    /// One after another.
    pub(crate) fn queries(self, client: usize, all: &[&str]) -> Self {
        all.iter().fold(self, |script, sql| script.query(client, sql))
    }

    /// Plays it in every way; panics where anything is told that Postgres does not tell.
    pub(crate) async fn play(self) -> Played {
        let postgres = Postgres::start(Version::Debian).await;
        // pgwake asks for functions when it first comes.
        prepare(&postgres.connect().await, &self.before).await;
        let pooled = Pooled::with(postgres, &[(&self.endpoint, &pool(self.sessions, ""))]).await;
        self.play_on(&pooled).await
    }

    /// The same where an endpoint is there already.
    pub(crate) async fn play_on(self, pooled: &Pooled) -> Played {
        let (whos, steps) = (self.everybody(), self.whole());
        let beside = pooled.postgres.connect().await;
        prepare(&beside, &self.before).await;
        let direct = Side::new(pooled.postgres.socket(), Beside::at(&pooled.postgres));
        let taken = record(&direct, &whos, Order::Given(steps)).await;
        let taken = taken.unwrap_or_else(|step| panic!("Postgres itself fails at {step:?}"));
        let side = Side::new(pooled.socket(&self.endpoint), Beside::at(&pooled.postgres));
        for way in WAYS {
            prepare(&beside, &self.before).await;
            if let Err(difference) = replay(&side, &whos, &taken, way).await {
                panic!("{difference:?}");
            }
        }
        Played { taken }
    }

    fn everybody(&self) -> Vec<Who> {
        let last = self.steps.iter().map(|step| step.client).max().unwrap_or(0);
        let one = |client| {
            self.whos
                .get(client)
                .cloned()
                .unwrap_or_else(|| Who::new(SUPERUSER, "postgres"))
        };
        (0..=last).map(one).collect()
    }

    /// With everybody's coming and leaving.
    fn whole(&self) -> VecDeque<Step> {
        let mut there = Vec::new();
        let mut all = VecDeque::new();
        for step in &self.steps {
            if !there.contains(&step.client) && step.act != Act::Enter {
                all.push_back(Step {
                    client: step.client,
                    act: Act::Enter,
                });
            }
            there.push(step.client);
            if matches!(step.act, Act::Leave { .. }) {
                there.retain(|client| *client != step.client);
            }
            all.push_back(step.clone());
        }
        there.sort_unstable();
        there.dedup();
        for client in there {
            for act in [Act::query(THE_END), Act::Leave { says_so: true }] {
                all.push_back(Step { client, act });
            }
        }
        all
    }
}

async fn prepare(beside: &Client, sql: &str) {
    beside.batch_execute(sql).await.unwrap();
}

impl Played {
    /// What a client was told in all, coming in, the end and leaving aside.
    pub(crate) fn told(&self, client: usize) -> Vec<Message> {
        let counts = |act: &Act| matches!(act, Act::Say(_)) && *act != Act::query(THE_END);
        let own = self
            .taken
            .iter()
            .filter(|one| one.step.client == client && counts(&one.step.act));
        own.flat_map(|one| one.told.clone()).collect()
    }
}
