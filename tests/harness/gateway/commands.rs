//! Endpoints whose Postgres commands start: a script around `pg_ctl`, which notes what it was asked for, and does first
//! what a test has put in its way.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::Path,
};

use super::{Setup, endpoints::listed_superuser};
use crate::harness::{
    account::Account,
    postgres::{Version, programs},
};

/// The script: `ctl start|stop|status ENDPOINT`. Each start listens on another socket, unless there is `NAME.fixed`.
const SCRIPT: &str = r#"#!/bin/sh
what=$1 name=$2 data="$here/computes/$2"
echo "$what" >>"$here/$name.story"
if [ -e "$here/$name.$what" ]; then . "$here/$name.$what"; fi
case $what in
start)
    port=$((5431 + $(grep -c start "$here/$name.story")))
    if [ -e "$here/$name.fixed" ]; then port=5432; fi
    pg_ctl -w -s -l "$data/server.log" -o "-c listen_addresses= -c unix_socket_directories=$data -p $port" start \
        || exit 1
    echo "$data/.s.PGSQL.$port" >"$here/$name.address"
    cat "$here/$name.address" ;;
stop)
    pg_ctl -w -s -m fast stop ;;
status)
    pg_ctl status >/dev/null || exit $?
    cat "$here/$name.address" ;;
esac
"#;

impl Setup {
    /// An endpoint whose commands print where it listens; `compute` are further keys of the compute, `keys` lines of
    /// the endpoint's table.
    pub(crate) fn printed(self, endpoint: &str, compute: &str, keys: &str) -> Self {
        let toml = self.commanded(endpoint, compute, keys);
        self.tenants(&toml)
    }

    /// An endpoint whose address is fixed.
    pub(crate) fn commands(self, endpoint: &str, compute: &str, keys: &str) -> Self {
        fs::write(self.path().join(format!("{endpoint}.fixed")), "").unwrap();
        let address = self.data_dir(endpoint).join(".s.PGSQL.5432");
        let address = format!("address = \"{}\"", address.display());
        let compute = match compute {
            "" => address,
            more => format!("{more}, {address}"),
        };
        let toml = self.commanded(endpoint, &compute, keys);
        self.tenants(&toml)
    }

    /// The table of an endpoint, with everything that it needs. It has a stop command unless `compute` begins with
    /// "no stop".
    pub(crate) fn commanded(&self, endpoint: &str, compute: &str, keys: &str) -> String {
        let script = self.path().join("ctl");
        if !script.exists() {
            write_script(&script, self.path());
        }
        self.make_data_dir(endpoint);
        let words = |what: &str| format!("[\"{}\", \"{what}\", \"{{endpoint}}\"]", script.display());
        let (stop, compute) = match compute.strip_prefix("no stop") {
            Some(more) => (String::new(), more.trim_start_matches(", ")),
            None => (format!("stop = {}, ", words("stop")), compute),
        };
        let more = match compute {
            "" => String::new(),
            more => format!(", {more}"),
        };
        format!(
            "[tenants.acme.endpoints.{endpoint}]\n\
             compute = {{ kind = \"command\", start = {}, {stop}status = {}{more} }}\n{}\n{keys}\n",
            words("start"),
            words("status"),
            listed_superuser()
        )
    }
}

fn write_script(path: &Path, here: &Path) {
    let become_it = Account::for_postgres().map_or(String::new(), |Account { uid, gid }| {
        format!("setpriv --reuid={uid} --regid={gid} --clear-groups ")
    });
    let pg_ctl = programs(Version::Debian).join("pg_ctl");
    let functions = format!(
        "here='{}'\npg_ctl() {{ {become_it}'{}' -D \"$data\" \"$@\"; }}\n",
        here.display(),
        pg_ctl.display()
    );
    let (first, rest) = SCRIPT.split_once('\n').unwrap();
    // Renamed when it is whole: nobody runs a file that is open for writing.
    let new = path.with_extension("new");
    fs::write(&new, format!("{first}\n{functions}{rest}")).unwrap();
    fs::set_permissions(&new, Permissions::from_mode(0o755)).unwrap();
    fs::rename(new, path).unwrap();
}

/// What the endpoint's commands were asked for so far.
pub(crate) fn story(here: &Path, endpoint: &str) -> Vec<String> {
    let text = fs::read_to_string(here.join(format!("{endpoint}.story"))).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// How often it was asked for this.
pub(crate) fn times(here: &Path, endpoint: &str, what: &str) -> usize {
    story(here, endpoint).iter().filter(|word| *word == what).count()
}

/// Has a command do this first; `$here`, `$name` and `$data` are what they say.
pub(crate) fn obstruct(here: &Path, endpoint: &str, what: &str, script: &str) {
    let path = here.join(format!("{endpoint}.{what}"));
    let new = here.join(format!("{endpoint}.{what}.new"));
    fs::write(&new, script).unwrap();
    fs::rename(new, path).unwrap();
}

/// Has a command do what it should again.
pub(crate) fn clear(here: &Path, endpoint: &str, what: &str) {
    fs::remove_file(here.join(format!("{endpoint}.{what}"))).unwrap();
}
