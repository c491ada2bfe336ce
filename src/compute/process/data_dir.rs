//! The data directory: what it is now, and its making on first use.
//!
//! A new one is made beside its place and moved there when it is complete, so that a half-made one is never
//! taken for a database. An existing one is never changed. Called by `process` at a start.

use std::{
    ffi::OsStr,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use tokio::io::AsyncWriteExt;

use super::{
    ComputeError,
    account::Account,
    folder::Folder,
    full_disk,
    lock::beside,
    server_log::last_lines,
    site::{Means, Site},
    survey::end_residents,
};

/// More than `15` and a line's end.
const VERSION_BYTES_MAX: u64 = 32;

/// The text of PG_VERSION; `None` where nothing is there yet (or an empty folder).
///
/// # Errors
/// Something else is there.
pub(crate) fn version(data_dir: &Path) -> Result<Option<String>, ComputeError> {
    let failed = |error: io::Error| {
        ComputeError::new(format!(
            "cannot look at the data directory {}: {error}",
            data_dir.display()
        ))
    };
    let Some(folder) = Folder::open(data_dir).map_err(failed)? else {
        return Ok(None);
    };
    match folder.read("PG_VERSION", VERSION_BYTES_MAX).map_err(failed)? {
        // It becomes part of a path and of messages.
        Some(text) if is_version(text.trim()) => Ok(Some(text.trim().to_owned())),
        None if folder.is_empty().map_err(failed)? => Ok(None),
        _ => Err(ComputeError::new(format!(
            "{} is not empty and not a Postgres data directory: name another",
            data_dir.display()
        ))),
    }
}

/// `9.6`, `15`.
fn is_version(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_digit())
        && text.chars().all(|c| c.is_ascii_digit() || c == '.')
}

/// Checks that an existing data directory belongs to the user that will run its Postgres.
///
/// # Errors
/// It does not; the fix is named.
pub(crate) fn check_owner(data_dir: &Path, account: &Account) -> Result<(), ComputeError> {
    match fs::metadata(data_dir) {
        Ok(meta) if meta.uid() != account.uid => Err(ComputeError::new(format!(
            "the data directory {shown} does not belong to {account}, who runs Postgres: `chown -R {account} {shown}` changes that",
            shown = data_dir.display()
        ))),
        _ => Ok(()),
    }
}

/// Where a new data directory is made before it is moved into place.
pub(crate) fn unfinished(data_dir: &Path) -> PathBuf {
    beside(data_dir, ".new")
}

/// Makes a data directory with its roles and database. Where it fails nothing is left: what is half made takes room that
/// others on its disk need. Not cancel safe: a half-made one stays beside the place, and the next attempt removes it; its
/// programs end with this future.
///
/// # Errors
/// Tells which step failed; the program's last words are the detail.
pub(crate) async fn create(site: &Site, means: &Means) -> Result<(), ComputeError> {
    end_residents(&unfinished(&site.data_dir)).await?;
    let made = make_and_move(site, means).await;
    if made.is_err() {
        let path = site.data_dir.clone();
        let removed = blocking(move || Names::of(&path)?.remove()).await;
        if let Err(error) = removed {
            tracing::warn!(endpoint = %site.endpoint, %error, "what was half made could not be removed");
        }
    }
    made
}

async fn make_and_move(site: &Site, means: &Means) -> Result<(), ComputeError> {
    let Site {
        endpoint,
        data_dir,
        contents,
        ..
    } = site;
    let Means {
        account, programs, ..
    } = means;
    tracing::info!(%endpoint, data_dir = %data_dir.display(), "making a new data directory");
    let unfinished = unfinished(data_dir);
    let failed = |action: &str, error: io::Error| {
        ComputeError::new(format!(
            "cannot {action} the new data directory {}: {error}",
            unfinished.display()
        ))
    };
    let (path, owner) = (data_dir.clone(), account.clone());
    let made = blocking(move || {
        let names = Names::of(&path)?;
        let folder = names.make(&owner)?;
        Ok((names, folder))
    });
    let (names, folder) = made.await.map_err(|error| failed("make", error))?;

    let initdb = command(&programs.initdb(), account, &unfinished, &INITDB);
    run(initdb, b"").await?;

    let files = contents.access_files(account);
    let owner = account.clone();
    blocking(move || {
        for (name, text) in files {
            folder.replace(name, &text, owner.heir())?;
        }
        folder.sync()
    })
    .await
    .map_err(|error| failed("set up", error))?;

    let mut single = command(&programs.postgres(), account, &unfinished, &SINGLE);
    single.arg("postgres");
    run(single, contents.sql()?.as_bytes()).await?;

    let bootstrap = contents.clone();
    let bootstrap = tokio::task::spawn_blocking(move || bootstrap.bootstrap()).await;
    let bootstrap = bootstrap.map_err(|error| failed("set up", io::Error::other(error)))??;
    if let Some(sql) = bootstrap {
        let database = contents.bootstrap_database();
        let mut single = command(&programs.postgres(), account, &unfinished, &SINGLE);
        // Its statements go over many lines.
        single.args(["-j", database]);
        run(single, sql.as_bytes()).await?;
    }

    blocking(move || names.move_into_place())
        .await
        .map_err(|error| failed("move into place", error))
}

