//! What clients ask: the bytes of one request, as libpq would send them.
//!
//! The answer is checked: a proxy that answers wrong rows fast is not fast.

use crate::{
    connection::Answer,
    wire::{put, put_text},
};

/// How many rows `pgbench_accounts` has: one unit of pgbench's scale.
pub(crate) const ACCOUNTS: u64 = 100_000;

/// A statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Statement {
    /// `select 1`
    One,
    /// A row of 1 KiB.
    Kilobyte,
    /// pgbench's select by key.
    Account,
}

/// How it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// Query.
    Simple,
    /// Parse, Bind, Describe, Execute, Sync; unnamed.
    Extended,
    /// Bind, Describe, Execute, Sync of a statement that was prepared once.
    Prepared,
}

/// A statement and how it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Workload {
    pub(crate) statement: Statement,
    pub(crate) protocol: Protocol,
}

impl Statement {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::One => "select 1",
            Self::Kilobyte => "1 KiB row",
            Self::Account => "pgbench select",
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::One => "SELECT 1",
            Self::Kilobyte => "SELECT repeat('x', 1024)",
            Self::Account => "SELECT abalance FROM pgbench_accounts WHERE aid = $1",
        }
    }
}

impl Protocol {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Simple => "simple",
            Self::Extended => "extended",
            Self::Prepared => "prepared",
        }
    }
}

impl Workload {
    /// For people.
    pub(crate) fn name(self) -> String {
        format!("{} {}", self.statement.name(), self.protocol.name())
    }

    /// What a client sends once, before its first request; `None`: nothing.
    pub(crate) fn preparation(self) -> Option<Vec<u8>> {
        (self.protocol == Protocol::Prepared).then(|| {
            let mut out = Vec::new();
            put(&mut out, b'P', |out| self.put_parse(out));
            put(&mut out, b'S', |_| {});
            out
        })
    }

    /// Writes one request over what `out` had.
    pub(crate) fn write(self, out: &mut Vec<u8>, random: &mut Random) {
        out.clear();
        let key = (self.statement == Statement::Account).then(|| 1 + random.below(ACCOUNTS));
        if self.protocol == Protocol::Simple {
            put(out, b'Q', |out| match key {
                Some(key) => put_text(out, &self.statement.text().replace("$1", &key.to_string())),
                None => put_text(out, self.statement.text()),
            });
            return;
        }
        if self.protocol == Protocol::Extended {
            put(out, b'P', |out| self.put_parse(out));
        }
        put(out, b'B', |out| {
            put_text(out, "");
            put_text(out, self.statement_name());
            out.extend([0, 0]);
            match key.map(|key| key.to_string()) {
                None => out.extend([0, 0]),
                Some(key) => {
                    out.extend([0, 1]);
                    out.extend(i32::try_from(key.len()).expect("a number is short").to_be_bytes());
                    out.extend(key.as_bytes());
                }
            }
            out.extend([0, 0]);
        });
        put(out, b'D', |out| out.extend(b"P\0"));
        put(out, b'E', |out| out.extend([0; 5]));
        put(out, b'S', |_| {});
    }

    fn statement_name(self) -> &'static str {
        if self.protocol == Protocol::Prepared {
            "P_0"
        } else {
            ""
        }
    }

    fn put_parse(self, out: &mut Vec<u8>) {
        put_text(out, self.statement_name());
        put_text(out, self.statement.text());
        out.extend([0, 0]);
    }

    /// Whether this is what was asked for.
    pub(crate) fn is_right(self, answer: Answer) -> bool {
        answer.rows == 1 && (self.statement != Statement::Kilobyte || answer.bytes >= 1024)
    }
}

/// A Query message.
pub(crate) fn query(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 6);
    put(&mut out, b'Q', |out| put_text(out, text));
    out
}

/// A small generator of numbers (xorshift64*): the same for the same seed, and no system call.
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn seeded(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Below `limit`.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % limit
    }
}
