//! Where clients come in.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use crate::config::{
    Listen, ListenAddress, ListenTls, ServerAddress,
    address::check_socket_path,
    file::{ComputeTable, Listener, Root},
    origin::{OriginsByKey, record_own},
    problem::{Report, Spot, Wrong},
    read::{At, Setting},
};

use super::{Once, check_exists};

/// All listeners. Asks for a certificate where one of them cannot do without.
pub(super) fn check(
    root: &Root,
    file: &Spot,
    origins: &mut OriginsByKey,
    report: &mut Report,
) -> Vec<Listen> {
    let setting = root.listen.key(|listen| &listen.postgres);
    record_own(origins, "listen.postgres", setting);
    let example = "write postgres = \"127.0.0.1:6432\" under [listen]";
    let listeners = match setting {
        Setting::Given(at) if !at.value.0.is_empty() => &at.value.0,
        Setting::Given(At { spot, .. }) => {
            report.add(spot, Wrong::new("no address to listen on", example));
            return Vec::new();
        }
        Setting::Refused => return Vec::new(),
        Setting::Absent => {
            let spot = file.key("listen", &file.place).key("postgres", &file.place);
            report.add(&spot, Wrong::new("no address to listen on", example));
            return Vec::new();
        }
    };
    let (mut sockets, mut addresses) = (Once::new("address"), Taken::default());
    let mut checked = Vec::new();
    for at in listeners {
        let Some(listen) = check_listener(&at.value.0, &at.spot, report) else {
            continue;
        };
        match &listen.address {
            ListenAddress::Tcp(address) => addresses.claim(*address, &at.spot, report),
            ListenAddress::Unix(path) => _ = sockets.claim(path.clone(), "listened on", &at.spot, report),
        }
        if let Some(default) = at.value.0.default_endpoint.given() {
            check_exists(root, default, report);
        }
        if !at.value.0.tls.is_refused() {
            check_certified(root, &listen, &at.spot, report);
        }
        checked.push(listen);
    }
    if let Some(admin) = root.listen.key(|listen| &listen.admin).given() {
        addresses.claim(admin.value.0, &admin.spot, report);
    }
    checked
}

/// That no server is pgwake itself: a client that came in there would come in again and again, until no place is left.
pub(super) fn check_apart(root: &Root, listeners: &[Listen], report: &mut Report) {
    let tenants = root
        .tenants
        .given()
        .into_iter()
        .flat_map(|at| at.value.0.values());
    let endpoints = tenants.flat_map(|tenant| tenant.value.endpoints.given());
    for endpoint in endpoints.flat_map(|at| at.value.0.values()) {
        let server = match endpoint.value.compute.given().map(|at| &at.value) {
            Some(ComputeTable::Fixed(table)) => &table.address,
            Some(ComputeTable::Command(table)) => &table.server.address,
            Some(ComputeTable::Process(_)) | None => continue,
        };
        if let Some(at) = server.given()
            && listeners
                .iter()
                .any(|listen| listen.address.is_reached_by(&at.value.0))
        {
            let fix = "name the address at which Postgres listens, and give one of the two another port";
            report.add(&at.spot, Wrong::new("this is where pgwake itself listens", fix));
        }
    }
}

impl ListenAddress {
    /// Whether who connects there comes here; names are not looked up, but for this machine's own.
    fn is_reached_by(&self, server: &ServerAddress) -> bool {
        match (self, server) {
            (Self::Unix(here), ServerAddress::Unix(there)) => here == there,
            (Self::Tcp(here), ServerAddress::Tcp { host, port }) if here.port() == *port => {
                let is_here = |ip: IpAddr| {
                    let is_own = ip.is_loopback() || ip.is_unspecified();
                    here.ip() == ip
                        || (here.ip().is_unspecified() && here.is_ipv4() == ip.is_ipv4() && is_own)
                };
                match host.as_str() {
                    "localhost" => [IpAddr::from([127, 0, 0, 1]), Ipv6Addr::LOCALHOST.into()]
                        .into_iter()
                        .any(is_here),
                    host => host.parse().is_ok_and(is_here),
                }
            }
            _ => false,
        }
    }
}

