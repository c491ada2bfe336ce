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
