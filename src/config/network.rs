//! Networks as operators write them: `"10.0.0.0/8"`, `"2001:db8::/32"`, and a single address.
//!
//! A network with bits behind its prefix is refused: it is a slip more often than not. IPv4 addresses are written as such,
//! never in IPv6's clothes, and are compared so. Who calls: the tables of `file`.

use std::{fmt, net::IpAddr};

use ipnet::IpNet;

use super::{
    problem::{Report, Spot, Wrong},
    read::Read,
    tree::Node,
    value::read_text,
};

const EXAMPLES: &str =
    "write a network or an address, such as \"10.0.0.0/8\", \"2001:db8::/32\" or \"192.0.2.7\"";

/// A range of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network(IpNet);

impl Network {
    /// Every address there is.
    pub fn all() -> [Self; 2] {
        let any = |ip: IpAddr| Self(IpNet::new_assert(ip, 0));
        [any([0; 4].into()), any([0_u16; 8].into())]
    }

    /// Whether an address belongs to it. One that is IPv4 in IPv6's clothes counts as what it is.
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.0.contains(&ip.to_canonical())
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// From where an endpoint may be reached over TCP. Clients that come over a Unix socket are on the machine already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// Only from these.
    pub allow: Vec<Network>,
    /// Not from these, whatever is allowed.
    pub deny: Vec<Network>,
}

impl Access {
    /// Whether a client may come from there.
    pub fn allows(&self, ip: IpAddr) -> bool {
        let has = |networks: &[Network]| networks.iter().any(|network| network.contains(ip));
        has(&self.allow) && !has(&self.deny)
    }
}

impl Read for Network {
    fn read(node: &Node, spot: &Spot, report: &mut Report) -> Option<Self> {
        let text = read_text(node, spot, "a network in quotes, such as \"10.0.0.0/8\"", report)?;
        report.note(spot, parse(text).map(Self))
    }
}

fn parse(text: &str) -> Result<IpNet, Wrong> {
    let wrong = |why: &str, fix: String| Wrong::new(format!("{text:?} is not a network: {why}"), fix);
    let network = match (text.parse::<IpNet>(), text.parse::<IpAddr>()) {
        (Ok(network), _) => network,
        (_, Ok(ip)) => IpNet::from(ip),
        _ => {
            return Err(wrong(
                "it is neither an address nor a prefix",
                EXAMPLES.to_owned(),
            ));
        }
    };
    if let IpAddr::V6(ip) = network.addr()
        && let Some(ipv4) = ip.to_ipv4_mapped()
    {
        let prefix = network.prefix_len().saturating_sub(96);
        let fix = IpNet::new(ipv4.into(), prefix).map(|network| network.trunc());
        let fix = fix.map_or(EXAMPLES.to_owned(), |network| format!("write \"{network}\""));
        return Err(wrong("it is IPv4 in IPv6's clothes", fix));
    }
    if network.trunc() != network {
        let fix = format!("write \"{}\", or \"{}\" alone", network.trunc(), network.addr());
        return Err(wrong("there are bits behind its prefix", fix));
    }
    Ok(network)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_have_the_addresses_of_their_prefix_in_either_clothes() {
        let network = |text| Network(parse(text).unwrap());
        for (text, ip, inside) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "::ffff:10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("192.0.2.7", "192.0.2.7", true),
            ("192.0.2.7", "192.0.2.8", false),
            ("2001:db8::/32", "2001:db8:1::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
            ("::/0", "2001:db8::1", true),
            ("::/0", "192.0.2.7", false),
            ("0.0.0.0/0", "192.0.2.7", true),
        ] {
            assert_eq!(network(text).contains(ip.parse().unwrap()), inside, "{text} {ip}");
        }
        for ip in ["192.0.2.7", "::ffff:192.0.2.7", "2001:db8::1"] {
            assert!(Network::all().iter().any(|all| all.contains(ip.parse().unwrap())));
        }
    }

    #[test]
    fn what_is_most_likely_a_slip_is_told_with_what_was_meant() {
        for (text, fix) in [
            ("10.1.2.3/8", "write \"10.0.0.0/8\", or \"10.1.2.3\" alone"),
            ("::ffff:10.0.0.0/104", "write \"10.0.0.0/8\""),
            ("::ffff:192.0.2.7", "write \"192.0.2.7/32\""),
            ("10.0.0.0/33", EXAMPLES),
            ("10.0.0.0/255.0.0.0", EXAMPLES),
            ("localhost", EXAMPLES),
        ] {
            assert_eq!(parse(text).unwrap_err().fix, fix, "{text}");
        }
    }
}
