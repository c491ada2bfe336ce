//! Where endpoints are asked for that no file names; and an endpoint that was answered, checked like one of a file.

use std::{path::PathBuf, sync::Arc, time::Duration};

use serde_json::{Map, Value as Json};
use zeroize::Zeroizing;

use crate::config::{
    Compute, ControlPlane, ControlledCompute, Defaults, Endpoint, ServerTls, Tokens, built_in,
    file::{ControlPlaneTable, EndpointTable, Root, Tenant},
    origin::{OriginsByKey, record_own},
    problem::{Place, Report, Spot, Wrong},
    read::{At, Read, Setting},
    secret,
    tree::{Node, Table, Value},
};
use crate::ids::{EndpointName, Secret, TenantName};

use super::{
    MOMENT, YEAR,
    endpoint::{Shared, Written},
    required, within,
};

/// What an answer may say of an endpoint. Nothing here names a file of this machine.
const ANSWERED: [&str; 11] = [
    "suspend_after",
    "awake_min",
    "suspend_idle_sessions",
    "idle_ignore",
    "hold_timeout",
    "start_timeout",
    "stop_timeout",
    "pool",
    "limits",
    "access",
    "roles",
];
/// What an answer may say of a role, as texts alone: a table could name a file.
const ANSWERED_OF_ROLES: [&str; 2] = ["verifier", "server_password"];

/// The control plane, where there is one.
pub(super) fn check(
    root: &Root,
    origins: &mut OriginsByKey,
    report: &mut Report,
) -> Option<Arc<ControlPlane>> {
    let at = root.control_plane.given()?;
    let table = &at.value;
    record_own(origins, "control_plane.url", &table.url);
    record_own(origins, "control_plane.ca", &table.ca);
    record_own(origins, "control_plane.token", &table.token);
    record_own(origins, "control_plane.endpoints_max", &table.endpoints_max);
    record_own(
        origins,
        "control_plane.questions_at_once",
        &table.questions_at_once,
    );
    record_own(origins, "control_plane.server_ca", &table.server_ca);
    for at in [&table.ca, &table.server_ca]
        .into_iter()
        .filter_map(Setting::given)
    {
        report.note(&at.spot, secret::check_readable(&at.value));
    }
    let url = required(&table.url, "url", &at.spot, report);
    let token = required(&table.token, "token", &at.spot, report);
    if let Some(at) = table.token.given() {
        report.note(&at.spot, check_token(&at.value));
    }
    let mut duration = |key: &str, pick: fn(&ControlPlaneTable) -> &Setting<Duration>, default: Duration| {
        let setting = pick(table);
        record_own(origins, &format!("control_plane.{key}"), setting);
        setting
            .given()
            .map_or(default, |at| within(at, &(MOMENT..=YEAR), report))
    };
    let path = |setting: &Setting<PathBuf>| setting.given().map(|at| at.value.clone());
    Some(Arc::new(ControlPlane {
        timeout: duration("timeout", |t| &t.timeout, built_in::CONTROL_TIMEOUT),
        fresh_for: duration("fresh_for", |t| &t.fresh_for, built_in::CONTROL_FRESH_FOR),
        unknown_for: duration("unknown_for", |t| &t.unknown_for, built_in::CONTROL_UNKNOWN_FOR),
        stale_max: duration("stale_max", |t| &t.stale_max, built_in::CONTROL_STALE_MAX),
        endpoints_max: table
            .endpoints_max
            .given()
            .map_or(built_in::CONTROL_ENDPOINTS_MAX, |at| at.value.0),
        questions_at_once: table
            .questions_at_once
            .given()
            .map_or(built_in::CONTROL_QUESTIONS_AT_ONCE, |at| at.value.0),
        ca: path(&table.ca),
        server_ca: path(&table.server_ca),
        url: url?.value.0.clone(),
        token: token?.value.clone(),
    }))
}

fn check_token(token: &Secret) -> Result<(), Wrong> {
    let fits = |byte: u8| byte.is_ascii_graphic();
    match !token.reveal().is_empty() && token.reveal().bytes().all(fits) {
        true => Ok(()),
        false => Err(Wrong::new(
            "it goes into a header of HTTP, and not all of it can",
            "use a token of letters, digits and punctuation",
        )),
    }
}

