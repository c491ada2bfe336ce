//! The API is what its document says: every answer has exactly the fields of its example, each of its kind.

use std::{fs, path::Path};

use serde_json::Value;

use super::{OPERATE, READ, admin, items};
use crate::harness::{gateway::Gateway, tls_client, wait::until};

const ENDPOINT: &str = "ops-documented";

/// Every `### GET path` of the document with the example below it.
fn examples() -> Vec<(String, Value)> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/admin/API.md");
    let text = fs::read_to_string(file).unwrap();
    let sections = text.split("\n### GET ").skip(1).map(|section| {
        let (path, rest) = section.split_once('\n').unwrap();
        let example = rest
            .split("```json\n")
            .nth(1)
            .unwrap()
            .split("```")
            .next()
            .unwrap();
        let example = serde_json::from_str(example).unwrap_or_else(|error| panic!("{path}: {error}"));
        (path.to_owned(), example)
    });
    sections.collect()
}

/// What differs in kind; nothing on one side is as good as anything on the other. Where an example is shortened, only
/// what it has is looked at.
fn differences(path: &str, example: &Value, answer: &Value, found: &mut Vec<String>) {
    match (example, answer) {
        (Value::Object(example), Value::Object(answer)) => {
            for (key, value) in example {
                match answer.get(key) {
                    Some(other) => differences(&format!("{path}.{key}"), value, other, found),
                    None => found.push(format!("{path}.{key} is documented and not there")),
                }
            }
            let is_shortened =
                path.contains("NAME.") && !path.contains("/branches/") || path.contains("NAME/branches");
            for key in answer
                .keys()
                .filter(|key| !example.contains_key(*key) && !is_shortened)
            {
                found.push(format!("{path}.{key} is not documented"));
            }
        }
        (Value::Array(example), Value::Array(answer)) => {
            if let Some(example) = example.first() {
                match answer.first() {
                    Some(answer) => differences(&format!("{path}[]"), example, answer, found),
                    None => found.push(format!("{path} is empty: this test must fill it")),
                }
            }
        }
        (Value::Null, _) | (_, Value::Null) => (),
        (Value::Number(_), Value::Number(_)) => (),
        (example, answer) => {
            if std::mem::discriminant(example) != std::mem::discriminant(answer) {
                found.push(format!("{path}: {example} is not of the kind of {answer}"));
            }
        }
    }
}

/// A gateway where something of every kind has happened.
async fn lived_in() -> (Gateway, tokio_postgres::Client) {
    let gateway = admin()
        .limit("disk_free_min = 0")
        .listed(ENDPOINT, "")
        .start()
        .await;
    let branch = format!("/api/v1/endpoints/{ENDPOINT}/branches?name=copy&ttl=1h&max=5m");
    gateway.http(OPERATE).post(&branch).await.json();
    let mut wrong = gateway.config(ENDPOINT);
    wrong.password("wrong");
    tls_client::connect(&wrong, &gateway.authority)
        .await
        .err()
        .unwrap();
    let pooled = gateway.config(&format!("{ENDPOINT}-pooler"));
    let client = tls_client::connect(&pooled, &gateway.authority).await.unwrap();
    client.batch_execute("listen ops_documented").await.unwrap();
    let http = gateway.http(READ);
    until("it to be pinned", async || {
        items(&http, "/api/v1/sessions").await[0]["pins"] != serde_json::json!([])
    })
    .await;
    (gateway, client)
}

#[tokio::test]
async fn every_answer_is_as_the_document_says() {
    let (gateway, _client) = lived_in().await;
    let http = gateway.http(READ);
    let examples = examples();
    assert!(examples.len() >= 9, "{}", examples.len());
    let mut found = Vec::new();
    for (path, example) in examples {
        let asked = match path.strip_prefix("/api/v1/branches/NAME") {
            Some(rest) => format!("/api/v1/branches/{ENDPOINT}--copy{rest}"),
            None => path.replace("NAME", ENDPOINT),
        };
        let answer = http.get(&asked).await.json();
        differences(&path, &example, &answer, &mut found);
    }
    assert!(found.is_empty(), "{found:#?}");
}
