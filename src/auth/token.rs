//! Tokens (JWT) that clients send as passwords: what is checked of one, and what it then says.
//!
//! Its signature first, with a key of the configured set (`source`, `keys`) and the algorithm that is this key's own;
//! then whose it is and from when to when. Whether the role exists is `roles`' matter. Who calls: `by_token`.

mod fetch;
mod jws;
mod keys;
mod source;

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use serde_json::{Map, Value};
use tokio_util::task::TaskTracker;

use crate::config::{Config, TokenKeys, Tokens};
use jws::Signed;
use keys::Key;
use source::KeySource;

/// Longest token. Those of the usual issuers have one to four KB.
const BYTES_MAX: usize = 16 * 1024;

/// Longer than any session lasts.
const YEAR: Duration = Duration::from_secs(366 * 86_400);

/// What is wrong with a token. For the log; the client hears only that it has expired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TokenError {
    /// It is none.
    #[error("it is not a signed token: {0}")]
    Malformed(&'static str),
    /// More than 16 KiB.
    #[error("it is longer than 16 KiB")]
    TooLong,
    /// `none`, a shared secret, or anything else that is not accepted.
    #[error("its algorithm is none of RS256, ES256 and EdDSA")]
    Algorithm,
    /// The set has no such key for this algorithm.
    #[error("no key of the set has its `kid` and suits its algorithm")]
    UnknownKey,
    /// There is no set.
    #[error("the keys could not be had")]
    NoKeys,
    /// Another key has signed it, or it was changed.
    #[error("its signature is wrong")]
    Signature,
    /// `iss`
    #[error("it is from another issuer")]
    Issuer,
    /// `aud`
    #[error("it is for another audience")]
    Audience,
    /// `exp`
    #[error("it has expired")]
    Expired,
    /// `nbf`
    #[error("it is not valid yet")]
    NotYet,
    /// `iat`
    #[error("it was issued in the future")]
    IssuedLater,
    /// The claim that names tenants.
    #[error("it is for another tenant")]
    Tenant,
    /// The claim that names roles.
    #[error("it is not for this role")]
    Role,
}

/// All keys that tokens are checked with.
pub(super) struct TokenBook {
    sources: HashMap<TokenKeys, Arc<KeySource>>,
    tasks: TaskTracker,
}

/// What a token says, once its signature was right and its time is now.
#[derive(Debug)]
pub(super) struct Claims {
    claims: Map<String, Value>,
    /// Until its end, clocks that differ included.
    pub(super) lasts: Duration,
}

impl TokenBook {
    /// Of a configuration. Nothing is read yet.
    pub(super) fn new(config: &Config) -> Self {
        let endpoints = config.endpoints.values();
        let all = endpoints.filter_map(|endpoint| endpoint.tokens.as_ref());
        Self::of(all.chain(&config.tokens))
    }

    /// Of another configuration; sets of keys that are the same are kept.
    pub(super) fn renewed(&self, config: &Config) -> Self {
        let endpoints = config.endpoints.values();
        let all = endpoints.filter_map(|endpoint| endpoint.tokens.as_ref());
        let source = |tokens: &Tokens| {
            let known = self.sources.get(&tokens.keys).cloned();
            let new = || Arc::new(KeySource::new(tokens.keys.clone(), self.tasks.clone()));
            (tokens.keys.clone(), known.unwrap_or_else(new))
        };
        Self {
            sources: all.chain(&config.tokens).map(source).collect(),
            tasks: self.tasks.clone(),
        }
    }

    /// Whether there are keys for these rules.
    pub(super) fn has(&self, tokens: &Tokens) -> bool {
        self.sources.contains_key(&tokens.keys)
    }

    /// This and the keys for these rules.
    pub(super) fn with(&self, tokens: Option<&Tokens>) -> Self {
        let mut sources = self.sources.clone();
        if let Some(tokens) = tokens {
            let new = || Arc::new(KeySource::new(tokens.keys.clone(), self.tasks.clone()));
            sources.entry(tokens.keys.clone()).or_insert_with(new);
        }
        Self {
            sources,
            tasks: self.tasks.clone(),
        }
    }

    /// Of these rules.
    pub(super) fn of<'t>(all: impl Iterator<Item = &'t Tokens>) -> Self {
        let tasks = TaskTracker::new();
        let source = |tokens: &Tokens| {
            let source = KeySource::new(tokens.keys.clone(), tasks.clone());
            (tokens.keys.clone(), Arc::new(source))
        };
        Self {
            sources: all.map(source).collect(),
            tasks,
        }
    }

    /// Reads all keys in the background, so that nobody waits for them. In a runtime.
    pub(super) fn begin(&self) {
        for source in self.sources.values() {
            source.begin();
        }
    }

    /// Waits for readings under way, which are bounded. Cancel safe.
    pub(super) async fn drain(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Checks a token but for the claims that say tenant and role. Waits for keys where there are none yet, or none of
    /// this name; that is bounded. Cancel safe.
    pub(super) async fn check(
        &self,
        tokens: &Tokens,
        text: &[u8],
        now: SystemTime,
    ) -> Result<Claims, TokenError> {
        if text.len() > BYTES_MAX {
            return Err(TokenError::TooLong);
        }
        let signed = Signed::parse(text)?;
        let source = self.sources.get(&tokens.keys).ok_or(TokenError::NoKeys)?;
        let keys = source.find(signed.kid(), signed.algorithm()).await?;
        let mut payload = verified(&signed, &keys);
        if payload == Err(TokenError::Signature) && source.is_read_again().await {
            // An issuer may have put another key under the name of the one before.
            payload = verified(&signed, &source.find(signed.kid(), signed.algorithm()).await?);
        }
        let payload = payload?;
        let Ok(Value::Object(claims)) = serde_json::from_slice(&payload) else {
            return Err(TokenError::Malformed("its claims are no JSON object"));
        };
        check_whose(&claims, tokens)?;
        let lasts = check_when(&claims, tokens.leeway, now)?;
        Ok(Claims { claims, lasts })
    }
}