/// `-D <data directory>` follows. The superuser is `postgres` whoever runs pgwake; the locale is the same everywhere.
const INITDB: [&str; 6] = [
    "--username=postgres",
    "--encoding=UTF8",
    "--locale=C.UTF-8",
    "--auth-local=peer",
    "--auth-host=scram-sha-256",
    "-D",
];

/// One statement per line; the first error ends it. Statements are kept out of its messages: they have verifiers in them,
/// or are too long to find the error behind them.
const SINGLE: [&str; 8] = [
    "--single",
    "-c",
    "exit_on_error=on",
    "-c",
    "log_min_error_statement=panic",
    "-c",
    "log_statement=none",
    "-D",
];

fn command(program: &Path, account: &Account, data_dir: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    account.dress(&mut command);
    command.args(arguments).arg(data_dir);
    // Its user may not be able to enter pgwake's folder.
    command.current_dir(data_dir);
    command
}

async fn run(mut command: Command, input: &[u8]) -> Result<(), ComputeError> {
    let name = Path::new(command.get_program())
        .file_name()
        .map(OsStr::to_string_lossy)
        .unwrap_or_default()
        .into_owned();
    let place = command.get_current_dir().unwrap_or(Path::new("/")).to_owned();
    let failed = |error: io::Error| ComputeError::new(format!("cannot run {name}: {error}"));
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = tokio::process::Command::from(command)
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    let mut stdin = child.stdin.take().expect("stdin is piped");
    let write = async move {
        // A program that ends early says why in its output.
        let _ = stdin.write_all(input).await;
        drop(stdin);
    };
    let ((), output) = tokio::join!(write, child.wait_with_output());
    let output = output.map_err(failed)?;
    if output.status.success() {
        return Ok(());
    }
    let error = ComputeError::new(format!(
        "{name} failed while making a data directory ({})",
        output.status
    ));
    Err(super::blocking(move || {
        let said = last_lines(&String::from_utf8_lossy(&output.stderr));
        full_disk::told(error, said, &place)
    })
    .await?)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(io::Error::other)?
}

/// The folder that the new data directory comes into, and both of its names there. It may belong to another user
/// than root, who could put something else in the place of either name at any time.
struct Names {
    parent: Folder,
    unfinished: PathBuf,
    complete: PathBuf,
}

impl Names {
    fn of(data_dir: &Path) -> io::Result<Self> {
        let name = |path: &Path| path.file_name().map(PathBuf::from).unwrap_or_default();
        let parent = data_dir.parent().unwrap_or(Path::new("/"));
        Ok(Self {
            parent: Folder::open(parent)?.ok_or(io::ErrorKind::NotFound)?,
            unfinished: name(&unfinished(data_dir)),
            complete: name(data_dir),
        })
    }

    /// Makes the folder anew.
    fn make(&self, account: &Account) -> io::Result<Folder> {
        self.remove()?;
        let folder = self.parent.make(&self.unfinished)?;
        if let Some(heir) = account.heir() {
            folder.give_to(heir)?;
        }
        Ok(folder)
    }

    fn remove(&self) -> io::Result<()> {
        self.parent.remove_all(&self.unfinished)
    }

    /// The files themselves were written to disk by initdb and by the server's last checkpoint.
    fn move_into_place(&self) -> io::Result<()> {
        self.parent.rename(&self.unfinished, &self.complete)?;
        self.parent.sync()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_folder_may_become_a_data_directory_and_a_used_one_may_not() {
        let place = tempfile::tempdir().unwrap();
        assert_eq!(version(&place.path().join("missing")).unwrap(), None);
        assert_eq!(version(place.path()).unwrap(), None);
        fs::write(place.path().join("letter.txt"), "").unwrap();
        assert!(
            version(place.path())
                .unwrap_err()
                .reason
                .contains("not a Postgres data directory")
        );
        fs::write(place.path().join("PG_VERSION"), "15\n").unwrap();
        assert_eq!(version(place.path()).unwrap().as_deref(), Some("15"));
    }

    #[test]
    fn a_version_that_is_none_and_files_that_are_not_ordinary_are_refused() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("PG_VERSION");
        for text in ["", "../../../tmp/evil\n", "/tmp", "15\nwake: all is well"] {
            fs::write(&file, text).unwrap();
            version(place.path()).unwrap_err();
        }
        fs::remove_file(&file).unwrap();
        std::os::unix::fs::symlink("/etc/debian_version", &file).unwrap();
        version(place.path()).unwrap_err();
        fs::remove_file(&file).unwrap();
        // Reading it would wait for ever.
        let made = Command::new("mkfifo").arg(&file).status().unwrap();
        assert!(made.success());
        version(place.path()).unwrap_err();
    }

    #[test]
    fn a_link_in_the_place_of_a_new_data_directory_is_replaced_and_not_followed() {
        let place = tempfile::tempdir().unwrap();
        fs::create_dir(place.path().join("victim")).unwrap();
        fs::write(place.path().join("victim/file"), "precious").unwrap();
        std::os::unix::fs::symlink("victim", place.path().join("data.new")).unwrap();
        let names = Names::of(&place.path().join("data")).unwrap();
        names.make(&Account::ourselves()).unwrap();
        names.move_into_place().unwrap();
        assert!(place.path().join("data").is_dir());
        assert!(place.path().join("victim/file").exists());
    }
}
