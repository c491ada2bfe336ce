//! Branches on file systems that are full, and on one that shares blocks: mounted for the test, which only root may do.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

use super::{OPERATE, ask_for, create, crowd, in_folder, numbers};
use crate::harness::{
    account::Account,
    directories::Directory,
    gateway::Setup,
    postgres::{PASSWORD, SUPERUSER, Version, copy_data_directory},
    wait::until,
};

/// A file system of the test's own, as long as this lives.
struct Mounted(Directory);

impl Mounted {
    /// The reason why there is none is written to standard error, past the test's own output: nobody is to believe that
    /// it was tried.
    fn new(kind: &str, prepare: impl FnOnce(&Path) -> Result<Vec<String>, String>) -> Option<Self> {
        let said = |why: &str| {
            let line = format!("\nNOT RUN: a test of branches on {kind}: {why}\n");
            std::io::stderr().write_all(line.as_bytes()).unwrap();
        };
        if !rustix::process::geteuid().is_root() {
            said("only root may mount one");
            return None;
        }
        let directory = Directory::new();
        let mounted = prepare(directory.path()).and_then(|arguments| {
            fs::create_dir(directory.path().join("mounted")).unwrap();
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            run(
                "mount",
                &[
                    &arguments[..],
                    &[directory.path().join("mounted").to_str().unwrap()],
                ]
                .concat(),
            )
        });
        match mounted {
            Ok(()) => Some(Self(directory)),
            Err(why) => {
                said(&why);
                None
            }
        }
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("mounted")
    }

    /// A configuration whose one endpoint has its data here.
    fn setup(&self, endpoint: &str, limits: &str) -> (Setup, PathBuf) {
        if let Some(account) = Account::for_postgres() {
            account.own(&self.path());
        }
        let data_dir = self.path().join("data");
        copy_data_directory(Version::Debian, &data_dir);
        let verifier = postgres_protocol::password::scram_sha_256(PASSWORD.as_bytes());
        let setup = Setup::new()
            .admin(&format!("operate_tokens = [\"{OPERATE}\"]"))
            .limit(limits)
            .tenants(&format!(
                "[tenants.acme.endpoints.{endpoint}]\nbranches.on_connect = true\n\
                 roles.{SUPERUSER} = {{ verifier = \"{verifier}\", server_password = \"{PASSWORD}\" }}\n\
                 compute = {{ kind = \"process\", data_dir = \"{}\" }}\n",
                data_dir.display()
            ));
        (setup, data_dir)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Lazily: a process may just be ending in it.
        let _ = run("umount", &["-l", self.path().to_str().unwrap()]);
    }
}

fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let ran = Command::new(program).args(arguments).output();
    match ran {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!(
            "{program}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )),
        Err(error) => Err(format!("{program}: {error}")),
    }
}

#[tokio::test]
async fn a_disk_without_room_has_no_branches_and_nothing_left_of_one() {
    let tmpfs = |_: &Path| {
        Ok(["-t", "tmpfs", "-o", "size=150m", "tmpfs"]
            .map(str::to_owned)
            .to_vec())
    };
    let Some(mounted) = Mounted::new("a small tmpfs", tmpfs) else {
        return;
    };
    let (setup, data_dir) = mounted.setup("branch-full", "disk_free_min = \"1MiB\"");
    let gateway = setup.start().await;
    create(&gateway, "branch-full", "fits").await;
    let before = in_folder(&data_dir);
    let filler = mounted.path().join("filler");
    let file = fs::File::create(&filler).unwrap();
    let free = || {
        let figures = rustix::fs::statvfs(mounted.path()).unwrap();
        figures.f_bavail * figures.f_frsize
    };
    // Less than it takes: known at once.
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, free() - (8 << 20)).unwrap();
    let (status, error) = ask_for(&gateway.http(OPERATE), "branch-full", "more")
        .await
        .error();
    assert_eq!(status, 507, "{error}");
    assert!(
        error.contains("1MiB have to stay free (limits.disk_free_min)"),
        "{error}"
    );
    assert_eq!(in_folder(&data_dir), before);
    // A client reads the same by its SQLSTATE.
    let refused =
        crate::harness::tls_client::connect(&gateway.config("branch-full--more"), &gateway.authority).await;
    let refused = refused.err().unwrap();
    assert_eq!(refused.code().unwrap().code(), "53100", "{refused}");
    assert_eq!(in_folder(&data_dir), before);

    // Its room is free once nobody has it open.
    drop(file);
    fs::remove_file(&filler).unwrap();
    create(&gateway, "branch-full", "more").await;
    gateway.server.stop().await;
}

