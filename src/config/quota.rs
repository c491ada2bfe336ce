//! How much one scope may have: a role, an endpoint, a tenant, the whole process.
//!
//! Plain data; `tenant::quota` holds clients to it. Nothing is limited unless a configuration says so.

use std::{fmt, time::Duration};

use super::{
    Rate, SizeText,
    problem::{Report, Spot, Wrong},
    read::Read,
    size::parse_size,
    tree::{Node, Value},
    value::read_text,
};

/// The limits of one scope. `None`: no limit of its own.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Quota {
    /// Most clients at once that have logged in.
    pub clients_max: Option<usize>,
    /// How many of them only operator roles may be.
    pub operator_reserve: usize,
    /// Most server sessions at once.
    pub server_sessions_max: Option<usize>,
    /// Most computes that pgwake starts and that are awake at once.
    pub computes_awake_max: Option<usize>,
    /// Most clients at once that are held while a compute wakes.
    pub held_clients_max: Option<usize>,
    /// Logins that succeed.
    pub connects: Option<Rate>,
    /// Wakes that clients cause.
    pub wakes: Option<Rate>,
    /// Transactions.
    pub transactions: Option<Rate>,
    /// Bytes from clients.
    pub bytes_in: Option<ByteRate>,
    /// Bytes to clients.
    pub bytes_out: Option<ByteRate>,
    /// How long a session may last.
    pub session_age: Option<Duration>,
    /// How long it may do nothing outside of a transaction.
    pub idle_time: Option<Duration>,
    /// How long it may do nothing within one.
    pub idle_in_transaction_time: Option<Duration>,
}

/// What an endpoint, its tenant and each of its roles may have.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EndpointQuotas {
    /// All endpoints of its tenant together.
    pub per_tenant: Quota,
    /// The endpoint.
    pub per_endpoint: Quota,
    /// Each of its roles.
    pub per_role: Quota,
    /// Roles for which a part of the clients is reserved.
    pub operator_roles: Vec<String>,
}

/// So many bytes in a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteRate(pub usize);

impl ByteRate {
    /// A buffer's worth takes seconds, not hours.
    const LEAST: usize = 4 << 10;
    /// More is no limit that anybody means.
    const MOST: usize = 1 << 40;
}

impl Read for ByteRate {
    fn read(node: &Node, spot: &Spot, report: &mut Report) -> Option<Self> {
        let text = read_text(
            node,
            spot,
            "bytes per second in quotes, such as \"10MiB/s\"",
            report,
        )?;
        report.note(spot, parse(text))
    }
}

fn parse(text: &str) -> Result<ByteRate, Wrong> {
    let wrong = |fix: String| Wrong::new(format!("{text:?} is not a rate of bytes"), fix);
    let bytes = text.strip_suffix("/s").and_then(|size| parse_size(size).ok());
    let Some(bytes) = bytes else {
        let fix = "write bytes per second, such as \"64KiB/s\" or \"10MiB/s\"";
        return Err(wrong(fix.to_owned()));
    };
    if !(ByteRate::LEAST..=ByteRate::MOST).contains(&bytes) {
        let (least, most) = (SizeText(ByteRate::LEAST), SizeText(ByteRate::MOST));
        return Err(wrong(format!("write \"{least}/s\" to \"{most}/s\"")));
    }
    Ok(ByteRate(bytes))
}

impl fmt::Display for ByteRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/s", SizeText(self.0))
    }
}

/// A limit, or the word that takes away one that would be inherited.
#[derive(Debug, Clone)]
pub(crate) struct Limited<T>(pub(crate) Option<T>);

impl<T: Read> Read for Limited<T> {
    fn read(node: &Node, spot: &Spot, report: &mut Report) -> Option<Self> {
        if matches!(&node.value, Value::Text(text) if text.as_str() == "unlimited") {
            return Some(Self(None));
        }
        T::read(node, spot, report).map(|value| Self(Some(value)))
    }

    fn keys(path: &str, keys: &mut Vec<String>) {
        T::keys(path, keys);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_per_second_are_a_size_and_a_second() {
        assert_eq!(parse("64KiB/s"), Ok(ByteRate(65_536)));
        assert_eq!(parse("10MiB/s").unwrap().to_string(), "10MiB/s");
        for text in ["64KiB", "64KiB/min", "/s", "64kB/s", "1KiB/s", "2048GiB/s"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
