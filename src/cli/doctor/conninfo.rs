//! Connection strings as libpq reads them: `key=value …` and `postgresql://…`
//! (<https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING>).
//!
//! What matters on the way to a session is understood; the rest is named, so that nobody thinks that it was looked at.
//! It reads the files that libpq would (`files`), and resolves no names.

use std::{collections::BTreeMap, env, net::IpAddr, path::PathBuf, time::Duration};

use super::{
    files::{self, Environment, at_home},
    shown::Shown,
};
use crate::ids::Secret;

/// What libpq knows besides and nothing on the way depends on.
const OF_NO_CONSEQUENCE: &[&str] = &[
    "client_encoding",
    "fallback_application_name",
    "gssencmode",
    "gssdelegation",
    "gsslib",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "krbsrvname",
    "max_protocol_version",
    "min_protocol_version",
    "sslcompression",
    "sslsni",
    "ssl_max_protocol_version",
    "ssl_min_protocol_version",
    "target_session_attrs",
    "tcp_user_timeout",
    "load_balance_hosts",
];
/// What may decide about a login, and this does not do.
const NOT_DONE: &[&str] = &[
    "oauth_client_id",
    "oauth_issuer",
    "replication",
    "require_auth",
    "requirepeer",
    "sslcrl",
    "sslcrldir",
    "sslpassword",
];

/// How far TLS is asked for, and the server checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum SslMode {
    /// Plaintext.
    Disable,
    /// TLS if the server has it (libpq's `allow` comes to the same where one is looking).
    Prefer,
    /// TLS with whoever answers.
    Require,
    /// TLS with a certificate of a trusted authority.
    VerifyCa,
    /// The same for this very name.
    VerifyFull,
}

/// Whom a certificate has to come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Roots {
    /// Those of this file.
    File(PathBuf),
    /// Those of the system.
    System,
    /// No word of it, and no file at the place where libpq looks.
    None,
}

/// `channel_binding`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Binding {
    Disable,
    Prefer,
    Require,
}

/// A connection as it was asked for.
#[derive(Debug)]
pub(super) struct Asked {
    /// A name, an address, or the folder of a Unix socket.
    pub(super) host: String,
    /// In place of what the name resolves to.
    pub(super) hostaddr: Option<IpAddr>,
    pub(super) port: u16,
    pub(super) user: String,
    pub(super) dbname: String,
    pub(super) password: Option<Secret>,
    /// What to show where the server asks for a certificate.
    pub(super) shown: Option<Shown>,
    pub(super) ssl_mode: SslMode,
    pub(super) direct_tls: Direct,
    pub(super) roots: Roots,
    pub(super) binding: Binding,
    pub(super) options: Option<String>,
    pub(super) application_name: String,
    /// For each address.
    pub(super) connect_timeout: Option<Duration>,
    /// What was said and is not looked at, in words.
    pub(super) asides: Vec<String>,
}

/// `sslnegotiation`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direct {
    /// TLS from the first byte.
    Yes,
    /// After an SSLRequest.
    No,
}

/// What a connection string says, key by key.
pub(super) type Said = BTreeMap<String, String>;

