//! Computes of commands: names put into their arguments, what pgwake cannot do without, what fits with what.

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use rustix::fs::{Access, access};

use crate::config::{
    CommandCompute, CommandLine, Compute, DurationText, ServerAddress, ServerTls, Variable, built_in,
    file::{CommandTable, CommandWords},
    origin::record_own,
    problem::{Spot, Wrong},
    read::{At, Setting, nearest},
    secret,
};

use super::{MOMENT, YEAR, compute, endpoint::Shared, endpoint::Written, required, within};

/// What may stand in an argument.
const PLACEHOLDERS: [&str; 2] = ["endpoint", "tenant"];

impl Written<'_> {
    /// The compute of commands; `start_timeout` is the endpoint's.
    pub(super) fn check_command(
        &mut self,
        (table, spot): (&CommandTable, &Spot),
        start_timeout: Duration,
        shared: &mut Shared<'_>,
    ) -> Option<Compute> {
        self.record_command(table);
        let mut line = |setting: &Setting<CommandWords>| self.command_line(setting.given()?);
        let (start, stop, status) = (line(&table.start), line(&table.stop), line(&table.status));
        if let (Some(start), Some(at)) = (&start, table.start.given()) {
            let owner = format!("that of endpoint `{}`", self.name);
            let words = start.words().map(str::to_owned).collect();
            shared.starts.claim(words, &owner, &at.spot, self.report);
        }
        required(&table.start, "start", spot, self.report);
        if table.status.is_absent() {
            let message = "`status` is missing: without it pgwake could start twice what runs already";
            let fix = "add status = [\"…\"]: a command that ends with 0 where the compute runs, and with 3 where it does not";
            self.report.add(spot, Wrong::new(message, fix));
        }
        let timeouts = self.check_timeouts(table, start_timeout);
        let environment = self.check_environment(table);
        let (address, tls) = self.check_server(table, spot)?;
        let status_every = table.status_every.given().map(|at| at.value.0);
        Some(Compute::Command(Box::new(CommandCompute {
            start: start?,
            stop,
            status: status?,
            environment,
            address,
            tls,
            start_timeout: timeouts[0],
            stop_timeout: timeouts[1],
            status_timeout: timeouts[2].unwrap_or(built_in::STATUS_TIMEOUT),
            status_every: status_every.unwrap_or(Some(built_in::STATUS_EVERY)),
        })))
    }

    fn record_command(&mut self, table: &CommandTable) {
        let origins = &mut self.origins;
        record_own(origins, "compute.start", &table.start);
        record_own(origins, "compute.stop", &table.stop);
        record_own(origins, "compute.status", &table.status);
        record_own(origins, "compute.environment", &table.environment);
        record_own(origins, "compute.start_timeout", &table.start_timeout);
        record_own(origins, "compute.stop_timeout", &table.stop_timeout);
        record_own(origins, "compute.status_timeout", &table.status_timeout);
        record_own(origins, "compute.status_every", &table.status_every);
        record_own(origins, "compute.address", &table.server.address);
        record_own(origins, "compute.tls", &table.server.tls);
        record_own(origins, "compute.ca", &table.server.ca);
        record_own(
            origins,
            "compute.system_identifier",
            &table.server.system_identifier,
        );
    }

    fn command_line(&mut self, at: &At<CommandWords>) -> Option<CommandLine> {
        let (program, arguments) = at.value.0.split_first()?;
        let checked = check_program(&program.value.0, &program.spot);
        let program = self.report.note(&program.spot, checked);
        let names = [self.name.as_str(), self.tenant_name.as_str()];
        let mut filled = Vec::new();
        for at in arguments {
            filled.push(self.report.note(&at.spot, fill(&at.value.0, names)));
        }
        let arguments = filled.into_iter().collect::<Option<_>>()?;
        let program = program?;
        Some(CommandLine { program, arguments })
    }

    /// Of start, stop and status.
    fn check_timeouts(&mut self, table: &CommandTable, start_timeout: Duration) -> [Option<Duration>; 3] {
        let settings = [&table.start_timeout, &table.stop_timeout, &table.status_timeout];
        if let Some(at) = table.start_timeout.given()
            && at.value > start_timeout
        {
            let whole = DurationText(start_timeout);
            let message =
                format!("the command would be given up after {whole}: the endpoint's start_timeout");
            let fix = format!("write at most \"{whole}\", or raise the endpoint's own start_timeout");
            self.report.add(&at.spot, Wrong::new(message, fix));
        }
        if let Some(at) = table.status_every.given()
            && let Some(value) = at.value.0
        {
            let spot = at.spot.clone();
            within(&At { value, spot }, &(Duration::from_secs(1)..=YEAR), self.report);
        }
        settings.map(|setting| {
            let at = setting.given()?;
            Some(within(at, &(MOMENT..=YEAR), self.report))
        })
    }

    fn check_environment(&mut self, table: &CommandTable) -> Vec<Variable> {
        let mut names = BTreeSet::new();
        let mut variables = Vec::new();
        for at in table.environment.given().iter().flat_map(|at| &at.value.0) {
            let variable = &at.value.0;
            if names.insert(&variable.name) {
                variables.push(variable.clone());
            } else {
                let message = format!("{} stands here twice", variable.name);
                self.report
                    .add(&at.spot, Wrong::new(message, "remove one of the two"));
            }
        }
        variables
    }

    /// Where it listens, as far as that is said, and how it is reached there.
    fn check_server(
        &mut self,
        table: &CommandTable,
        spot: &Spot,
    ) -> Option<(Option<ServerAddress>, Option<ServerTls>)> {
        let server = &table.server;
        if let Some(at) = server.ca.given() {
            self.report.note(&at.spot, secret::check_readable(&at.value));
        }
        let address = match &server.address {
            Setting::Given(at) => Some(at.value.0.clone()),
            Setting::Refused => return None,
            Setting::Absent => None,
        };
        let tls = match &address {
            Some(ServerAddress::Unix(_)) => {
                compute::refuse_tls_over_socket(server, self.report);
                Some(ServerTls::Disable)
            }
            Some(ServerAddress::Tcp { host, .. }) => {
                Some(compute::check_tls(server, host, spot, self.report)?)
            }
            None if server.tls.is_absent() && server.ca.is_absent() => None,
            // No host: what is said has to be enough.
            None => Some(compute::check_tls(server, "", spot, self.report)?),
        };
        Some((address, tls))
    }
}

