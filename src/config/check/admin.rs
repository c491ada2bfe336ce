//! Where operators look, and who of them may do what.

use std::{collections::BTreeMap, net::SocketAddr};

use super::required;
use crate::config::{
    Admin, Operator, OperatorRight,
    file::Root,
    origin::{OriginsByKey, record_own},
    problem::{Report, Wrong},
    read::{List, Setting},
};
use crate::ids::{Secret, Verifier};

/// Shorter ones can be guessed: 16 characters of hexadecimal digits are 64 bits.
const TOKEN_BYTES_MIN: usize = 16;

/// What `listen.admin` and `[admin]` say.
pub(super) fn check(root: &Root, origins: &mut OriginsByKey, report: &mut Report) -> Admin {
    let default = Admin::default();
    let address = root.listen.key(|listen| &listen.admin);
    let read = root.admin.key(|admin| &admin.read_tokens);
    let operate = root.admin.key(|admin| &admin.operate_tokens);
    let per = root.admin.key(|admin| &admin.metrics_per);
    let names_max = root.admin.key(|admin| &admin.metrics_names_max);
    record_own(origins, "listen.admin", address);
    record_own(origins, "admin.read_tokens", read);
    record_own(origins, "admin.operate_tokens", operate);
    record_own(origins, "admin.roles", root.admin.key(|admin| &admin.roles));
    record_own(origins, "admin.metrics_per", per);
    record_own(origins, "admin.metrics_names_max", names_max);
    let admin = Admin {
        address: address.given().map(|at| at.value.0),
        read_tokens: tokens(read, report),
        operate_tokens: tokens(operate, report),
        roles: operators(root, report),
        metrics_per: per.given().map_or(default.metrics_per, |at| at.value),
        metrics_names_max: names_max
            .given()
            .map_or(default.metrics_names_max, |at| at.value.0),
    };
    let has_tokens = !admin.read_tokens.is_empty() || !admin.operate_tokens.is_empty();
    let refused = read.is_refused() || operate.is_refused();
    if let Some(at) = address.given()
        && !is_loopback(at.value.0)
        && !has_tokens
        && !refused
    {
        let fix = "add read_tokens = [{ file = \"…\" }] under [admin], or listen on 127.0.0.1";
        report.add(
            &at.spot,
            Wrong::new("anybody who reaches this address could look", fix),
        );
    }
    if address.is_absent() {
        for setting in [read, operate] {
            if let Some(at) = setting.given().filter(|at| !at.value.0.is_empty()) {
                let fix = "add admin = \"127.0.0.1:9090\" under [listen], or remove it";
                report.add(&at.spot, Wrong::new("nobody is asked for these tokens", fix));
            }
        }
    }
    admin
}

/// Who may come to the console. Its login is SCRAM, whatever the endpoints have.
fn operators(root: &Root, report: &mut Report) -> BTreeMap<String, Operator> {
    let roles = root.admin.key(|admin| &admin.roles);
    let mut operators = BTreeMap::new();
    for (name, at) in roles.given().into_iter().flat_map(|at| &at.value.0) {
        let Some(verifier) = required(&at.value.verifier, "verifier", &at.spot, report) else {
            continue;
        };
        if let Verifier::Md5(_) = verifier.value {
            let wrong = Wrong::new(
                "operators log in by SCRAM, and this is an MD5 verifier",
                "write the line that `pgwake hash-password` prints",
            );
            report.add(&verifier.spot, wrong);
            continue;
        }
        let right = at.value.right.given().map_or(OperatorRight::Read, |at| at.value);
        let verifier = verifier.value.clone();
        operators.insert(name.0.clone(), Operator { verifier, right });
    }
    operators
}

fn tokens(setting: &Setting<List<Secret>>, report: &mut Report) -> Vec<Secret> {
    let given = setting.given().into_iter().flat_map(|at| &at.value.0);
    given
        .inspect(|at| {
            let token = at.value.reveal();
            if token.len() < TOKEN_BYTES_MIN || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
                let message = format!("a token has at least {TOKEN_BYTES_MIN} visible ASCII characters");
                report.add(
                    &at.spot,
                    Wrong::new(message, "use what `openssl rand -hex 32` prints"),
                );
            }
        })
        .map(|at| at.value.clone())
        .collect()
}

fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}
