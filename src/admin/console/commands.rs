//! What an operator may say on the console: `SHOW …`, and PgBouncer's commands with pgwake's own.

use std::borrow::Cow;

use super::tables::Shown;
use crate::error::{ClientError, Fault, SqlState};
use crate::ids::{EndpointName, SessionId};

/// A statement as it is understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Command {
    /// A table.
    Show(Shown),
    /// Something is to be done; the tag that says so.
    Orders(&'static str, Wanted),
    /// What drivers say and nobody needs to do anything for.
    Nothing(&'static str),
}

/// What is to be done, and to whom; `None`: to all endpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    Pause(Option<EndpointName>),
    Resume(Option<EndpointName>),
    Reconnect(Option<EndpointName>),
    Suspend(Option<EndpointName>),
    Wake(EndpointName),
    Disable(EndpointName),
    Enable(EndpointName),
    /// All sessions of an endpoint are ended.
    Kill(EndpointName),
    /// One session is ended.
    KillClient(SessionId),
    Reload,
    Shutdown,
}

/// Why a statement is not understood.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Misunderstood {
    #[error("SHOW takes one word; SHOW HELP has them all")]
    ShowOneWord,
    #[error("there is nothing called \"{0}\" to show; SHOW HELP has all")]
    UnknownTable(String),
    #[error("{0} takes the name of an endpoint")]
    NeedsEndpoint(String),
    #[error("KILL_CLIENT takes the id of a session, as SHOW CLIENTS has it")]
    NeedsSession,
    #[error("unknown command \"{0}\"; SHOW HELP has them all")]
    UnknownCommand(String),
    #[error("one endpoint at a time, or none for all")]
    OneOrAll,
    #[error("there is no endpoint \"{0}\"")]
    NoEndpoint(String),
    #[error("permission denied: this role may only look")]
    MayOnlyLook,
}

impl ClientError for Misunderstood {
    fn sqlstate(&self) -> SqlState {
        match self {
            // Not among pgwake's own: invalid_catalog_name, insufficient_privilege, syntax_error.
            Self::NoEndpoint(_) => SqlState("3D000"),
            Self::MayOnlyLook => SqlState("42501"),
            _ => SqlState("42601"),
        }
    }

    fn message(&self) -> Cow<'static, str> {
        self.to_string().into()
    }

    fn fault(&self) -> Fault {
        Fault::Client
    }

    #[cfg(test)]
    fn examples() -> Vec<Self> {
        crate::error::examples! {
            Self::ShowOneWord => [Self::ShowOneWord],
            Self::UnknownTable(_) => [Self::UnknownTable("POOL".to_owned())],
            Self::NeedsEndpoint(_) => ["WAKE", "DISABLE", "ENABLE", "KILL"].map(|verb| Self::NeedsEndpoint(verb.to_owned())),
            Self::NeedsSession => [Self::NeedsSession],
            Self::UnknownCommand(_) => [Self::UnknownCommand("STOP".to_owned())],
            Self::OneOrAll => [Self::OneOrAll],
            Self::NoEndpoint(_) => [Self::NoEndpoint("Demo".to_owned())],
            Self::MayOnlyLook => [Self::MayOnlyLook],
        }
    }
}