/// The addresses so far.
#[derive(Default)]
struct Taken<'s>(Vec<(SocketAddr, &'s Spot)>);

impl<'s> Taken<'s> {
    fn claim(&mut self, address: SocketAddr, spot: &'s Spot, report: &mut Report) {
        let first = self.0.iter().find(|(taken, _)| overlap(*taken, address));
        if let Some((_, first)) = first {
            let message = format!("this address is already listened on ({})", first.place);
            let fix = "give each its own address, or remove one of the two";
            report.add(spot, Wrong::new(message, fix));
        }
        self.0.push((address, spot));
    }
}

/// Whether the system gives only one of them: an address for all of the machine's own is each of them.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let for_all = one.ip().is_unspecified() || other.ip().is_unspecified();
    let is_one = one.is_ipv4() == other.is_ipv4() && (for_all || one.ip() == other.ip());
    is_one && one.port() == other.port() && one.port() != 0
}

fn check_listener(listener: &Listener, spot: &Spot, report: &mut Report) -> Option<Listen> {
    let (address, tls) = match (&listener.address, &listener.unix) {
        (Setting::Given(address), Setting::Absent) => {
            let tls = listener.tls.given().map_or(ListenTls::Required, |at| at.value);
            (ListenAddress::Tcp(address.value.0), tls)
        }
        (Setting::Absent, Setting::Given(path)) => {
            if let Some(tls) = listener.tls.given() {
                let fix = "remove it: clients do not speak TLS over a Unix socket";
                report.add(
                    &tls.spot,
                    Wrong::new("`tls` does not belong to a Unix socket", fix),
                );
            }
            report.note(&path.spot, check_socket_path(&path.value))?;
            (ListenAddress::Unix(path.value.clone()), ListenTls::Optional)
        }
        (Setting::Refused, _) | (_, Setting::Refused) => return None,
        _ => {
            let fix = "write { address = \"127.0.0.1:6432\" } or { unix = \"/run/pgwake/.s.PGSQL.5432\" }";
            report.add(spot, Wrong::new("a listener has either `address` or `unix`", fix));
            return None;
        }
    };
    if let (ListenAddress::Unix(_), Some(proxies)) = (&address, listener.proxies.given()) {
        let fix = "remove it: who comes over a Unix socket has no address";
        report.add(
            &proxies.spot,
            Wrong::new("`proxies` does not belong to a Unix socket", fix),
        );
    }
    if let (ListenAddress::Tcp(_), Some(mode)) = (&address, listener.mode.given()) {
        let fix = "remove it: only a Unix socket has permissions";
        report.add(
            &mode.spot,
            Wrong::new("`mode` does not belong to a TCP address", fix),
        );
    }
    let proxies = listener.proxies.given().into_iter();
    Some(Listen {
        address,
        tls,
        default_endpoint: listener.default_endpoint.given().map(|at| at.value.clone()),
        proxies: proxies.flat_map(|at| &at.value.0).map(|at| at.value).collect(),
        mode: listener.mode.given().map(|at| at.value.0),
    })
}

fn check_certified(root: &Root, listen: &Listen, spot: &Spot, report: &mut Report) {
    let setting = root.tls.key(|tls| &tls.certificates);
    let certified = match setting {
        Setting::Absent => false,
        Setting::Refused => true,
        Setting::Given(at) => !at.value.0.is_empty(),
    };
    let needed = matches!(listen.address, ListenAddress::Tcp(_)) && listen.tls == ListenTls::Required;
    if needed && !certified {
        let fix = "write certificates = [{ certificate = \"…\", key = \"…\" }] under [tls], or allow plaintext here with { address = \"…\", tls = \"optional\" }";
        report.add(
            spot,
            Wrong::new("clients must speak TLS here, but there is no certificate", fix),
        );
    }
}
