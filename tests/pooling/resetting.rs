//! What resets take away, and what they return to.

use super::{
    carrying::{LOOK, who},
    said::{STRANGER, Said, execute, prepare},
    script::Script,
    told::{errors, values},
};

/// Back to one's own startup values, not to the server's.
#[tokio::test]
async fn resets_return_to_what_the_client_came_with() {
    // With one session the first client has opened it; with two it is either of two.
    for sessions in [1, 2] {
        let mut script = Script::new(&format!("carry-reset-{sessions}"), sessions)
            .who(
                who("postgres")
                    .with("application_name", "came so")
                    .with("DateStyle", "German"),
            )
            .who(who("postgres").with("options", "-c datestyle=SQL -c app.tenant_id=mine"))
            .who(who("postgres").with("application_name", "third"))
            .who(who("postgres"));
        for reset in [
            "reset all",
            "discard all",
            "reset datestyle; reset application_name; reset app.tenant_id",
            "set datestyle to default; set application_name to default; set app.tenant_id to default",
            "select set_config('datestyle', null, false), set_config('application_name', null, false) is null, \
                 set_config('app.tenant_id', null, false)",
        ] {
            for client in 0..4 {
                script = script.queries(
                    client,
                    &[
                        "set datestyle = 'ISO, YMD'; set application_name = 'other'; set app.tenant_id = 'other'",
                        LOOK,
                    ],
                );
            }
            for client in 0..4 {
                script = script
                    .query(client, reset)
                    .query((client + 1) % 4, STRANGER)
                    .query(client, LOOK);
            }
            script = script.say(
                0,
                [
                    Said::run("reset all", &[]).as_slice(),
                    &[Said::Sync, Said::query(LOOK)],
                ]
                .concat(),
            );
        }
        script.play().await;
    }
}

/// There the turn goes on, and Postgres alone can undo what is set.
#[tokio::test]
async fn a_reset_in_a_transaction_returns_to_what_the_client_came_with() {
    for sessions in [1, 2] {
        let mut script = Script::new(&format!("carry-reset-in-{sessions}"), sessions)
            .who(who("postgres").with("application_name", "came so"))
            .who(who("postgres").with("application_name", "second's \\ own"))
            .who(who("postgres"));
        for client in 0..3 {
            script = script
                .queries(client, &["begin", "reset all", LOOK, "commit", LOOK])
                .query((client + 1) % 3, STRANGER)
                .queries(
                    client,
                    &["set application_name = 'other'", "begin", "savepoint a"],
                )
                .queries(client, &["reset application_name", LOOK, "rollback to a", LOOK])
                .queries(client, &["discard all", "reset all", LOOK, "rollback", LOOK])
                .query((client + 1) % 3, STRANGER);
            let ahead = ["begin", "reset all", LOOK, "select 1", "rollback", LOOK];
            script = script
                .say(client, ahead.map(Said::query))
                .query(client, "discard all");
        }
        script.play().await;
    }
}

/// What no reset takes away: a setting that a session has once had is '' from then on, and no error.
#[tokio::test]
async fn the_name_of_a_custom_setting_reaches_nobody_who_has_not_had_it() {
    let ask = "select current_setting('app.tenant_id', true) is null, current_setting('app.tenant_id', true)";
    let strict = "select current_setting('app.tenant_id')";
    let mut script = Script::new("carry-names", 2);
    let ways = [
        "set app.tenant_id = 'a'",
        "begin; set local app.tenant_id = 'a'; commit",
        "select set_config('app.tenant_id', 'a', true)",
        "begin; select set_config('app.tenant_id', 'a', false); rollback",
        "do $$begin perform set_config('app.tenant_id', 'a', true); end$$",
    ];
    for (client, set) in ways.iter().enumerate() {
        script = script.queries(client, &[ask, strict, set, ask, "discard all", ask, strict]);
    }
    let fresh = ways.len();
    script = script.query(fresh, ask).query(fresh, strict);
    for client in 0..=fresh {
        script = script.query(client, ask);
    }
    let played = script.play().await;
    assert_eq!(values(&played.told(fresh)), ["t", "\u{2205}", "t", "\u{2205}"]);
    assert_eq!(errors(&played.told(fresh)), ["42704"]);
}

/// Nor is it seen by who shares a statement with somebody who has had it, and needs that prepared again as it was first.
#[tokio::test]
async fn the_name_of_a_custom_setting_comes_with_no_statement_that_is_shared() {
    let ask = "select current_setting('app.other', true) is null";
    let literal = prepare("literal", "select '01/02/2024'::date");
    let plain = prepare("plain", "select count(*) from pg_class where oid is null");
    // A value of it matters to what has a literal, so that is shared without one.
    let mut script = Script::new("carry-shared-names", 1)
        .query(0, "select set_config('app.other', 'x', false)")
        .say(0, plain.clone())
        .query(0, "reset app.other")
        .say(0, literal.clone())
        .say(1, [literal, plain].concat())
        .query(1, "set datestyle = 'German'; set search_path = public");
    for name in ["literal", "plain"] {
        // The other client takes the session, which has the setting from then on.
        script = script
            .query(0, "select 1")
            .say(1, execute(name, &[]))
            .query(1, ask);
    }
    let played = script.play().await;
    assert_eq!(values(&played.told(1)), ["02.01.2024", "t", "0", "t"]);
}

/// SQL means a setting by as much of its name as Postgres keeps, a function by all of it: one of them was lost with the session.
#[tokio::test]
async fn a_setting_with_a_long_name_stays_with_its_client() {
    let name = format!("app.{}", "n".repeat(80));
    let played = Script::new("carry-long-name", 1)
        .query(0, &format!("set {name} = 'by sql'"))
        .query(1, STRANGER)
        .query(0, &format!("show {name}"))
        .query(0, &format!("select set_config('{name}', 'by function', false)"))
        .query(1, STRANGER)
        .query(0, &format!("select current_setting('{name}', true)"))
        .query(0, &format!("show {name}"))
        .play()
        .await;
    assert_eq!(errors(&played.told(0)), Vec::<String>::new());
    assert_eq!(
        values(&played.told(0)),
        ["by sql", "by function", "by function", "by sql"]
    );
}
