//! Branches on file systems that are full, and on one that shares blocks: mounted for the test, which only root may do.

use std::{
    fs,
    path::{Path, PathBuf},
};

use futures_util::future::join_all;

use super::{OPERATE, ask_for, create, crowd, in_folder, numbers};
use crate::harness::{
    gateway::Setup,
    mounted::{Mounted, run},
    wait::until,
};

/// A configuration whose one endpoint has its data there.
fn setup(mounted: &Mounted, endpoint: &str, limits: &str) -> (Setup, PathBuf) {
    let setup = Setup::new()
        .admin(&format!("operate_tokens = [\"{OPERATE}\"]"))
        .limit(limits)
        .listed_in(&mounted.path(), endpoint, ["", "branches.on_connect = true"]);
    let data_dir = mounted.path().join(endpoint);
    (setup, data_dir)
}

#[tokio::test]
async fn a_disk_without_room_has_no_branches_and_nothing_left_of_one() {
    let Some(mounted) = Mounted::tmpfs("150m") else {
        return;
    };
    let (setup, data_dir) = setup(&mounted, "branch-full", "disk_free_min = \"1MiB\"");
    let gateway = setup.start().await;
    create(&gateway, "branch-full", "fits").await;
    let before = in_folder(&data_dir);
    // Less than it takes: known at once.
    let filler = mounted.fill(8 << 20);
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

    drop(filler);
    create(&gateway, "branch-full", "more").await;
    gateway.server.stop().await;
}

/// Each of them found the room that the others had been told of, too, and their parent met a full disk.
#[tokio::test]
async fn many_at_once_leave_free_what_has_to_stay_free() {
    const FREE_MIN: u64 = 160 << 20;
    let Some(mounted) = Mounted::tmpfs("300m") else {
        return;
    };
    let limit = format!("disk_free_min = {FREE_MIN}");
    let (setup, data_dir) = setup(&mounted, "branch-together", &limit);
    let gateway = setup.start().await;
    let http = gateway.http(OPERATE);
    let before = mounted.free();
    let names: Vec<String> = (0..12).map(|number| format!("n{number:02}")).collect();

    let answers = join_all(names.iter().map(|name| ask_for(&http, "branch-together", name))).await;

    let (made, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 200);
    assert!(mounted.free() >= FREE_MIN, "{} of {before}", mounted.free());
    let size = made[0].json()["bytes"].as_u64().unwrap();
    let fit = (before - FREE_MIN) / size;
    assert_eq!(made.len() as u64, fit, "of {before} bytes that were free");
    for refused in refused {
        let (status, error) = refused.error();
        assert_eq!(status, 507, "{error}");
        assert!(
            error.contains("have to stay free (limits.disk_free_min)"),
            "{error}"
        );
    }
    assert_eq!(
        in_folder(&data_dir).len(),
        2 * made.len(),
        "a folder and a lock each"
    );
    gateway.server.stop().await;
}

#[tokio::test]
async fn a_disk_that_fills_while_a_branch_is_made_has_nothing_left_of_it() {
    let Some(mounted) = Mounted::tmpfs("150m") else {
        return;
    };
    let (setup, data_dir) = setup(&mounted, "branch-fills", "disk_free_min = 0");
    // Bytes there are, but not enough files: nobody knows beforehand.
    let figures = rustix::fs::statvfs(mounted.path()).unwrap();
    let inodes = figures.f_files - figures.f_ffree + 300;
    mounted.remount(&format!("size=150m,nr_inodes={inodes}"));
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
    mounted.remount(&format!("size=150m,nr_inodes={}", inodes * 3));
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
    let (setup, data_dir) = setup(&mounted, "branch-shares", "disk_free_min = \"1MiB\"");
    let gateway = setup.start().await;
    let parent = gateway.connect("branch-shares").await;
    parent
        .batch_execute(
            "create table large as select repeat(md5(n::text), 30) from generate_series(1, 60000) n",
        )
        .await
        .unwrap();
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
    let before = mounted.free();

    for number in 0..8 {
        create(&gateway, "branch-shares", &format!("b{number}")).await;
    }

    assert!(size > 80 << 20, "{size}");
    let taken = before.saturating_sub(mounted.free());
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
    let (setup, data_dir) = setup(&mounted, PARENT, "disk_free_min = \"1MiB\"");
    let gateway = setup
        .tenants("[defaults.branches]\nmax = 100\ntenant_max = 1000")
        .start()
        .await;
    crowd(&gateway, (PARENT, &data_dir), 100, 100).await;
    gateway.server.stop().await;
}