/// A path is resolved and has to be there; a name is looked for in PATH when the command runs.
fn check_program(text: &str, spot: &Spot) -> Result<String, Wrong> {
    if let Some(name) = placeholder(text) {
        let message = format!("{{{}}} in place of a program", name.1);
        return Err(Wrong::new(
            message,
            "name the program itself; names go into its arguments",
        ));
    }
    if !text.contains('/') {
        return Ok(text.to_owned());
    }
    if text.starts_with('~') {
        let fix = "write the path in full, or relative to the folder of this file";
        return Err(Wrong::new("`~` is only known to shells", fix));
    }
    let path: PathBuf = spot.resolve(text.as_ref());
    let shown = path.display().to_string();
    match access(&path, Access::EXEC_OK) {
        Ok(()) if path.is_file() => Ok(shown),
        _ => {
            let message = format!("{shown} is no program that pgwake may run");
            Err(Wrong::new(
                message,
                "name an executable file, or a program of PATH without a `/`",
            ))
        }
    }
}

/// The argument with names in place of placeholders. Names are letters, digits and hyphens; whatever an argument is,
/// it stays one argument.
fn fill(text: &str, names: [&str; 2]) -> Result<String, Wrong> {
    let mut filled = String::new();
    let mut rest = text;
    while let Some((at, name)) = placeholder(rest) {
        let Some(index) = PLACEHOLDERS.iter().position(|known| *known == name) else {
            let fix = match nearest(name, PLACEHOLDERS.into_iter()) {
                Some(near) => format!("did you mean {{{near}}}?"),
                None => "write {endpoint} or {tenant}; what needs such braces for itself goes into a script"
                    .to_owned(),
            };
            return Err(Wrong::new(
                format!("there is nothing to put in for {{{name}}}"),
                fix,
            ));
        };
        filled.push_str(&rest[..at]);
        filled.push_str(names[index]);
        rest = &rest[at + name.len() + 2..];
    }
    filled.push_str(rest);
    Ok(filled)
}

/// The first `{word}` of a text, and where it begins. Other braces mean nothing: `{{.State.Running}}` stays as it is.
fn placeholder(text: &str) -> Option<(usize, &str)> {
    let mut from = 0;
    while let Some(at) = text[from..].find('{').map(|at| from + at) {
        let behind = &text[at + 1..];
        let word = |c: char| c.is_ascii_lowercase() || c == '_';
        let end = behind.find(|c: char| !word(c)).unwrap_or(behind.len());
        if end > 0 && behind[end..].starts_with('}') {
            return Some((at, &behind[..end]));
        }
        from = at + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_put_in_wherever_they_are_asked_for_and_nothing_else_is_touched() {
        let names = ["demo-main", "demo"];
        for (text, filled) in [
            ("start", "start"),
            ("pg-{endpoint}", "pg-demo-main"),
            ("{tenant}/{endpoint}.{tenant}", "demo/demo-main.demo"),
            ("{{.State.Running}}", "{{.State.Running}}"),
            ("{\"a\": {}}", "{\"a\": {}}"),
            ("{{endpoint}}", "{demo-main}"),
            (
                "${HOME} $(id) `id` ; | & \\ '\" *\n{",
                "${HOME} $(id) `id` ; | & \\ '\" *\n{",
            ),
            ("ä{endpoint}ö", "ädemo-mainö"),
        ] {
            assert_eq!(fill(text, names).as_deref(), Ok(filled), "{text}");
        }
    }

    #[test]
    fn what_nothing_can_be_put_in_for_is_a_mistake() {
        for (text, fix) in [
            ("{endpiont}", "did you mean {endpoint}?"),
            (
                "a{pid}",
                "write {endpoint} or {tenant}; what needs such braces for itself goes into a script",
            ),
        ] {
            assert_eq!(fill(text, ["a", "b"]).unwrap_err().fix, fix, "{text}");
        }
    }
}
