//! Branches over HTTP: looking at them, and ordering them to be made, reset, renewed and removed.
//!
//! What is ordered is answered once it is done; a retry of any order does no harm. `crate::branches` does it; here is what
//! a path and a query mean, and what an answer has.

use std::time::Duration;

use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use super::{
    View,
    answer::{Listing, Order as SortedBy, Query, Refused},
    order::Undone,
    time::rfc3339,
};
use crate::auth::WakeRight;
use crate::branches::{BranchError, BranchRecord, Who, Wish};
use crate::config::{Compute, Endpoint, parse_duration};
use crate::error::ClientError;
use crate::ids::{BranchName, EndpointName};

/// An order about a branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum BranchOrder {
    Create {
        parent: EndpointName,
        branch: BranchName,
        ttl: Option<Duration>,
        max: Option<Duration>,
    },
    Delete(EndpointName),
    Reset {
        name: EndpointName,
        max: Option<Duration>,
    },
    Renew {
        name: EndpointName,
        /// Another one, or none from now on.
        ttl: Option<Option<Duration>>,
    },
}

/// The methods of a path below `/api/v1/` that is about branches.
pub(super) fn allowed(path: &[&str]) -> Option<&'static str> {
    Some(match path {
        ["branches"] => "GET, HEAD",
        ["branches", _] => "GET, HEAD, DELETE",
        ["endpoints", _, "branches"] => "GET, HEAD, POST",
        ["branches", _, "renew" | "reset"] => "POST",
        _ => return None,
    })
}

impl BranchOrder {
    /// The order that a request means; `None`: it is about something else.
    pub(super) fn of(method: &Method, path: &[&str], query: &Query) -> Option<Result<Self, Refused>> {
        let existing = |name: &str| EndpointName::parse_any(name).map_err(|_| Refused::not_found("branch"));
        Some(match (method, path) {
            (&Method::POST, ["endpoints", parent, "branches"]) => Self::create(parent, query),
            (&Method::DELETE, ["branches", name]) => {
                query.only(&[]).and_then(|()| existing(name)).map(Self::Delete)
            }
            (&Method::POST, ["branches", name, "reset"]) => query.only(&["max"]).and_then(|()| {
                Ok(Self::Reset {
                    name: existing(name)?,
                    max: duration(query, "max")?,
                })
            }),
            (&Method::POST, ["branches", name, "renew"]) => query.only(&["ttl"]).and_then(|()| {
                Ok(Self::Renew {
                    name: existing(name)?,
                    ttl: ttl(query)?,
                })
            }),
            _ => return None,
        })
    }

    fn create(parent: &str, query: &Query) -> Result<Self, Refused> {
        query.only(&["name", "ttl", "max"])?;
        let wrong = |error: String| Refused::new(StatusCode::BAD_REQUEST, error);
        let name = query
            .value("name")
            .ok_or_else(|| wrong("`name` is missing".to_owned()))?;
        Ok(Self::Create {
            parent: EndpointName::parse(parent).map_err(|_| Refused::not_found("endpoint"))?,
            branch: BranchName::parse(name).map_err(|error| wrong(format!("`name`: {error}")))?,
            ttl: ttl(query)?.flatten(),
            max: duration(query, "max")?,
        })
    }

    fn words(&self) -> (&'static str, String) {
        match self {
            Self::Create { parent, branch, .. } => ("branch create", format!("{parent}--{branch}")),
            Self::Delete(name) => ("branch delete", name.to_string()),
            Self::Reset { name, .. } => ("branch reset", name.to_string()),
            Self::Renew { name, .. } => ("branch renew", name.to_string()),
        }
    }
}

fn duration(query: &Query, name: &str) -> Result<Option<Duration>, Refused> {
    let parse = |text: &str| {
        parse_duration(text)
            .map_err(|error| Refused::new(StatusCode::BAD_REQUEST, format!("`{name}`: {error}")))
    };
    query.value(name).map(parse).transpose()
}

/// A duration, or `never`.
fn ttl(query: &Query) -> Result<Option<Option<Duration>>, Refused> {
    match query.value("ttl") {
        Some("never") => Ok(Some(None)),
        _ => Ok(duration(query, "ttl")?.map(Some)),
    }
}