impl Asked {
    /// # Errors
    /// What is wrong with it, without repeating values: a password may be among them.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let uri = ["postgresql://", "postgres://"]
            .iter()
            .find_map(|scheme| text.strip_prefix(scheme));
        let said = match uri {
            Some(rest) => of_uri(rest)?,
            None => of_pairs(text)?,
        };
        Self::of(said, &|name| {
            env::var(name).ok().filter(|value| !value.is_empty())
        })
    }

    fn of(mut said: Said, environment: Environment<'_>) -> Result<Self, String> {
        let mut asides = Vec::from_iter(files::add_service(&mut said, environment)?);
        let mut take = |key: &str, variable: &str| {
            let value = said.remove(key).filter(|value| !value.is_empty());
            value.or_else(|| environment(variable))
        };
        let host = first_of(take("host", "PGHOST"), "host", &mut asides);
        let hostaddr = first_of(take("hostaddr", "PGHOSTADDR"), "hostaddr", &mut asides);
        let port = first_of(take("port", "PGPORT"), "port", &mut asides);
        let user = take("user", "PGUSER").or_else(|| environment("USER"));
        let user = user.ok_or("no role: add user=NAME")?;
        let roots = take("sslrootcert", "PGSSLROOTCERT");
        let ssl_mode = take("sslmode", "PGSSLMODE");
        let home = at_home(environment, ".postgresql/root.crt");
        let roots = match roots.as_deref() {
            Some("system") => Roots::System,
            Some(file) => Roots::File(file.into()),
            None => home.filter(|file| file.exists()).map_or(Roots::None, Roots::File),
        };
        let passfile = take("passfile", "PGPASSFILE").map(PathBuf::from);
        let mut asked = Self {
            host: host
                .clone()
                .or_else(|| hostaddr.clone())
                .ok_or("no host: add host=NAME")?,
            hostaddr: hostaddr
                .map(|text| text.parse().map_err(|_| "hostaddr is no IP address"))
                .transpose()?,
            port: port.map_or(Ok(5432), |port| {
                port.parse().map_err(|_| "port is no number up to 65535")
            })?,
            dbname: take("dbname", "PGDATABASE").unwrap_or_else(|| user.clone()),
            password: take("password", "PGPASSWORD").map(Secret::new),
            shown: shown(&mut take, environment)?,
            ssl_mode: ssl_mode_of(ssl_mode.as_deref(), &roots)?,
            direct_tls: match take("sslnegotiation", "PGSSLNEGOTIATION").as_deref() {
                Some("direct") => Direct::Yes,
                None | Some("postgres") => Direct::No,
                Some(_) => return Err("sslnegotiation is postgres or direct".to_owned()),
            },
            binding: match take("channel_binding", "PGCHANNELBINDING").as_deref() {
                Some("disable") => Binding::Disable,
                None | Some("prefer") => Binding::Prefer,
                Some("require") => Binding::Require,
                Some(_) => return Err("channel_binding is disable, prefer or require".to_owned()),
            },
            options: take("options", "PGOPTIONS"),
            application_name: take("application_name", "PGAPPNAME")
                .unwrap_or_else(|| "pgwake doctor".to_owned()),
            connect_timeout: take("connect_timeout", "PGCONNECT_TIMEOUT")
                .map(|text| {
                    text.parse::<u64>()
                        .map_err(|_| "connect_timeout is no number of seconds")
                })
                .transpose()?
                .filter(|seconds| *seconds > 0)
                .map(Duration::from_secs),
            user,
            roots,
            asides: Vec::new(),
        };
        asked.look_up_password(passfile.or_else(|| at_home(environment, ".pgpass")), &mut asides);
        note_others(said, &mut asides)?;
        Ok(Self { asides, ..asked })
    }

    /// Where none was said.
    fn look_up_password(&mut self, file: Option<PathBuf>, asides: &mut Vec<String>) {
        let Some(file) = file.filter(|_| self.password.is_none()) else {
            return;
        };
        let port = self.port.to_string();
        match files::password(&file, [&self.host, &port, &self.dbname, &self.user]) {
            Ok(None) => (),
            Ok(password) => {
                self.password = password;
                asides.push(format!("the password is that of {}", file.display()));
            }
            Err(why) => asides.push(why),
        }
    }

    /// Whether the way leads through a Unix socket.
    pub(super) fn is_local(&self) -> bool {
        self.host.starts_with('/') || self.host.starts_with('@')
    }
}

/// What is left of a connection string.
fn note_others(said: Said, asides: &mut Vec<String>) -> Result<(), String> {
    for key in said.into_keys() {
        if NOT_DONE.contains(&&*key) {
            asides.push(format!("{key} is not looked at here, and may matter"));
        } else if !OF_NO_CONSEQUENCE.contains(&&*key) {
            return Err(format!("libpq knows no {key:?}"));
        }
    }
    Ok(())
}

/// Which certificate the client shows, if there is one at that place.
fn shown(
    take: &mut dyn FnMut(&str, &str) -> Option<String>,
    environment: Environment<'_>,
) -> Result<Option<Shown>, String> {
    let mut place = |key, variable, file| {
        let said = take(key, variable).map(PathBuf::from);
        said.or_else(|| at_home(environment, file))
    };
    let certificate = place("sslcert", "PGSSLCERT", ".postgresql/postgresql.crt");
    let key = place("sslkey", "PGSSLKEY", ".postgresql/postgresql.key");
    let shown = certificate.zip(key);
    match take("sslcertmode", "PGSSLCERTMODE").as_deref() {
        Some("disable") => Ok(None),
        None | Some("allow" | "require") => Ok(shown.map(|(certificate, key)| Shown { certificate, key })),
        Some(_) => Err("sslcertmode is disable, allow or require".to_owned()),
    }
}