impl Command {
    /// # Errors
    /// It is none of those that there are.
    pub(super) fn parse(statement: &str) -> Result<Self, Misunderstood> {
        let statement = statement.trim().trim_end_matches(';');
        let words: Vec<&str> = statement.split_whitespace().collect();
        let Some((first, rest)) = words.split_first() else {
            return Ok(Self::Nothing(""));
        };
        let verb = first.to_ascii_uppercase();
        let (tag, wanted) = match (verb.as_str(), rest) {
            ("SHOW", [table]) => {
                return Shown::named(table)
                    .map(Self::Show)
                    .ok_or_else(|| Misunderstood::UnknownTable((*table).to_owned()));
            }
            ("SHOW", _) => return Err(Misunderstood::ShowOneWord),
            // Exporters and drivers set what means nothing here.
            ("SET", _) => return Ok(Self::Nothing("SET")),
            ("RELOAD", []) => ("RELOAD", Wanted::Reload),
            ("PAUSE", rest) => ("PAUSE", Wanted::Pause(one_or_all(rest)?)),
            ("RESUME", rest) => ("RESUME", Wanted::Resume(one_or_all(rest)?)),
            ("RECONNECT", rest) => ("RECONNECT", Wanted::Reconnect(one_or_all(rest)?)),
            ("SUSPEND", rest) => ("SUSPEND", Wanted::Suspend(one_or_all(rest)?)),
            ("WAKE", [one]) => ("WAKE", Wanted::Wake(name(one)?)),
            ("DISABLE", [one]) => ("DISABLE", Wanted::Disable(name(one)?)),
            ("ENABLE", [one]) => ("ENABLE", Wanted::Enable(name(one)?)),
            ("KILL", [one]) => ("KILL", Wanted::Kill(name(one)?)),
            ("KILL_CLIENT", [id]) => ("KILL_CLIENT", Wanted::KillClient(session(id)?)),
            ("SHUTDOWN", []) => ("SHUTDOWN", Wanted::Shutdown),
            ("KILL_CLIENT", _) => return Err(Misunderstood::NeedsSession),
            ("WAKE" | "DISABLE" | "ENABLE" | "KILL", _) => {
                return Err(Misunderstood::NeedsEndpoint(verb));
            }
            _ => return Err(Misunderstood::UnknownCommand((*first).to_owned())),
        };
        Ok(Self::Orders(tag, wanted))
    }
}

fn one_or_all(words: &[&str]) -> Result<Option<EndpointName>, Misunderstood> {
    match words {
        [] => Ok(None),
        [one] => name(one).map(Some),
        _ => Err(Misunderstood::OneOrAll),
    }
}

fn session(word: &str) -> Result<SessionId, Misunderstood> {
    word.trim_matches(['"', '\''])
        .parse()
        .map_err(|_| Misunderstood::NeedsSession)
}

/// As it is, or as SQL quotes a name.
fn name(word: &str) -> Result<EndpointName, Misunderstood> {
    let word = word.trim_matches('"');
    EndpointName::parse_any(word).map_err(|_| Misunderstood::NoEndpoint(word.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::order::Undone;
    use crate::error::documented;

    fn main() -> EndpointName {
        EndpointName::parse("demo-main").unwrap()
    }

    #[test]
    fn commands_are_understood_in_any_case_and_with_quotes() {
        let all = Command::Orders("PAUSE", Wanted::Pause(None));
        assert_eq!(Command::parse(" pause ; "), Ok(all));
        let reload = Command::Orders("RELOAD", Wanted::Reload);
        assert_eq!(Command::parse("reload"), Ok(reload));
        let one = Command::Orders("KILL", Wanted::Kill(main()));
        assert_eq!(Command::parse("Kill \"demo-main\""), Ok(one));
        assert_eq!(Command::parse("show Pools;"), Ok(Command::Show(Shown::Pools)));
        assert_eq!(
            Command::parse("set client_encoding to 'utf8'"),
            Ok(Command::Nothing("SET"))
        );
    }

    #[test]
    fn what_is_not_understood_does_nothing_and_says_why() {
        for (statement, sqlstate) in [
            ("KILL", "42601"),
            ("KILL_CLIENT", "42601"),
            ("KILL_CLIENT 1; 2", "42601"),
            ("KILL_CLIENT nobody", "42601"),
            ("WAKE a b", "42601"),
            ("PAUSE Not_A_Name", "3D000"),
            ("SHOW EVERYTHING", "42601"),
            ("SHOW", "42601"),
            ("SELECT 1", "42601"),
            ("SHUTDOWN now", "42601"),
            ("RELOAD now", "42601"),
        ] {
            assert_eq!(
                Command::parse(statement).unwrap_err().sqlstate().0,
                sqlstate,
                "{statement}"
            );
        }
    }

    #[test]
    fn every_error_is_in_the_table_of_the_guide() {
        let told = [documented::told::<Misunderstood>(), documented::told::<Undone>()];
        documented::compare("What the console answers", told.concat());
    }
}