impl From<BranchError> for Refused {
    fn from(error: BranchError) -> Self {
        let status = match error {
            BranchError::None(_) | BranchError::NoParent(_) => StatusCode::NOT_FOUND,
            BranchError::Name(_) => StatusCode::BAD_REQUEST,
            BranchError::NoSource { .. }
            | BranchError::TooMany { .. }
            | BranchError::TooLarge { .. }
            | BranchError::TooSlow { .. } => StatusCode::CONFLICT,
            BranchError::NoRoom { .. } => StatusCode::INSUFFICIENT_STORAGE,
            BranchError::TimedOut { .. } | BranchError::ParentRefuses(_) | BranchError::ShuttingDown => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            BranchError::Failed { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let message = error.message();
        let text = match error.detail() {
            Some(detail) => format!("{message}: {detail}"),
            None => message.into_owned(),
        };
        Self::new(status, text)
    }
}

impl View {
    /// All branches, or those of one endpoint.
    pub(super) fn branches(&self, parent: Option<&EndpointName>) -> Listing {
        let is_of = |record: &BranchRecord| match (parent, record.name.branch()) {
            (Some(parent), Some((of, _))) => of == *parent,
            (Some(_), None) => false,
            (None, _) => true,
        };
        let records = self.house.branches.list().into_iter().filter(is_of);
        Listing {
            key: "branch",
            filters: &["branch", "parent", "tenant", "state"],
            order: SortedBy::ByKey,
            items: records.map(|record| self.branch_line(&record)).collect(),
        }
    }

    /// One of them.
    pub(super) fn branch(&self, name: &EndpointName) -> Option<Value> {
        let record = self.house.branches.find(name)?;
        Some(self.branch_line(&record))
    }

    fn branch_line(&self, record: &BranchRecord) -> Value {
        let endpoint = self.house.directory.endpoint(&record.name);
        let (parent, own) = record.name.branch().unzip();
        let state = self.house.wakes.figures(&record.name);
        let sessions = self.house.roster.all();
        let sessions = sessions
            .iter()
            .filter(|listed| listed.who.endpoint == record.name);
        let expires = record.ttl.and_then(|ttl| record.used.checked_add(ttl));
        let mut line = json!({
            "branch": record.name.as_str(),
            "parent": parent.as_ref().map(EndpointName::as_str),
            "name": own.as_ref().map(BranchName::as_str),
            "tenant": endpoint.as_ref().map(|endpoint| endpoint.tenant.as_str()),
            "state": state.map(|figures| figures.state.as_str()),
            "sessions": sessions.count(),
            "made": rfc3339(record.made),
            "used": rfc3339(record.used),
            "ttl_ms": record.ttl.map(|ttl| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX)),
            "expires": expires.map(rfc3339),
            "bytes": record.bytes,
        });
        let reached = endpoint
            .map(|endpoint| self.reached(&endpoint))
            .unwrap_or_default();
        line["host"] = json!(reached.host);
        line["port"] = json!(reached.port);
        line["database"] = json!(reached.database);
        line["url"] = json!(reached.url);
        line
    }

    /// How an application gets there.
    fn reached(&self, endpoint: &Endpoint) -> Reached {
        let config = self.config.load();
        let database = match &endpoint.compute {
            Compute::Process(process) => process.database.clone(),
            Compute::Fixed(_) | Compute::Command(_) | Compute::Controlled(_) => None,
        };
        let database = database.unwrap_or_else(|| "postgres".to_owned());
        let Some(address) = self.address else {
            return Reached {
                database: Some(database),
                ..Reached::default()
            };
        };
        let name = &endpoint.name;
        let (host, option) = match config.domains.first() {
            Some(domain) => (format!("{name}.{domain}"), None),
            None if address.ip().is_unspecified() => ("localhost".to_owned(), Some(name)),
            None => (address.ip().to_string(), Some(name)),
        };
        // libpq reads an address with colons in brackets alone.
        let in_url = if host.contains(':') {
            format!("[{host}]")
        } else {
            host.clone()
        };
        let option = option.map(|name| format!("options=endpoint%3D{name}"));
        let tls = (!config.certificates.is_empty()).then(|| "sslmode=verify-full".to_owned());
        let parameters: Vec<String> = [tls, option].into_iter().flatten().collect();
        let question = if parameters.is_empty() { "" } else { "?" };
        let url = format!(
            "postgresql://{in_url}:{}/{}{question}{}",
            address.port(),
            encoded(&database),
            parameters.join("&")
        );
        Reached {
            host: Some(host),
            port: Some(address.port()),
            database: Some(database),
            url: Some(url),
        }
    }

    /// Carries an order out, for somebody at `peer` who may give it.
    ///
    /// # Errors
    /// There is nothing of that name, or it cannot be done.
    pub(super) async fn carry_out_branch(&self, order: &BranchOrder, peer: &str) -> Result<Value, Refused> {
        let (what, target) = order.words();
        self.audit((what, &target), peer).await.map_err(Refused::from)?;
        let branches = &self.house.branches;
        let right = WakeRight::for_operator();
        let record = match order {
            BranchOrder::Create {
                parent,
                branch,
                ttl,
                max,
            } => {
                let wish = Wish {
                    parent: parent.clone(),
                    branch: branch.clone(),
                    ttl: *ttl,
                    within: self.within(parent, *max)?,
                    who: Who::Operator,
                    right,
                };
                Some(branches.create(wish).await?)
            }
            BranchOrder::Delete(name) => {
                branches.delete(name).await?;
                None
            }
            BranchOrder::Reset { name, max } => {
                let within = self.within(name, *max)?;
                Some(branches.reset(name, within, right).await?)
            }
            BranchOrder::Renew { name, ttl } => Some(branches.renew(name, *ttl).await?),
        };
        self.told((what, &target), peer);
        Ok(record.map_or_else(|| json!({}), |record| self.branch_line(&record)))
    }

    /// How long it may take: as long as the endpoint's clients are held, where nobody says so.
    fn within(&self, endpoint: &EndpointName, max: Option<Duration>) -> Result<Duration, Refused> {
        let found = self.house.directory.endpoint(endpoint);
        match (max, found) {
            (Some(max), Some(_)) => Ok(max),
            (None, Some(endpoint)) => Ok(endpoint.hold_timeout),
            (_, None) if endpoint.branch().is_some() => Err(BranchError::None(endpoint.to_string()).into()),
            (_, None) => Err(Refused::from(Undone::NoEndpoint)),
        }
    }
}

#[derive(Default)]
struct Reached {
    host: Option<String>,
    port: Option<u16>,
    database: Option<String>,
    url: Option<String>,
}

/// As a part of a URL.
fn encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(byte.into()),
            byte => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(
        method: &Method,
        path: &[&str],
        query: &str,
    ) -> Option<Result<BranchOrder, (StatusCode, String)>> {
        let query = Query::parse(Some(query)).unwrap();
        let of = BranchOrder::of(method, path, &query);
        of.map(|order| order.map_err(|refused| (refused.status, refused.error)))
    }