/// Where there are several, libpq tries one after the other.
fn first_of(said: Option<String>, key: &str, asides: &mut Vec<String>) -> Option<String> {
    let said = said?;
    match said.split_once(',') {
        Some((first, _)) => {
            asides.push(format!("of several {key}s the first is looked at"));
            Some(first.to_owned()).filter(|first| !first.is_empty())
        }
        None => Some(said),
    }
}

fn ssl_mode_of(said: Option<&str>, roots: &Roots) -> Result<SslMode, String> {
    let mode = match said {
        Some("disable") => SslMode::Disable,
        Some("allow" | "prefer") => SslMode::Prefer,
        // With roots libpq checks them here, too; with the system's it wants nothing less than all.
        Some("require") if *roots != Roots::None => SslMode::VerifyCa,
        Some("require") => SslMode::Require,
        Some("verify-ca") => SslMode::VerifyCa,
        Some("verify-full") => SslMode::VerifyFull,
        None if *roots == Roots::System => SslMode::VerifyFull,
        None => SslMode::Prefer,
        Some(_) => {
            return Err("sslmode is disable, allow, prefer, require, verify-ca or verify-full".to_owned());
        }
    };
    match (mode, roots) {
        (SslMode::VerifyFull, _) => Ok(mode),
        (_, Roots::System) => {
            Err("sslrootcert=system needs sslmode=verify-full, as libpq says it".to_owned())
        }
        _ => Ok(mode),
    }
}

/// `key = 'value' …`; a backslash takes what follows as it is.
fn of_pairs(text: &str) -> Result<Said, String> {
    let mut said = Said::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (key, behind) = rest
            .split_once('=')
            .ok_or("what stands at the end has no \"=\"")?;
        let key = key.trim();
        if key.is_empty() || key.contains(char::is_whitespace) {
            return Err("a word stands where a key and \"=\" belong".to_owned());
        }
        let behind = behind.trim_start();
        let quoted = behind.strip_prefix('\'');
        let mut value = String::new();
        let mut letters = quoted.unwrap_or(behind).chars();
        let mut is_ended = quoted.is_none();
        while let Some(letter) = letters.next() {
            match letter {
                '\\' => value.extend(letters.next()),
                '\'' if quoted.is_some() => {
                    is_ended = true;
                    break;
                }
                space if quoted.is_none() && space.is_whitespace() => break,
                other => value.push(other),
            }
        }
        if !is_ended {
            return Err(format!("the value of {key} has no second quote"));
        }
        said.insert(key.to_owned(), value);
        rest = letters.as_str().trim_start();
    }
    Ok(said)
}

/// `user:password@host:port/dbname?key=value&…`, without the scheme.
fn of_uri(rest: &str) -> Result<Said, String> {
    let mut said = Said::new();
    let mut put = |key: &str, value: &str| -> Result<(), String> {
        if !value.is_empty() {
            said.insert(
                key.to_owned(),
                decoded(value).ok_or_else(|| format!("{key} has a wrong %-escape"))?,
            );
        }
        Ok(())
    };
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    // A password may have a slash in it that nobody has escaped: libpq ends the place at the first one.
    let (place, dbname) = rest.split_once('/').unwrap_or((rest, ""));
    put("dbname", dbname)?;
    let (who, hosts) = place.rsplit_once('@').unwrap_or(("", place));
    let (user, password) = who.split_once(':').unwrap_or((who, ""));
    put("user", user)?;
    put("password", password)?;
    let of_host = |host: &str| -> (String, String) {
        match host.strip_prefix('[').and_then(|host| host.split_once(']')) {
            Some((address, port)) => (address.to_owned(), port.trim_start_matches(':').to_owned()),
            None => {
                let (host, port) = host.split_once(':').unwrap_or((host, ""));
                (host.to_owned(), port.to_owned())
            }
        }
    };
    let (names, ports): (Vec<_>, Vec<_>) = hosts.split(',').map(of_host).unzip();
    put("host", &names.join(","))?;
    if ports.iter().any(|port| !port.is_empty()) {
        put("port", &ports.join(","))?;
    }
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').ok_or("a word behind \"?\" has no \"=\"")?;
        match (key, value) {
            ("ssl", "true") => put("sslmode", "require")?,
            _ => put(key, value)?,
        }
    }
    Ok(said)
}

/// With `%xx` undone.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || char::from(rest.next()?).to_digit(16);
        bytes.push(u8::try_from(digit()? * 16 + digit()?).ok()?);
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests;
