//! pgbouncer.ini and userlist.txt as PgBouncer reads them (<https://www.pgbouncer.org/config.html>).
//!
//! Sections, `key = value` to the line's end, `;` and `#` before comments, `%include`; a database's value is a connection
//! string with quotes doubled. What keys mean is not decided here.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

/// Files that include files that include files.
const DEPTH_MAX: usize = 10;
/// What one file may have; as those of pgwake's own configuration.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// `key = value`, in the order of the file.
pub(super) type Pairs = Vec<(String, String)>;

/// Everything that the file and its includes say.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Ini {
    /// `[pgbouncer]`
    pub(super) settings: Pairs,
    /// `[databases]`, each with its connection string as it stands.
    pub(super) databases: Pairs,
    /// `[users]`
    pub(super) users: Pairs,
    /// Sections that mean nothing here, with their keys.
    pub(super) others: Vec<(String, String, String)>,
}

impl Ini {
    /// # Errors
    /// A file cannot be read, or a line is none that PgBouncer would take.
    pub(super) fn read(file: &Path) -> Result<Self, String> {
        let mut ini = Self::default();
        let mut section = String::new();
        ini.add(file, &mut section, 0)?;
        Ok(ini)
    }

    fn add(&mut self, file: &Path, section: &mut String, depth: usize) -> Result<(), String> {
        let shown = file.display();
        if depth > DEPTH_MAX {
            return Err(format!("{shown}: included too deep, or by itself"));
        }
        let text = read(file)?;
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with([';', '#']) {
                continue;
            }
            let wrong = |what: &str| format!("{shown}:{}: {what}", number + 1);
            if let Some(name) = line.strip_prefix('[') {
                let name = name
                    .strip_suffix(']')
                    .ok_or_else(|| wrong("a section has no end"))?;
                name.trim().clone_into(section);
            } else if let Some(path) = line.strip_prefix("%include") {
                // Relative to where PgBouncer is started: that is the file's own folder as often as not.
                let path = PathBuf::from(path.trim());
                let beside = file.parent().unwrap_or(Path::new("")).join(&path);
                self.add(if path.exists() { &path } else { &beside }, section, depth + 1)?;
            } else {
                let (key, value) = line
                    .split_once('=')
                    .ok_or_else(|| wrong("neither a section nor a key with \"=\""))?;
                let (key, value) = (unquoted(key.trim()), value.trim().to_owned());
                match section.as_str() {
                    "pgbouncer" => put(&mut self.settings, key.to_ascii_lowercase(), value),
                    "databases" => put(&mut self.databases, key, value),
                    "users" => put(&mut self.users, key, value),
                    _ => self.others.push((section.clone(), key, value)),
                }
            }
        }
        Ok(())
    }

    /// What a key of `[pgbouncer]` says, if it says something.
    pub(super) fn setting(&self, key: &str) -> Option<&str> {
        let found = self.settings.iter().find(|(name, _)| name == key);
        found
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }
}

/// The last one counts, as in PgBouncer.
fn put(pairs: &mut Pairs, key: String, value: String) {
    pairs.retain(|(name, _)| *name != key);
    pairs.push((key, value));
}

fn unquoted(key: &str) -> String {
    let inner = key.strip_prefix('"').and_then(|key| key.strip_suffix('"'));
    inner.map_or_else(|| key.to_owned(), |key| key.replace("\"\"", "\""))
}

/// A database's `key=value` pairs; values may stand in single quotes, with quotes doubled inside.
pub(super) fn pairs_of(text: &str) -> Result<Pairs, String> {
    let mut pairs = Pairs::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (key, behind) = rest.split_once('=').ok_or("a word without \"=\"")?;
        let behind = behind.trim_start();
        let (value, behind) = match behind.strip_prefix('\'') {
            Some(quoted) => quoted_value(quoted).ok_or("a quote without an end")?,
            None => {
                let end = behind.find(char::is_whitespace).unwrap_or(behind.len());
                (behind[..end].to_owned(), &behind[end..])
            }
        };
        put(&mut pairs, key.trim().to_ascii_lowercase(), value);
        rest = behind.trim_start();
    }
    Ok(pairs)
}

/// A value up to its closing quote, and what is behind that.
fn quoted_value(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut rest = text;
    loop {
        let (part, behind) = rest.split_once('\'')?;
        value.push_str(part);
        match behind.strip_prefix('\'') {
            Some(more) => {
                value.push('\'');
                rest = more;
            }
            None => return Some((value, behind)),
        }
    }
}

fn read(file: &Path) -> Result<String, String> {
    let mut text = String::new();
    let read = File::open(file).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text));
    match read {
        Ok(bytes) if bytes as u64 > FILE_BYTES_MAX => Err(format!(
            "{}: larger than 16 MiB: that is no file of PgBouncer's",
            file.display()
        )),
        Ok(_) => Ok(text),
        Err(error) => Err(format!("{}: {error}", file.display())),
    }
}

/// `"user" "secret"`, a line each; quotes inside are doubled.
///
/// # Errors
/// The file cannot be read, or a line is something else.
pub(super) fn read_userlist(file: &Path) -> Result<Pairs, String> {
    let shown = file.display();
    let text = read(file)?;
    let mut users = Pairs::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with([';', '#']) {
            continue;
        }
        let user = text_in_quotes(line);
        let user = user.and_then(|(name, rest)| Some((name, text_in_quotes(rest.trim_start())?.0)));
        let (name, secret) =
            user.ok_or_else(|| format!("{shown}:{}: not \"user\" \"secret\"", number + 1))?;
        put(&mut users, name, secret);
    }
    Ok(users)
}

fn text_in_quotes(text: &str) -> Option<(String, &str)> {
    let mut rest = text.strip_prefix('"')?;
    let mut value = String::new();
    loop {
        let (part, behind) = rest.split_once('"')?;
        value.push_str(part);
        match behind.strip_prefix('"') {
            Some(more) => {
                value.push('"');
                rest = more;
            }
            None => return Some((value, behind)),
        }
    }
}