    #[test]
    fn names_and_times_are_looked_at_before_anything_is_done() {
        let path = ["endpoints", "demo-main", "branches"];
        let create = |query| order(&Method::POST, &path, query).unwrap();
        assert_eq!(
            create("name=agent-42&ttl=1h"),
            Ok(BranchOrder::Create {
                parent: EndpointName::parse("demo-main").unwrap(),
                branch: BranchName::parse("agent-42").unwrap(),
                ttl: Some(Duration::from_secs(3600)),
                max: None,
            })
        );
        for (query, expected) in [
            ("", "`name` is missing"),
            ("name=..%2Fetc", "`name`: a name has lowercase letters"),
            ("name=a--b", "`name`: a name neither starts"),
            ("name=a&ttl=5", "`ttl`: "),
            ("name=a&size=5", "`size` is none of `name`, `ttl`, `max`"),
        ] {
            let (status, error) = create(query).unwrap_err();
            assert_eq!(status, StatusCode::BAD_REQUEST, "{query}");
            assert!(error.starts_with(expected), "{query}: {error}");
        }
        let of_nobody = order(&Method::POST, &["endpoints", "Demo", "branches"], "name=a").unwrap();
        assert_eq!(of_nobody.unwrap_err().0, StatusCode::NOT_FOUND);
        assert!(order(&Method::GET, &path, "").is_none());
        assert!(order(&Method::POST, &["endpoints", "demo-main", "wake"], "").is_none());
    }

    #[test]
    fn databases_are_written_as_urls_have_them() {
        assert_eq!(encoded("app"), "app");
        assert_eq!(encoded("my db/é"), "my%20db%2F%C3%A9");
    }
}
