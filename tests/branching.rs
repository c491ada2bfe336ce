//! Branches: copies of local computes that are endpoints of their own, over the real port, with real Postgres.

mod connecting;
mod copying;
mod file_systems;
mod lasting;
mod ordering;

use std::{
    fs,
    path::{Path, PathBuf},
};

use futures_util::future::join_all;
use serde_json::Value;
use tokio_postgres::Client;

use crate::harness::{
    gateway::{Gateway, Setup},
    http::{Answered, Http},
};

/// Good for everything.
const OPERATE: &str = "operate-token-for-branches";

/// A gateway that operators may give orders, and that branches as long as there is anything left of the disk.
fn setup() -> Setup {
    Setup::new()
        .admin(&format!("operate_tokens = [\"{OPERATE}\"]"))
        .limit("disk_free_min = 0")
}

/// A gateway with one endpoint that sleeps, whose file is known for a reload.
async fn started(endpoint: &str, keys: &str) -> Gateway {
    let setup = setup().listed(endpoint, keys);
    let file = setup.write();
    let gateway = setup.start().await;
    gateway.server.reloader().set_file(&file);
    gateway
}

async fn ask_for(http: &Http, parent: &str, branch: &str) -> Answered {
    http.post(&format!(
        "/api/v1/endpoints/{parent}/branches?name={branch}&max=5m"
    ))
    .await
}

/// Makes a branch; the answer.
async fn create(gateway: &Gateway, parent: &str, branch: &str) -> Value {
    ask_for(&gateway.http(OPERATE), parent, branch).await.json()
}

/// Asks for so many branches of an endpoint at once, and for all of them again; `max` of them there may be, and are: whole,
/// and nothing is left of the others.
async fn crowd(gateway: &Gateway, (parent, data_dir): (&str, &Path), asked: usize, max: usize) {
    let http = gateway.http(OPERATE);
    let names: Vec<String> = (0..asked).map(|number| format!("n{number:03}")).collect();
    let mut made = Vec::new();
    for round in 1..=2 {
        let answers = join_all(names.iter().map(|name| ask_for(&http, parent, name))).await;
        let mut found = Vec::new();
        for (name, answer) in names.iter().zip(&answers) {
            if answer.status == 200 {
                assert_eq!(answer.json()["branch"], format!("{parent}--{name}"));
                found.push(name.clone());
            } else {
                let (status, error) = answer.error();
                let limit = format!("{max} are the limit (branches.max)");
                assert!(status == 409 && error.ends_with(&limit), "{error}");
            }
        }
        assert_eq!(found.len(), max, "round {round}");
        if round == 1 {
            made = found;
        } else {
            assert_eq!(found, made, "a retry makes nothing and takes nothing away");
        }
        let own = |name: &String| [name.clone(), format!("{name}.lock")];
        let expected: Vec<String> = made.iter().flat_map(own).collect();
        assert_eq!(in_folder(data_dir), expected, "round {round}");
        let list = format!("/api/v1/endpoints/{parent}/branches?limit=1000");
        let listed = http.get(&list).await.json();
        assert_eq!(listed["total"], max);
    }
    for name in [&made[0], &made[max / 2], &made[max - 1]] {
        let client = gateway.connect(&format!("{parent}--{name}")).await;
        client.batch_execute("create table own ()").await.unwrap();
    }
}

/// The numbers of a column.
async fn numbers(client: &Client, sql: &str) -> Vec<i32> {
    let rows = client.query(sql, &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

/// What lies in the folder for branches of an endpoint.
fn in_folder(data_dir: &Path) -> Vec<String> {
    let mut folder = PathBuf::from(data_dir).into_os_string();
    folder.push(".branches");
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}
