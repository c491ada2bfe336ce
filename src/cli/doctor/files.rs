//! The files that libpq reads beside a connection string: services and passwords
//! (<https://www.postgresql.org/docs/current/libpq-pgservice.html>, <https://www.postgresql.org/docs/current/libpq-pgpass.html>).
//!
//! Bounded, and looked at as libpq does: a file of passwords that others can read is passed over, with a word. Nothing here
//! is repeated in what is written. Who calls: `conninfo`.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use super::conninfo::Said;
use crate::ids::Secret;

/// No such file has as much.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// Where the packages of Debian have the services of a whole machine.
const SYSTEM_FOLDER: &str = "/etc/postgresql-common";
/// Where libpq looks for sockets where nothing else is said, as Debian and as Postgres itself build it: `localhost` in a
/// file of passwords.
const SOCKET_FOLDERS: [&str; 2] = ["/var/run/postgresql", "/tmp"];

/// The environment.
pub(super) type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// A file in the user's home.
pub(super) fn at_home(environment: Environment<'_>, file: &str) -> Option<PathBuf> {
    environment("HOME").map(|home| Path::new(&home).join(file))
}

/// Takes in what a service says, where the connection string itself says nothing; what is worth knowing of it.
///
/// # Errors
/// What is wrong with it, without a value.
pub(super) fn add_service(said: &mut Said, environment: Environment<'_>) -> Result<Option<String>, String> {
    let service = said.remove("service").filter(|name| !name.is_empty());
    let Some(service) = service.or_else(|| environment("PGSERVICE")) else {
        return Ok(None);
    };
    let own = environment("PGSERVICEFILE").map(PathBuf::from);
    let own = own.or_else(|| at_home(environment, ".pg_service.conf"));
    let system = environment("PGSYSCONFDIR").unwrap_or_else(|| SYSTEM_FOLDER.to_owned());
    let system = Path::new(&system).join("pg_service.conf");
    for file in own.into_iter().chain([system]) {
        let Some(text) = read(&file).map_err(|error| format!("{}: {error}", file.display()))? else {
            continue;
        };
        if let Some(settings) = of_service(&text, &service, &file)? {
            for (key, value) in settings {
                said.entry(key).or_insert(value);
            }
            return Ok(Some(format!("service {service} of {}", file.display())));
        }
    }
    Err(format!("there is no service {service:?} in the service files"))
}

/// The settings of a service; `None`: there is none of that name.
fn of_service(text: &str, service: &str, file: &Path) -> Result<Option<Said>, String> {
    let mut found: Option<Said> = None;
    let lines = (1..).zip(text.lines().map(str::trim));
    for (number, line) in lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
        if line.starts_with('[') {
            if found.is_some() {
                break;
            }
            let name = line.strip_prefix('[').and_then(|rest| rest.split_once(']'));
            found = name.filter(|(name, _)| *name == service).map(|_| Said::new());
            continue;
        }
        let Some(settings) = &mut found else { continue };
        let wrong = |what: &str| format!("{}, line {number}: {what}", file.display());
        match line.split_once('=') {
            Some(("service", _)) => return Err(wrong("a service may not name another")),
            // The first one counts.
            Some((key, value)) => _ = settings.entry(key.to_owned()).or_insert(value.to_owned()),
            None => return Err(wrong("there is no \"=\"")),
        }
    }
    Ok(found)
}

/// What a password is looked for with, in the order of a line's fields.
pub(super) type Wanted<'a> = [&'a str; 4];

/// The password of the first line that fits. `Err`: why the file is passed over.
pub(super) fn password(file: &Path, wanted: Wanted<'_>) -> Result<Option<Secret>, String> {
    let passed_over = |why: String| format!("{} is passed over, as by libpq: {why}", file.display());
    match file.metadata() {
        Err(_) => return Ok(None),
        Ok(data) if !data.is_file() => return Err(passed_over("it is no plain file".to_owned())),
        Ok(data) if data.mode() & 0o077 != 0 => {
            let why = format!("others can read it; run `chmod 600 {}`", file.display());
            return Err(passed_over(why));
        }
        Ok(_) => (),
    }
    let text = read(file).map_err(|error| passed_over(error.to_string()))?;
    let [host, rest @ ..] = wanted;
    let host = match SOCKET_FOLDERS.contains(&host.trim_end_matches('/')) {
        true => "localhost",
        false => host,
    };
    let [port, dbname, user] = rest;
    let lines = text.as_ref().map_or("", |text| text.as_str()).lines();
    let mut lines = lines.filter(|line| !line.starts_with('#'));
    Ok(lines.find_map(|line| of_line(line, [host, port, dbname, user])))
}

/// The line's password, if its first four fields fit.
fn of_line(line: &str, wanted: Wanted<'_>) -> Option<Secret> {
    let mut rest = line;
    for value in wanted {
        let (field, behind) = field(rest);
        // An escaped star is a star.
        let is_any = rest.starts_with("*:");
        if !is_any && *field != value {
            return None;
        }
        rest = behind?;
    }
    let (password, _) = field(rest);
    (!password.is_empty()).then(|| Secret::new(&**password))
}

