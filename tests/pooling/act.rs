//! What a client does: batches of messages, leaving, and what others do meanwhile.

use std::fmt;

use super::said::Said;

/// What is said before an answer is read.
#[derive(Clone, PartialEq, Default)]
pub(crate) struct Batch {
    pub(crate) said: Vec<Said>,
    /// From here on the session must stay the client's.
    pub(crate) pins: bool,
    /// From here on it need not.
    pub(crate) unpins: bool,
    /// The client may read this SQLSTATE in place of the answer, and goes on.
    pub(crate) or_error: Option<&'static str>,
    /// BEGIN, a statement, COMMIT, of which the statement may find no server session: the transaction has failed then.
    pub(crate) or_refused: bool,
    /// The client may be ended with this SQLSTATE in place of the answer.
    pub(crate) or_end: Option<&'static str>,
}

/// One act of a client.
#[derive(Clone, PartialEq)]
pub(crate) enum Act {
    Say(Batch),
    /// Logs in.
    Enter,
    /// Terminate, or nothing but the end of the connection.
    Leave {
        says_so: bool,
    },
    /// Somebody else who is connected to Postgres itself does this.
    Beside(String),
    /// Comes with a second connection to this database, and leaves again.
    Visit {
        database: String,
    },
    /// The compute is suspended, where it can be.
    Doze,
}

/// An act and whose it is.
#[derive(Clone, PartialEq)]
pub(crate) struct Step {
    pub(crate) client: usize,
    pub(crate) act: Act,
}

impl Batch {
    pub(crate) fn new(said: Vec<Said>) -> Self {
        Self {
            said,
            ..Self::default()
        }
    }

    pub(crate) fn query(sql: impl Into<String>) -> Self {
        Self::new(vec![Said::query(sql)])
    }

    pub(crate) fn pins(self) -> Self {
        Self { pins: true, ..self }
    }

    pub(crate) fn unpins(self) -> Self {
        Self { unpins: true, ..self }
    }

    pub(crate) fn or_error(self, sqlstate: &'static str) -> Self {
        Self {
            or_error: Some(sqlstate),
            ..self
        }
    }

    pub(crate) fn or_refused(self) -> Self {
        Self {
            or_refused: true,
            ..self
        }
    }

    pub(crate) fn or_end(self, sqlstate: &'static str) -> Self {
        Self {
            or_end: Some(sqlstate),
            ..self
        }
    }

    /// Whether its words foresee a pin that does not come.
    pub(crate) fn may_pin(&self) -> bool {
        self.or_error == Some("53300")
    }

    /// Whether it is a BEGIN that takes no server session where no transaction is open.
    pub(crate) fn is_deferred_begin(&self) -> bool {
        let [Said::Query(sql)] = &self.said[..] else {
            return false;
        };
        let words = sql.trim();
        let words = words.strip_suffix(';').unwrap_or(words).to_ascii_lowercase();
        let words: Vec<&str> = words.split_whitespace().collect();
        matches!(
            words[..],
            ["begin"] | ["begin", "work" | "transaction"] | ["start", "transaction"]
        )
    }
}

impl Act {
    pub(crate) fn query(sql: impl Into<String>) -> Self {
        Self::Say(Batch::query(sql))
    }

    pub(crate) fn say(said: impl IntoIterator<Item = Said>) -> Self {
        Self::Say(Batch::new(said.into_iter().collect()))
    }
}

impl fmt::Debug for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Say(batch) => {
                write!(f, "{:?}", batch.said)?;
                for (is_so, what) in [(batch.pins, "pins"), (batch.unpins, "unpins")] {
                    if is_so {
                        write!(f, " {what}")?;
                    }
                }
                Ok(())
            }
            Self::Enter => f.write_str("logs in"),
            Self::Leave { says_so } => write!(f, "leaves{}", if *says_so { "" } else { " without a word" }),
            Self::Beside(sql) => write!(f, "somebody else: {sql}"),
            Self::Visit { database } => write!(f, "visits {database}"),
            Self::Doze => f.write_str("while the compute sleeps"),
        }
    }
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "client {}: {:?}", self.client, self.act)
    }
}
