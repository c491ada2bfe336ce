//! Writes what one client does, out of a seed: phrases of one to a few batches, each of which leaves the client
//! outside a transaction.
//!
//! Whether Postgres likes it does not matter; that Postgres would answer it, does. What is told in random places
//! (a stranger's notifications) or differs by its nature (process numbers, clocks) is never asked for.

mod carried;
mod copying;
mod extended;
mod names;
mod pinning;
mod simple;

use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::pooling::{
    act::{Act, Batch},
    line::Who,
    said::Said,
};

type Phrase = fn(&mut Pen);

/// How often each phrase comes, out of the sum of all.
const PHRASES: &[(u32, Phrase)] = &[
    (14, simple::statements),
    (12, simple::transaction),
    (3, simple::nothing),
    (2, simple::function_call),
    (2, simple::large),
    (3, simple::sequences),
    (3, simple::cursor),
    (22, extended::messages),
    (4, extended::over_turns),
    (3, extended::in_sql),
    (8, names::of_both),
    (3, names::beside_settings),
    (3, names::beside_a_path),
    (10, carried::settings),
    (4, carried::in_functions),
    (3, carried::roles),
    (4, carried::sql_statements),
    (8, copying::any),
    (5, pinning::any),
    (2, simple::asleep),
    (1, simple::refused),
    (2, leave),
];

/// Phrases of one sequence.
const PHRASES_MIN: usize = 3;
const PHRASES_MAX: usize = 6;

/// A client's script while it is written.
pub(crate) struct Pen {
    random: StdRng,
    client: usize,
    is_superuser: bool,
    is_careful: bool,
    acts: Vec<Act>,
    /// Names of prepared statements that may be there, and how many values each takes.
    statements: Vec<(String, usize)>,
}

impl Pen {
    pub(crate) fn new(seed: u64, client: usize, who: &Who, is_careful: bool) -> Self {
        Self {
            random: StdRng::seed_from_u64(seed),
            client,
            is_superuser: who.user == "postgres",
            is_careful,
            acts: vec![Act::Enter],
            statements: Vec::new(),
        }
    }

    /// Some phrases, and a look at what the session carries.
    pub(crate) fn sequence(&mut self) {
        let sum: u32 = PHRASES.iter().map(|(weight, _)| weight).sum();
        for _ in 0..self.between(PHRASES_MIN, PHRASES_MAX) {
            let mut at = self.random.random_range(0..sum);
            for (weight, phrase) in PHRASES {
                if at < *weight {
                    phrase(self);
                    break;
                }
                at -= weight;
            }
        }
        if self.chance(0.5) {
            carried::look(self);
        }
    }

    /// All that was written.
    pub(crate) fn script(mut self) -> Vec<Act> {
        self.query("select 'the end'");
        self.acts.push(Act::Leave { says_so: true });
        self.acts
    }

    fn chance(&mut self, probability: f64) -> bool {
        self.random.random_bool(probability)
    }

    /// Both ends included.
    fn between(&mut self, from: usize, to: usize) -> usize {
        self.random.random_range(from..=to)
    }

    fn pick<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.random.random_range(0..of.len())]
    }

    /// One of these texts, `$c` being the client's number.
    fn text(&mut self, of: &[&str]) -> String {
        self.pick(of).replace("$c", &self.client.to_string())
    }

    fn batch(&mut self, batch: Batch) {
        self.acts.push(Act::Say(batch));
    }

    fn say(&mut self, said: Vec<Said>) {
        self.batch(Batch::new(said));
    }

    fn query(&mut self, sql: &str) {
        let sql = sql.replace("$c", &self.client.to_string());
        self.batch(Batch::query(sql));
    }
}

/// The client leaves, inside a transaction or outside, and comes again.
fn leave(pen: &mut Pen) {
    if pen.chance(0.5) {
        pen.query("begin; insert into c$c.items (word) values ('rolled back')");
    }
    pen.query("select 'leaves'");
    let says_so = pen.chance(0.6);
    pen.acts.push(Act::Leave { says_so });
    pen.acts.push(Act::Enter);
    pen.statements.clear();
}
