//! What lies in `deploy/` is what systemd and Kubernetes take, and what pgwake takes: units, manifests, the
//! configurations in them, the paths in the Dockerfile.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use crate::harness::{
    certificates::Authority,
    directories::Directory,
    programs::{Finished, Program},
    python::python,
};

const PGWAKE: &str = env!("CARGO_BIN_EXE_pgwake");

fn deploy(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(file)
}

fn read(file: &str) -> String {
    fs::read_to_string(deploy(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// What systemd says about a unit.
async fn verified(unit: &str) -> Finished {
    let directory = Directory::new();
    let file = directory.path().join("pgwake.service");
    fs::write(&file, unit).unwrap();
    Program::new("systemd-analyze")
        .arguments(&["verify", "--man=no"])
        .argument(file)
        .run()
        .await
}

/// systemd looks whether the program is there: here it is where cargo has built it.
#[tokio::test]
async fn systemd_has_nothing_to_say_about_the_unit() {
    let unit = read("pgwake.service");
    assert!(
        unit.contains("/usr/local/bin/pgwake"),
        "nothing to put in its place"
    );
    // What exits with 64 before the main process is tried again and again, whatever RestartPreventExitStatus says.
    let keys: Vec<&str> = unit
        .lines()
        .filter_map(|line| Some(line.split_once('=')?.0))
        .collect();
    assert!(
        keys.contains(&"RestartPreventExitStatus") && !keys.contains(&"ExecStartPre"),
        "{keys:?}"
    );
    let unit = unit.replace("/usr/local/bin/pgwake", PGWAKE);

    let said = verified(&unit).await;

    assert!(said.status.success(), "{said:?}");
    assert_eq!((said.output.as_str(), said.errors.as_str()), ("", ""));
    let misspelt = verified(&unit.replace("WatchdogSec", "WatchDogSec")).await;
    assert!(misspelt.errors.contains("WatchDogSec"), "{misspelt:?}");
}

/// Names of variables that a manifest sets.
fn variables(manifest: &str) -> BTreeSet<&str> {
    let names = manifest
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- name: "));
    names.filter(|name| name.starts_with("PGWAKE_")).collect()
}

/// `pgwake check` on a configuration of a manifest, with the folders that would be mounted.
async fn checked(config: &str, folder: &Path, variables: &BTreeSet<&str>) -> Finished {
    let tls = folder.join("tls");
    fs::create_dir_all(&tls).unwrap();
    let authority = Authority::new();
    authority
        .certify(&["*.db.example.com", "db.example.com"])
        .write(&tls, "tls");
    fs::rename(tls.join("tls.pem"), tls.join("tls.crt")).unwrap();
    fs::rename(authority.write(&tls), tls.join("ca.crt")).unwrap();
    let config = config
        .replace("/etc/pgwake-tls", tls.to_str().unwrap())
        .replace("/var/lib/pgwake", folder.to_str().unwrap());
    let file = folder.join("checked.toml");
    fs::write(&file, config).unwrap();
    let verifier = postgres_protocol::password::scram_sha_256(b"secret");
    let mut program = Program::new(PGWAKE).argument("check").argument(file);
    for name in variables {
        let value = match name.ends_with("VERIFIER") {
            true => verifier.as_str(),
            false => "a-secret-of-enough-letters",
        };
        program = program.variable(name, value);
    }
    program.run().await
}

#[tokio::test]
async fn kubernetes_takes_the_manifests_and_pgwake_the_configurations_in_them() {
    const CONFIGS: [(&str, &str); 2] = [("gateway.yaml", "pgwake"), ("sidecar.yaml", "pgwake-app")];
    let directory = Directory::new();
    let manifests: Vec<PathBuf> = fs::read_dir(deploy("kubernetes"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    let paths: Vec<&str> = manifests.iter().map(|path| path.to_str().unwrap()).collect();
    let arguments = [&[directory.path().to_str().unwrap()], &paths[..]].concat();

    let objects = python("manifests", &arguments).run().await.succeeded();

    for object in [
        "gateway.yaml Deployment pgwake",
        "gateway.yaml NetworkPolicy pgwake",
        "gateway.yaml PodDisruptionBudget pgwake",
        "sidecar.yaml StatefulSet app",
    ] {
        assert!(objects.contains(object), "{object}:\n{objects}");
    }
    for (manifest, name) in CONFIGS {
        let folder = directory.path().join(manifest).join(name);
        let config = fs::read_to_string(folder.join("pgwake.toml")).unwrap();
        let text = read(&format!("kubernetes/{manifest}"));
        // Else the second mount would open what pgwake and Postgres want closed.
        let is_kept = |line: &&str| line.trim() == "fsGroupChangePolicy: OnRootMismatch";
        let groups = text.lines().filter(|line| line.trim().starts_with("fsGroup:"));
        assert_eq!(groups.count(), text.lines().filter(is_kept).count(), "{manifest}");
        checked(&config, &folder, &variables(&text)).await.succeeded();
        // A variable that nobody sets is one that is missed.
        let missed = checked(&config, &folder, &BTreeSet::new()).await.failed();
        assert!(missed.contains("is not set"), "{missed}");
    }
}

/// There is nothing here that could build an image; what it copies must be there, and it may not end as root.
#[test]
fn the_image_is_made_of_what_there_is_and_runs_as_nobody_special() {
    let text = read("Dockerfile");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let ignored = read("Dockerfile.dockerignore");
    let sources = text
        .lines()
        .filter_map(|line| line.strip_prefix("COPY "))
        .filter(|rest| !rest.starts_with("--from"))
        .flat_map(|rest| {
            let words: Vec<&str> = rest.split_whitespace().collect();
            words[..words.len() - 1].to_vec()
        });
    let sources: Vec<&str> = sources.collect();
    assert!(sources.len() >= 5, "{sources:?}");
    for source in sources {
        assert!(root.join(source).exists(), "{source} is not there");
        let top = source.split('/').next().unwrap();
        assert!(
            ignored.lines().any(|line| line == format!("!{top}")),
            "{top} is left out of the build"
        );
    }
    let users: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("USER "))
        .collect();
    assert_eq!(users, ["999:999"]);
    assert!(text.contains("distroless/cc-debian12:nonroot AS gateway"));
}