impl Claims {
    /// Whether this claim is the text, or a list with it.
    pub(super) fn has(&self, claim: &str, wanted: &str) -> bool {
        one_of(self.claims.get(claim), |text| text == wanted)
    }
}

/// The payload, if one of these keys has signed it.
fn verified(signed: &Signed<'_>, keys: &[Arc<Key>]) -> Result<Vec<u8>, TokenError> {
    let mut verified = keys.iter().map(|key| signed.verify(key));
    let found = verified.find(|verified| *verified != Err(TokenError::Signature));
    found.unwrap_or(Err(TokenError::Signature))
}

/// Why no key could be had from a file now; those of a URL are asked for by whoever serves. Blocks on the file.
pub(crate) fn key_file_problem(keys: &TokenKeys) -> Option<String> {
    match keys {
        TokenKeys::File(file) => fetch::read(file)
            .and_then(|bytes| {
                keys::KeySet::parse(&bytes).map_err(|problem| format!("{}: {problem}", file.display()))
            })
            .err(),
        TokenKeys::Url { .. } => None,
    }
}

/// Whether a token was meant: for endpoints that take passwords as well.
pub(super) fn looks_like_one(text: &[u8]) -> bool {
    // `{"` in base64, with which every header begins.
    text.starts_with(b"eyJ") && text.iter().filter(|byte| **byte == b'.').count() == 2
}

fn check_whose(claims: &Map<String, Value>, tokens: &Tokens) -> Result<(), TokenError> {
    if claims.get("iss").and_then(Value::as_str) != Some(tokens.issuer.as_str()) {
        return Err(TokenError::Issuer);
    }
    let listed = |audience: &str| tokens.audiences.iter().any(|listed| listed == audience);
    if !one_of(claims.get("aud"), listed) {
        return Err(TokenError::Audience);
    }
    Ok(())
}

/// How long it still lasts. A token without an end is none.
fn check_when(
    claims: &Map<String, Value>,
    leeway: Duration,
    now: SystemTime,
) -> Result<Duration, TokenError> {
    let now = now
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0.0, |since| since.as_secs_f64());
    let leeway = leeway.as_secs_f64();
    let end = seconds(claims, "exp")?.ok_or(TokenError::Malformed("it has no `exp`"))?;
    if end + leeway <= now {
        return Err(TokenError::Expired);
    }
    if seconds(claims, "nbf")?.is_some_and(|from| from - leeway > now) {
        return Err(TokenError::NotYet);
    }
    if seconds(claims, "iat")?.is_some_and(|issued| issued - leeway > now) {
        return Err(TokenError::IssuedLater);
    }
    let lasts = Duration::try_from_secs_f64(end + leeway - now);
    Ok(lasts.unwrap_or(YEAR).min(YEAR))
}

/// A NumericDate (RFC 7519, section 2): seconds since 1970, perhaps with a fraction.
fn seconds(claims: &Map<String, Value>, claim: &str) -> Result<Option<f64>, TokenError> {
    match claims.get(claim) {
        None => Ok(None),
        Some(value) => match value.as_f64() {
            Some(seconds) if seconds.is_finite() => Ok(Some(seconds)),
            _ => Err(TokenError::Malformed("a time in it is no number")),
        },
    }
}

fn one_of(value: Option<&Value>, wanted: impl Fn(&str) -> bool) -> bool {
    match value {
        Some(Value::String(text)) => wanted(text),
        Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).any(wanted),
        _ => false,
    }
}

/// A token is taken apart, and its claims are looked at as if its signature were right.
#[cfg(any(test, fuzzing))]
pub(super) fn decode(text: &[u8]) {
    let Ok(signed) = Signed::parse(text) else {
        return;
    };
    assert!(text.len() >= signed.payload_text().len());
    let payload = signed.unverified_payload();
    if let Some(Value::Object(claims)) = payload.and_then(|payload| serde_json::from_slice(&payload).ok()) {
        let _ = check_when(&claims, Duration::from_secs(30), SystemTime::UNIX_EPOCH);
        one_of(claims.get("aud"), |audience| audience == "pgwake");
    }
}

/// A set of keys is read.
#[cfg(any(test, fuzzing))]
pub(super) fn decode_keys(json: &[u8]) {
    if let Ok(keys) = keys::KeySet::parse(json) {
        let _ = keys.find(None, jws::Algorithm::Rs256);
    }
}

#[cfg(test)]
#[path = "../../tests/harness/issuer.rs"]
mod issuer;
#[cfg(test)]
mod tests;