/// The text up to the next colon, with `\:` and `\\` undone, and what is behind that.
fn field(text: &str) -> (Zeroizing<String>, Option<&str>) {
    let mut field = Zeroizing::new(String::with_capacity(text.len()));
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => field.extend(letters.next()),
            ':' => return (field, Some(letters.as_str())),
            other => field.push(other),
        }
    }
    (field, None)
}

/// The text of a file, as far as it is text; `None`: there is none.
fn read(file: &Path) -> io::Result<Option<Zeroizing<String>>> {
    let opened = match File::open(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let mut bytes = Zeroizing::new(Vec::new());
    opened.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::other("it has more than 1 MiB"));
    }
    Ok(Some(Zeroizing::new(String::from_utf8_lossy(&bytes).into_owned())))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    fn pgpass(text: &str, mode: u32) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pgpass");
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        (folder, file)
    }

    #[test]
    fn the_first_line_that_fits_has_the_password() {
        let text = "# db.example:5432:shop:app:commented\n\
                    db.example:5432:shop:other:not-mine\n\
                    \\*:*:*:app:a-star\n\
                    db.example:*:shop:app:a\\:b\\\\c\n\
                    *:*:*:*:anybody:behind\n\
                    localhost:5432:*:app:never\n";
        let (_folder, file) = pgpass(text, 0o600);
        let found = |host, user| {
            let found = password(&file, [host, "5432", "shop", user]).unwrap();
            found.map(|password| password.reveal().to_owned())
        };
        assert_eq!(found("db.example", "app").as_deref(), Some("a:b\\c"));
        assert_eq!(found("elsewhere", "app").as_deref(), Some("anybody"));
        assert_eq!(found("*", "app").as_deref(), Some("a-star"));
        let (_folder, file) = pgpass("localhost:5432:*:app:local\nno line\n::::\n", 0o600);
        let found = |host| password(&file, [host, "5432", "shop", "app"]).unwrap();
        assert_eq!(found("/var/run/postgresql").unwrap().reveal(), "local");
        assert!(found("/elsewhere").is_none());
        assert!(
            password(Path::new("/no/such/file"), ["a", "1", "b", "c"])
                .unwrap()
                .is_none()
        );
    }

    #[test]
    fn a_file_of_passwords_that_others_can_read_or_that_is_too_large_is_passed_over_with_a_word() {
        for mode in [0o640, 0o604] {
            let (_folder, file) = pgpass("*:*:*:*:sesame\n", mode);
            let why = password(&file, ["a", "1", "b", "c"]).unwrap_err();
            assert!(why.contains("chmod 600") && !why.contains("sesame"), "{why}");
        }
        let (folder, _) = pgpass("", 0o600);
        let why = password(folder.path(), ["a", "1", "b", "c"]).unwrap_err();
        assert!(why.contains("no plain file"), "{why}");
        let (_folder, file) = pgpass(&"#\n".repeat(600_000), 0o600);
        let why = password(&file, ["a", "1", "b", "c"]).unwrap_err();
        assert!(why.contains("more than 1 MiB"), "{why}");
    }

    #[test]
    fn a_service_says_what_the_connection_string_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let text = "[other]\nhost=wrong\n\n# a comment\n [shop] \nhost=db.example\nport = 6432\n\
                    options=-c a=b\nhost=second\n[shop]\nhost=third\n";
        fs::write(folder.path().join(".pg_service.conf"), text).unwrap();
        let home = folder.path().display().to_string();
        let environment = |name: &str| (name == "HOME").then(|| home.clone());
        let mut said = Said::from([("service".to_owned(), "shop".to_owned())]);
        said.insert("user".to_owned(), "app".to_owned());
        let aside = add_service(&mut said, &environment).unwrap().unwrap();
        assert!(aside.starts_with("service shop of /"), "{aside}");
        let said: Vec<_> = said.iter().map(|(key, value)| (&**key, &**value)).collect();
        // As libpq has it, spaces around "=" are part of what they stand beside.
        let expected = [
            ("host", "db.example"),
            ("options", "-c a=b"),
            ("port ", " 6432"),
            ("user", "app"),
        ];
        assert_eq!(said, expected);
    }

    #[test]
    fn what_is_wrong_with_a_service_is_told_with_its_line() {
        let file = Path::new("services");
        let wrong = |text| of_service(text, "shop", file).unwrap_err();
        assert_eq!(wrong("[shop]\n\nsesame\n"), "services, line 3: there is no \"=\"");
        assert!(wrong("[shop]\nservice=other\n").contains("name another"));
        assert_eq!(of_service("sesame\n[other]\nx\n", "shop", file), Ok(None));
        let mut said = Said::from([("service".to_owned(), "nowhere".to_owned())]);
        let nowhere = |name: &str| (name == "PGSYSCONFDIR").then(|| "/no/such/folder".to_owned());
        let error = add_service(&mut said, &nowhere).unwrap_err();
        assert!(error.contains("no service \"nowhere\""), "{error}");
    }
}