impl ControlPlane {
    /// An endpoint as the control plane has answered it: what it leaves open is as its tenant's table and `[defaults]` say.
    ///
    /// # Errors
    /// What is wrong with the answer, without any value of a secret.
    pub(crate) fn endpoint(
        &self,
        name: &EndpointName,
        answer: &Map<String, Json>,
        defaults: &Defaults,
    ) -> Result<Endpoint, String> {
        let tenant = text(answer, "tenant")?.ok_or("`tenant` is missing")?;
        let tenant = TenantName::parse(tenant).map_err(|error| format!("tenant: {error}"))?;
        let tls = self.server_tls(text(answer, "tls")?)?;
        let known =
            |key: &String| ["tenant", "tls"].contains(&key.as_str()) || ANSWERED.contains(&key.as_str());
        if let Some(key) = answer.keys().find(|key| !known(key)) {
            return Err(format!("unknown key {key:?}"));
        }
        check_roles(answer)?;
        let place = Place {
            file: std::path::Path::new("answer").into(),
            line: 0,
        };
        let mut table = Table::new();
        for (key, value) in answer.iter().filter(|(key, _)| ANSWERED.contains(&key.as_str())) {
            table.insert(key.clone(), node(value, &place)?);
        }
        // Its roles are those that were answered, whatever files say of others.
        table.insert("roles_from".to_owned(), node(&Json::from("config"), &place)?);
        let (mut report, spot) = (Report::default(), Spot::of_file(&place.file));
        let checked = checked(table, (name, &tenant), (&spot, defaults), tls, &mut report);
        report.finish(&place.file).map_err(|problems| {
            let told = problems.iter().take(3);
            let told = told.map(|problem| format!("{}: {}", problem.key, problem.message));
            told.collect::<Vec<_>>().join("; ")
        })?;
        let endpoint = checked.ok_or("it cannot be understood")?;
        check_apart(&endpoint)?;
        Ok(endpoint)
    }

    fn server_tls(&self, word: Option<&str>) -> Result<Option<ServerTls>, String> {
        let ca = || {
            let ca = self.server_ca.clone();
            ca.ok_or("its `tls` asks for a check, and control_plane.server_ca is not configured")
        };
        Ok(match word {
            None => self.server_ca.clone().map(|ca| ServerTls::VerifyFull { ca }),
            Some("disable") => Some(ServerTls::Disable),
            Some("require") => Some(ServerTls::Require),
            Some("verify-ca") => Some(ServerTls::VerifyCa { ca: ca()? }),
            Some("verify-full") => Some(ServerTls::VerifyFull { ca: ca()? }),
            Some(_) => {
                return Err(
                    "`tls` is not \"disable\", \"require\", \"verify-ca\" or \"verify-full\"".to_owned(),
                );
            }
        })
    }
}

fn text<'a>(answer: &'a Map<String, Json>, key: &str) -> Result<Option<&'a str>, String> {
    match answer.get(key) {
        None => Ok(None),
        Some(Json::String(text)) => Ok(Some(text)),
        Some(_) => Err(format!("`{key}` is not a text")),
    }
}

fn check_roles(answer: &Map<String, Json>) -> Result<(), String> {
    let roles = match answer.get("roles") {
        Some(Json::Object(roles)) if !roles.is_empty() => roles,
        _ => return Err("`roles` has to be an object with at least one role".to_owned()),
    };
    for (name, role) in roles {
        let Json::Object(role) = role else {
            return Err(format!("roles.{name} is not an object"));
        };
        let right =
            |(key, value): (&String, &Json)| ANSWERED_OF_ROLES.contains(&key.as_str()) && value.is_string();
        if !role.iter().all(right) {
            return Err(format!(
                "roles.{name} may have `verifier` and `server_password`, both texts"
            ));
        }
    }
    Ok(())
}

/// What a file's tenants cannot have in common, those of a control plane cannot either: nobody has looked at all of them.
fn check_apart(endpoint: &Endpoint) -> Result<(), String> {
    if endpoint.client_certificates.is_some() {
        let why =
            "its client_certificates, which a file says it has: nothing in a certificate says whose it is";
        return Err(why.to_owned());
    }
    let names_no_tenant = |tokens: &Tokens| tokens.tenant_claim.is_none();
    if endpoint.tokens.as_ref().is_some_and(names_no_tenant) {
        let why = "its tokens, which a file says it has, lack a tenant_claim: every tenant would let them in";
        return Err(why.to_owned());
    }
    Ok(())
}

