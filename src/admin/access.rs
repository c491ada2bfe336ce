//! Who may look, and who may order.
//!
//! Tokens are compared by their hashes in constant time. Without `read_tokens` a loopback address may be looked at by
//! whoever reaches it; then a request has to name the address itself, or a web page of anybody's could have a browser
//! on this machine look for it (DNS rebinding). Orders always need a token, which no web page can send for others.

use std::net::{IpAddr, SocketAddr};

use aws_lc_rs::digest::{SHA256, digest};
use hyper::{
    HeaderMap,
    header::{AUTHORIZATION, HOST},
};
use subtle::ConstantTimeEq;

use crate::config::Admin;
use crate::ids::Secret;

/// What a request may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Right {
    /// Look.
    Read,
    /// Look and order.
    Operate,
}

/// Why a request may not do what it wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Denied {
    /// It has no token, or a wrong one.
    Unknown,
    /// Its token is not for that.
    NotEnough,
    /// Nobody has such a right.
    Nobody,
    /// It came under a name that is not this machine's.
    ForeignHost,
}

type Hash = [u8; 32];

/// All tokens.
pub(super) struct Access {
    tokens: Vec<(Hash, Right)>,
    is_open_to_look: bool,
    /// The way to it is a proof by itself.
    is_of_owner: bool,
}

impl Access {
    pub(super) fn new(admin: &Admin, address: SocketAddr) -> Self {
        let with = |tokens: &[Secret], right| {
            let hashes = tokens.iter().map(|token| hash(token.reveal().as_bytes()));
            hashes.map(|hash| (hash, right)).collect::<Vec<_>>()
        };
        let mut tokens = with(&admin.read_tokens, Right::Read);
        tokens.extend(with(&admin.operate_tokens, Right::Operate));
        Self {
            tokens,
            is_open_to_look: admin.read_tokens.is_empty() && address.ip().to_canonical().is_loopback(),
            is_of_owner: false,
        }
    }

    /// For a door that nobody but pgwake's own user and root can reach.
    pub(super) fn of_owner() -> Self {
        Self {
            tokens: Vec::new(),
            is_open_to_look: true,
            is_of_owner: true,
        }
    }

    /// Whether a request with these headers may do what needs this right.
    pub(super) fn check(&self, headers: &HeaderMap, needed: Right) -> Result<(), Denied> {
        if self.is_of_owner {
            return Ok(());
        }
        let has = self.right_of(headers);
        if has.is_some_and(|has| has >= needed) {
            return Ok(());
        }
        if needed == Right::Read && self.is_open_to_look && headers.get(AUTHORIZATION).is_none() {
            return match names_this_machine(headers) {
                true => Ok(()),
                false => Err(Denied::ForeignHost),
            };
        }
        let nobody = !self.tokens.iter().any(|(_, right)| *right >= needed);
        Err(match has {
            _ if nobody => Denied::Nobody,
            Some(_) => Denied::NotEnough,
            None => Denied::Unknown,
        })
    }

    fn right_of(&self, headers: &HeaderMap) -> Option<Right> {
        let value = headers.get(AUTHORIZATION)?.as_bytes();
        let (scheme, token) = value.split_at_checked(b"Bearer ".len())?;
        if !scheme.eq_ignore_ascii_case(b"Bearer ") {
            return None;
        }
        let said = hash(token);
        // All are compared, whichever fits.
        let fits = |(known, right): &(Hash, Right)| bool::from(known.ct_eq(&said)).then_some(*right);
        self.tokens.iter().filter_map(fits).max()
    }
}

fn hash(token: &[u8]) -> Hash {
    let mut hash = Hash::default();
    hash.copy_from_slice(digest(&SHA256, token).as_ref());
    hash
}

fn names_this_machine(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(HOST).and_then(|host| host.to_str().ok()) else {
        return false;
    };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let ip = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || ip.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    const LOOPBACK: &str = "127.0.0.1:9090";

    fn access(read: &[&str], operate: &[&str], address: &str) -> Access {
        let secrets = |tokens: &[&str]| tokens.iter().map(|token| Secret::new(*token)).collect();
        let admin = Admin {
            read_tokens: secrets(read),
            operate_tokens: secrets(operate),
            ..Admin::default()
        };
        Access::new(&admin, address.parse().unwrap())
    }

    fn headers(host: &str, authorization: Option<&str>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_str(host).unwrap());
        if let Some(authorization) = authorization {
            headers.insert(AUTHORIZATION, HeaderValue::from_str(authorization).unwrap());
        }
        headers
    }

    #[test]
    fn a_token_is_good_for_its_right_alone() {
        let access = access(&["looker", "looker2"], &["boss"], LOOPBACK);
        let check = |token: &str, right| access.check(&headers(LOOPBACK, Some(token)), right);
        assert_eq!(check("Bearer looker2", Right::Read), Ok(()));
        assert_eq!(check("bearer looker", Right::Read), Ok(()));
        assert_eq!(check("Bearer looker", Right::Operate), Err(Denied::NotEnough));
        assert_eq!(check("Bearer boss", Right::Read), Ok(()));
        assert_eq!(check("Bearer boss", Right::Operate), Ok(()));
        for wrong in [
            "Bearer looke",
            "Bearer looker ",
            "Bearer ",
            "Basic looker",
            "looker",
        ] {
            assert_eq!(check(wrong, Right::Read), Err(Denied::Unknown), "{wrong}");
        }
        let none = headers(LOOPBACK, None);
        assert_eq!(access.check(&none, Right::Read), Err(Denied::Unknown));
    }

    #[test]
    fn a_loopback_address_without_read_tokens_is_open_to_those_who_name_it() {
        let access = access(&[], &["boss"], LOOPBACK);
        for host in [
            "127.0.0.1:9090",
            "localhost:9090",
            "LOCALHOST",
            "[::1]:9090",
            "10.0.0.1",
        ] {
            assert_eq!(access.check(&headers(host, None), Right::Read), Ok(()), "{host}");
        }
        let foreign = headers("evil.example:9090", None);
        assert_eq!(access.check(&foreign, Right::Read), Err(Denied::ForeignHost));
        let none = headers(LOOPBACK, None);
        assert_eq!(access.check(&none, Right::Operate), Err(Denied::Unknown));
        // A wrong token is no missing one: whoever sends it believes that it is right.
        let wrong = headers(LOOPBACK, Some("Bearer wrong"));
        assert_eq!(access.check(&wrong, Right::Read), Err(Denied::Unknown));
    }

    #[test]
    fn nobody_orders_where_nobody_has_a_token_for_it() {
        let access = access(&["looker"], &[], "192.0.2.1:9090");
        let looker = headers("192.0.2.1:9090", Some("Bearer looker"));
        assert_eq!(access.check(&looker, Right::Operate), Err(Denied::Nobody));
        let none = headers("192.0.2.1:9090", None);
        assert_eq!(access.check(&none, Right::Read), Err(Denied::Unknown));
    }
}
