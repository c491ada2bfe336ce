//! One case: several clients and what each of them does, all of it out of one seed.

use std::fmt;

use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::{
    pen::Pen,
    twins::{CAREFUL, PLAIN},
};
use crate::pooling::{act::Act, line::Who};

/// At least four times as many as server sessions.
pub(crate) const CLIENTS: usize = 8;
/// What one client does one after the other.
pub(crate) const SEQUENCES: usize = 4;

/// Clients with their scripts.
#[derive(Clone)]
pub(crate) struct Case {
    pub(crate) seed: u64,
    pub(crate) database: &'static str,
    pub(crate) whos: Vec<Who>,
    pub(crate) acts: Vec<Vec<Act>>,
    /// Somebody makes databases and drops them.
    pub(crate) visits: bool,
}

impl Case {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let database = if random.random_bool(0.3) { CAREFUL } else { PLAIN };
        let whos = whos(&mut random, database);
        let script = |(client, who): (usize, &Who)| {
            let mut pen = Pen::new(random.random(), client, who, database == CAREFUL);
            for _ in 0..SEQUENCES {
                pen.sequence();
            }
            pen.script()
        };
        let acts: Vec<Vec<Act>> = whos.iter().enumerate().map(script).collect();
        let visits = acts.iter().flatten().any(|act| matches!(act, Act::Visit { .. }));
        Self {
            seed,
            database,
            whos,
            acts,
            visits,
        }
    }

    /// How many acts there are.
    pub(crate) fn len(&self) -> usize {
        self.acts.iter().map(Vec::len).sum()
    }
}

/// Mostly alike, so that they share their sessions; else of two kinds.
fn whos(random: &mut StdRng, database: &str) -> Vec<Who> {
    let kinds = [kind(random, database), kind(random, database)];
    let is_mixed = random.random_bool(0.2);
    let one = |_| {
        let of = if is_mixed { random.random_range(0..2) } else { 0 };
        let who = kinds[of].clone();
        // Not among what sets sessions apart.
        match random.random_range(0..4) {
            0 => who.with("application_name", "first"),
            1 => who.with("application_name", "second"),
            _ => who,
        }
    };
    (0..CLIENTS).map(one).collect()
}

fn kind(random: &mut StdRng, database: &str) -> Who {
    let user = ["alice", "alice", "bob", "postgres"][random.random_range(0..4)];
    let who = Who::new(user, database);
    match random.random_range(0..10) {
        0 => who.with("DateStyle", "German"),
        1 => who.with("options", "-c intervalstyle=iso_8601 -c search_path=kit,public"),
        2 => who.with("client_encoding", "LATIN1"),
        3 => who
            .with("TimeZone", "America/New_York")
            .with("extra_float_digits", "2"),
        4 => who.with("options", "-c app.mark=mine"),
        _ => who,
    }
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}, database {}", self.seed, self.database)?;
        for (client, (who, acts)) in self.whos.iter().zip(&self.acts).enumerate() {
            if acts.len() <= 1 {
                continue;
            }
            writeln!(f, "client {client}, {} {:?}", who.user, who.parameters)?;
            for act in acts {
                writeln!(f, "    {act:?}")?;
            }
        }
        Ok(())
    }
}