/// The same value as a file would have it.
fn node(value: &Json, place: &Place) -> Result<Node, String> {
    let value = match value {
        Json::String(text) => Value::Text(Zeroizing::new(text.clone())),
        Json::Bool(yes) => Value::Bool(*yes),
        Json::Number(number) if number.is_i64() || number.is_u64() => Value::Integer(number.to_string()),
        Json::Number(number) => Value::Float(number.to_string()),
        Json::Null => return Err("`null` says nothing: leave the key out".to_owned()),
        Json::Array(values) => {
            let nodes = values.iter().map(|value| node(value, place));
            Value::List(nodes.collect::<Result<_, _>>()?)
        }
        Json::Object(entries) => {
            let entries = entries
                .iter()
                .map(|(key, value)| Ok((key.clone(), node(value, place)?)));
            Value::Table(entries.collect::<Result<_, String>>()?)
        }
    };
    let place = place.clone();
    Ok(Node { place, value })
}

fn checked(
    table: Table,
    (name, tenant_name): (&EndpointName, &TenantName),
    (spot, defaults): (&Spot, &Defaults),
    tls: Option<ServerTls>,
    report: &mut Report,
) -> Option<Endpoint> {
    let node = |table| Node {
        place: spot.place.clone(),
        value: Value::Table(table),
    };
    let own = At {
        value: EndpointTable::read(&node(table), spot, report)?,
        spot: spot.clone(),
    };
    let unnamed = Tenant::read(&node(Table::new()), spot, report)?;
    let mut written = Written {
        name,
        tenant_name,
        own: &own,
        tenant: defaults.of_tenant(tenant_name).unwrap_or(&unnamed),
        defaults: defaults.all(),
        origins: OriginsByKey::new(),
        report,
    };
    let compute = Compute::Controlled(ControlledCompute { tls });
    written.check(&mut Shared::new(&[]), Some(compute))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::{PoolMode, tree};

    const VERIFIER: &str = "SCRAM-SHA-256$4096:c2FsdHNhbHRzYWx0c2FsdA==$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";

    fn endpoint(answer: Json) -> Result<Endpoint, String> {
        endpoint_by(answer, &Defaults::default())
    }

    fn endpoint_by(answer: Json, defaults: &Defaults) -> Result<Endpoint, String> {
        let plane = ControlPlane {
            url: "http://127.0.0.1:1".to_owned(),
            ca: None,
            token: Secret::new("t"),
            timeout: MOMENT,
            fresh_for: MOMENT,
            unknown_for: MOMENT,
            stale_max: MOMENT,
            endpoints_max: 1,
            questions_at_once: 1,
            server_ca: None,
        };
        let Json::Object(answer) = answer else {
            panic!("an object is asked for")
        };
        plane.endpoint(&EndpointName::parse("shop-main").unwrap(), &answer, defaults)
    }

    /// Of a file with this text.
    fn defaults(text: &str) -> Defaults {
        let (file, mut report) = (std::path::Path::new("file").into(), Report::default());
        let spot = Spot::of_file(&file);
        let value = Value::Table(tree::parse(&file, text, &mut report).unwrap());
        let place = spot.place.clone();
        let root = Root::read(&Node { place, value }, &spot, &mut report).unwrap();
        report.finish(&file).unwrap();
        Defaults::of(root)
    }

    #[test]
    fn an_answer_is_an_endpoint_like_one_of_a_file() {
        let endpoint = endpoint(json!({
            "tenant": "shop", "tls": "require",
            "roles": { "app": { "verifier": VERIFIER } },
            "suspend_after": "never", "hold_timeout": "3s", "suspend_idle_sessions": true,
            "idle_ignore": { "roles": ["monitor"] },
            "pool": { "mode": "transaction", "size": 7 },
            "limits": { "per_endpoint": { "clients_max": 9 } },
            "access": { "allow": ["10.0.0.0/8"] },
        }))
        .unwrap();
        assert_eq!(endpoint.tenant.as_str(), "shop");
        assert_eq!(endpoint.suspend_after, None);
        assert_eq!(endpoint.hold_timeout, Duration::from_secs(3));
        assert_eq!(endpoint.start_timeout, built_in::START_TIMEOUT);
        assert_eq!(
            (endpoint.pool.mode, endpoint.pool.size),
            (PoolMode::Transaction, 7)
        );
        assert_eq!(endpoint.quotas.per_endpoint.clients_max, Some(9));
        assert!(endpoint.idle_ignore.ignores("monitor", b"").is_some());
        assert!(!endpoint.access.allows("192.0.2.1".parse().unwrap()));
        assert_eq!(endpoint.roles.len(), 1);
        let tls = Some(ServerTls::Require);
        assert_eq!(endpoint.compute, Compute::Controlled(ControlledCompute { tls }));
    }

    #[test]
    fn what_is_wrong_is_told_without_secrets_and_no_file_is_read() {
        let role = json!({ "app": { "verifier": VERIFIER } });
        for (answer, told) in [
            (json!({ "roles": role }), "`tenant` is missing"),
            (json!({ "tenant": 7, "roles": role }), "`tenant` is not a text"),
            (json!({ "tenant": "shop" }), "at least one role"),
            (json!({ "tenant": "shop", "roles": {} }), "at least one role"),
            (
                json!({ "tenant": "shop", "roles": role, "acess": {} }),
                "unknown key \"acess\"",
            ),
            (
                json!({ "tenant": "shop", "roles": role, "compute": {} }),
                "unknown key \"compute\"",
            ),
            (
                json!({ "tenant": "shop", "roles": role, "hold_timeout": 3 }),
                "hold_timeout: ",
            ),
            (
                json!({ "tenant": "shop", "roles": role, "access": { "alow": [] } }),
                "access.alow: unknown key",
            ),
            (
                json!({ "tenant": "shop", "roles": role, "tls": "verify-full" }),
                "server_ca",
            ),
            (json!({ "tenant": "shop", "roles": role, "pool": null }), "null"),
            (
                json!({ "tenant": "shop", "roles": { "app": { "verifier": { "file": "/etc/hostname" } } } }),
                "both texts",
            ),
            (
                json!({ "tenant": "shop", "roles": { "app": { "verifier": "open sesame" } } }),
                "roles.app.verifier: ",
            ),
        ] {
            let error = endpoint(answer.clone()).unwrap_err();
            assert!(error.contains(told), "{answer}: {error}");
            assert!(!error.contains("sesame"), "{error}");
        }
    }

    #[test]
    fn what_it_leaves_open_is_as_files_say() {
        let answer = |tenant: &str| {
            json!({
                "tenant": tenant, "roles": { "app": { "verifier": VERIFIER } }, "hold_timeout": "3s",
            })
        };
        let defaults = defaults(
            r#"
            defaults.hold_timeout = "1s"
            defaults.start_timeout = "7s"
            [tenants.shop]
            limits.per_tenant.clients_max = 9
            access.allow = ["10.0.0.0/8"]
            [tenants.shop.roles.ops]
            server_password = "p"
            "#,
        );
        let shop = endpoint_by(answer("shop"), &defaults).unwrap();
        assert_eq!(shop.hold_timeout, Duration::from_secs(3));
        assert_eq!(shop.start_timeout, Duration::from_secs(7));
        assert_eq!(shop.quotas.per_tenant.clients_max, Some(9));
        assert!(!shop.access.allows("192.0.2.1".parse().unwrap()));
        assert_eq!(shop.roles.keys().collect::<Vec<_>>(), ["app"]);
        let other = endpoint_by(answer("other"), &defaults).unwrap();
        assert_eq!(other.quotas.per_tenant.clients_max, None);
        assert!(other.access.allows("192.0.2.1".parse().unwrap()));
    }

    #[test]
    fn what_would_let_other_tenants_in_makes_no_endpoint() {
        let answer = json!({ "tenant": "shop", "roles": { "app": { "verifier": VERIFIER } } });
        let tokens = r#"
            defaults.login = "password-or-token"
            [defaults.tokens]
            keys = { url = "https://keys.example.com" }
            issuer = "https://keys.example.com"
            audiences = ["db"]
            "#;
        let refused = endpoint_by(answer.clone(), &defaults(tokens)).unwrap_err();
        assert!(refused.contains("tenant_claim"), "{refused}");
        let named = format!("{tokens}\ntenant_claim = \"tenant\"");
        assert!(
            endpoint_by(answer.clone(), &defaults(&named))
                .unwrap()
                .tokens
                .is_some()
        );
        let ca = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        let certificates = format!("defaults.client_certificates.ca = \"{ca}\"");
        let refused = endpoint_by(answer, &defaults(&certificates)).unwrap_err();
        assert!(refused.contains("client_certificates"), "{refused}");
    }
}
