//! Computes whose server has an address of its own, and settings of those that pgwake starts, as `pgwake check` shows
//! them.

use crate::config::{
    CommandCompute, CommandLine, DurationText, ExpectedServer, FixedCompute, ServerSetting, ServerTls,
    Variable,
};

use super::{Values, list, places::server, quoted};

/// A fixed server, value by value.
pub(super) fn fixed(fixed: &FixedCompute) -> Values {
    let mut values = vec![
        key("kind", quoted("fixed")),
        key("address", quoted(server(&fixed.address))),
    ];
    values.extend(tls(&fixed.tls));
    values
}

/// Which server it has to be.
pub(super) fn expected(expected: ExpectedServer) -> (String, String) {
    let text = match expected {
        ExpectedServer::AsBefore => {
            "as first read, where neither socket nor verify-full says who it is".to_owned()
        }
        ExpectedServer::Is(number) => number.to_string(),
        ExpectedServer::Any => quoted("any"),
    };
    key("system_identifier", text)
}

/// A compute of commands, in a word.
pub(super) fn command_line(command: &CommandCompute) -> String {
    let never = match command.stop {
        Some(_) => "",
        None => ", never suspended: there is no `stop`",
    };
    format!("command {}{never}", command.start.program)
}

/// A compute of commands, value by value; names stand where they are put in.
pub(super) fn command(command: &CommandCompute) -> Values {
    let line = |line: &CommandLine| list(line.words().map(|word| format!("{word:?}")));
    let duration = |value| quoted(DurationText(value));
    let or = |value: Option<String>, otherwise: &str| value.unwrap_or_else(|| otherwise.to_owned());
    let stop = command.stop.as_ref().map(line);
    let address = command.address.as_ref().map(|address| quoted(server(address)));
    // Values may be secrets.
    let variable = |variable: &Variable| quoted(format_args!("{}=…", variable.name));
    let mut values = vec![
        key("kind", quoted("command")),
        key("start", line(&command.start)),
        key("stop", or(stop, "none: it is never suspended")),
        key("status", line(&command.status)),
        key("environment", list(command.environment.iter().map(variable))),
        key("address", or(address, "what the commands print")),
        key(
            "start_timeout",
            or(command.start_timeout.map(duration), "the endpoint's"),
        ),
        key(
            "stop_timeout",
            or(command.stop_timeout.map(duration), "the endpoint's"),
        ),
        key("status_timeout", duration(command.status_timeout)),
        key(
            "status_every",
            or(command.status_every.map(duration), "\"never\""),
        ),
    ];
    match &command.tls {
        Some(said) => values.extend(tls(said)),
        None => values.push(key("tls", "plaintext, on this machine alone".to_owned())),
    }
    values
}

/// What a local server is started with, as one could write it.
pub(super) fn settings(settings: &[ServerSetting]) -> String {
    if settings.is_empty() {
        return "none".to_owned();
    }
    let setting = |setting: &ServerSetting| format!("{} = {:?}", setting.name, setting.value);
    let settings: Vec<_> = settings.iter().map(setting).collect();
    format!("{{ {} }}", settings.join(", "))
}

fn key(name: &str, value: String) -> (String, String) {
    (format!("compute.{name}"), value)
}

fn tls(tls: &ServerTls) -> Values {
    let (word, ca) = match tls {
        ServerTls::Disable => ("disable", None),
        ServerTls::Require => ("require", None),
        ServerTls::VerifyCa { ca } => ("verify-ca", Some(ca)),
        ServerTls::VerifyFull { ca } => ("verify-full", Some(ca)),
    };
    let ca = ca.map(|ca| key("ca", quoted(ca.display())));
    [key("tls", quoted(word))].into_iter().chain(ca).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::run;

    fn shown(compute: &str, endpoint: Option<&str>) -> String {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pgwake.toml");
        let text = format!(
            "[listen]\npostgres = {{ address = \"127.0.0.1:6432\", tls = \"optional\" }}\n\
             [tenants.demo]\nroles_from = \"postgres\"\n\
             endpoints.demo-main.compute = {{ {compute} }}\n"
        );
        fs::write(&file, text).unwrap();
        let mut out = Vec::new();
        run(&file, endpoint, &mut out).unwrap();
        let words = String::from_utf8(out).unwrap();
        let line = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        words.lines().map(line).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn a_compute_of_commands_is_shown_as_it_will_be_run_and_its_environment_without_values() {
        let compute = "kind = \"command\", start = [\"systemctl\", \"start\", \"pg-{endpoint}\"], stop = [\"systemctl\", \"stop\", \"pg-{endpoint}\"], \
             status = [\"systemctl\", \"is-active\", \"pg-{endpoint}\"], environment = [\"TOKEN=very-secret\"], \
             address = \"/run/pg/.s.PGSQL.5432\", stop_timeout = \"1m\"";
        let text = shown(compute, Some("demo-main"));
        for line in [
            "compute.start [\"systemctl\", \"start\", \"pg-demo-main\"] ",
            "compute.stop [\"systemctl\", \"stop\", \"pg-demo-main\"] ",
            "compute.environment [\"TOKEN=…\"] ",
            "compute.address \"/run/pg/.s.PGSQL.5432\" ",
            "compute.start_timeout the endpoint's built-in",
            "compute.stop_timeout \"1m\" ",
            "compute.status_timeout \"5s\" built-in",
            "compute.status_every \"30s\" built-in",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        assert!(!text.contains("very-secret"), "{text}");
    }

    #[test]
    fn settings_are_shown_as_one_could_write_them() {
        let compute = "kind = \"process\", data_dir = \"/data\"";
        let none = shown(compute, Some("demo-main"));
        assert!(none.contains("compute.settings none built-in"), "{none}");
        let compute = format!(
            "{compute}, settings = {{ Shared_Buffers = \"64MB\", jit = false, a.b = \"it's \\\"c\\\"\" }}"
        );
        let some = shown(&compute, Some("demo-main"));
        let line = "compute.settings { a.b = \"it's \\\"c\\\"\", jit = \"off\", shared_buffers = \"64MB\" } ";
        assert!(some.contains(line), "{some}");
        assert!(!some.contains("} built-in"), "{some}");
    }

    #[test]
    fn one_without_a_stop_command_is_said_to_be_never_suspended() {
        let compute = "kind = \"command\", start = [\"a\"], status = [\"b\"]";
        let all = shown(compute, None);
        assert!(
            all.contains("demo-main tenant demo, command a, never suspended: there is no `stop`"),
            "{all}"
        );
        let one = shown(compute, Some("demo-main"));
        assert!(
            one.contains("compute.stop none: it is never suspended built-in"),
            "{one}"
        );
        assert!(
            one.contains("compute.address what the commands print built-in"),
            "{one}"
        );
    }
}