#[tokio::test]
async fn a_disk_that_fills_while_a_branch_is_made_has_nothing_left_of_it() {
    let tmpfs = |_: &Path| {
        Ok(["-t", "tmpfs", "-o", "size=150m", "tmpfs"]
            .map(str::to_owned)
            .to_vec())
    };
    let Some(mounted) = Mounted::new("a small tmpfs", tmpfs) else {
        return;
    };
    let (setup, data_dir) = mounted.setup("branch-fills", "disk_free_min = 0");
    // Bytes there are, but not enough files: nobody knows beforehand.
    let figures = rustix::fs::statvfs(mounted.path()).unwrap();
    let inodes = figures.f_files - figures.f_ffree + 300;
    let remount = format!("remount,size=150m,nr_inodes={inodes}");
    run("mount", &["-o", &remount, mounted.path().to_str().unwrap()]).unwrap();
    let gateway = setup.start().await;

    let (status, error) = ask_for(&gateway.http(OPERATE), "branch-fills", "more")
        .await
        .error();

    assert_eq!(status, 507, "{error}");
    assert!(
        error.ends_with("the disk was full before it was whole"),
        "{error}"
    );
    assert_eq!(in_folder(&data_dir), [""; 0]);
    let refused =
        crate::harness::tls_client::connect(&gateway.config("branch-fills--more"), &gateway.authority).await;
    assert_eq!(refused.err().unwrap().code().unwrap().code(), "53100");
    assert_eq!(in_folder(&data_dir), [""; 0]);
    assert_eq!(
        gateway.http(OPERATE).get("/api/v1/branches").await.json()["total"],
        0
    );
    let remount = format!("remount,size=150m,nr_inodes={}", inodes * 3);
    run("mount", &["-o", &remount, mounted.path().to_str().unwrap()]).unwrap();
    create(&gateway, "branch-fills", "more").await;
    gateway
        .connect("branch-fills--more")
        .await
        .batch_execute("select 1")
        .await
        .unwrap();
    gateway.server.stop().await;
}

/// A file system whose files can share blocks, of so many MiB.
fn xfs(folder: &Path, size: u64) -> Result<Vec<String>, String> {
    let image = folder.join("image");
    let file = fs::File::create(&image).map_err(|error| error.to_string())?;
    file.set_len(size << 20).map_err(|error| error.to_string())?;
    run("mkfs.xfs", &["-q", "-m", "reflink=1", image.to_str().unwrap()])?;
    Ok(["-o", "loop", image.to_str().unwrap()]
        .map(str::to_owned)
        .to_vec())
}

#[tokio::test]
async fn on_a_file_system_that_shares_blocks_a_branch_takes_no_room() {
    let Some(mounted) = Mounted::new("XFS", |folder| xfs(folder, 600)) else {
        return;
    };
    let (setup, data_dir) = mounted.setup("branch-shares", "disk_free_min = \"1MiB\"");
    let gateway = setup.start().await;
    let parent = gateway.connect("branch-shares").await;
    parent
        .batch_execute(
            "create table large as select repeat(md5(n::text), 30) from generate_series(1, 60000) n",
        )
        .await
        .unwrap();
    let free = || {
        let figures = rustix::fs::statvfs(mounted.path()).unwrap();
        figures.f_bavail * figures.f_frsize
    };
    let size = create(&gateway, "branch-shares", "awake").await["bytes"]
        .as_u64()
        .unwrap();
    drop(parent);
    let http = gateway.http(OPERATE);
    until("nobody to use it", async || {
        http.post("/api/v1/endpoints/branch-shares/suspend").await.status == 200
    })
    .await;
    until("it to sleep", async || !gateway.is_awake("branch-shares")).await;
    until("its processes to end", async || {
        crate::harness::processes::in_directory(&data_dir).is_empty()
    })
    .await;
    rustix::fs::syncfs(fs::File::open(mounted.path()).unwrap()).unwrap();
    let before = free();

    for number in 0..8 {
        create(&gateway, "branch-shares", &format!("b{number}")).await;
    }

    assert!(size > 80 << 20, "{size}");
    let taken = before.saturating_sub(free());
    assert!(
        taken < size / 2,
        "eight branches of {size} bytes have taken {taken}"
    );
    let copy = gateway.connect("branch-shares--b7").await;
    assert_eq!(numbers(&copy, "select count(*)::int from large").await, [60_000]);
    copy.batch_execute("delete from large").await.unwrap();
    for name in ["branch-shares", "branch-shares--awake"] {
        let client = gateway.connect(name).await;
        assert_eq!(
            numbers(&client, "select count(*)::int from large").await,
            [60_000],
            "{name}"
        );
    }
    gateway.server.stop().await;
}

#[tokio::test]
async fn a_hundred_different_ones_at_once_are_all_made_where_blocks_are_shared() {
    const PARENT: &str = "branch-crowd";
    // A plain copy of one has 28 MiB.
    let Some(mounted) = Mounted::new("XFS", |folder| xfs(folder, 2000)) else {
        return;
    };
    let (setup, data_dir) = mounted.setup(PARENT, "disk_free_min = \"1MiB\"");
    let gateway = setup
        .tenants("[defaults.branches]\nmax = 100\ntenant_max = 1000")
        .start()
        .await;
    crowd(&gateway, (PARENT, &data_dir), 100, 100).await;
    gateway.server.stop().await;
}
