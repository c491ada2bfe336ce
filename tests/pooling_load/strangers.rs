//! Nobody sees a stranger's values: clients that set everything which decides what a statement means look at it all
//! the time, while others on the same few server sessions set it otherwise, and these sessions are ended and their
//! compute is suspended at random.
//!
//! Each client has schemas, a role, an `application_name` and an `app.tenant_id` of its own, there is a role that all
//! may take on, and every row tells whose it is. Some bring their values with them at startup, some set them, some never
//! set any and must find none. There are twenty clients to a server session, and nothing that they do pins one.

mod guest;
mod marks;

use futures_util::future::join_all;
use tokio::sync::RwLock;
use tokio_postgres::Client;

use super::{
    chance::Chance,
    chaos::{Blow, Chaos},
    client::Session,
    course::Course,
    pooled::{Lending, Pooled},
};
use crate::harness::postgres::{Postgres, Version};
use guest::{Guest, Seat, Sightings};

const GUESTS: u64 = 40;
const SESSIONS: usize = 2;
/// So often they must look.
const LOOKS_MIN: usize = 300;

/// What the guests look at: a schema's `mark` says whose it is; `shared` shows a role the rows of its tenant.
async fn furnish(client: &Client) {
    let shared = "
        create table public.mark as select 'public'::text as who;
        create table public.shared (tenant text);
        create policy own on public.shared
            using (tenant = split_part(current_setting('app.tenant_id', true), '.', 1));
        alter table public.shared enable row level security;
        grant select on public.mark, public.shared to public;
        create role guests; grant pg_read_all_stats to guests;
        create function public.brand(text) returns void language plpgsql as
            $$begin perform pg_catalog.set_config('app.tenant_id', $1, false); end$$;";
    client.batch_execute(shared).await.unwrap();
    for number in 0..GUESTS {
        let name = marks::name(number);
        let own = format!(
            "create role {name}; grant pg_read_all_stats to {name}; \
             insert into public.shared values ('{name}'); \
             create schema {name}_a; create table {name}_a.mark as select '{name}_a'::text as who; \
             create schema {name}_b; create table {name}_b.mark as select '{name}_b'::text as who; \
             grant usage on schema {name}_a, {name}_b to {name}, guests; \
             grant select on {name}_a.mark, {name}_b.mark to {name}, guests;"
        );
        client.batch_execute(&own).await.unwrap();
    }
}

/// Lets guests and chaos loose at once.
async fn run(pooled: &Pooled, course: &Course, blows: &[Blow]) -> Sightings {
    let chance = Chance::new();
    let traffic = RwLock::new(());
    let chaos = Chaos {
        pooled,
        traffic: &traffic,
        blows,
        rest_millis: 400,
        random: chance.of(GUESTS),
        course,
    };
    let guests = (0..GUESTS).map(|number| {
        let guest = Guest::new(number, chance.of(number));
        guest.stay(pooled, &traffic, course)
    });
    let (sightings, hits) = tokio::join!(join_all(guests), chaos.reign());
    println!(
        "blows {hits:?}; {} wakes; {:?}",
        pooled.wakes(),
        pooled.figures().counts
    );
    let mut all = Sightings::default();
    sightings.into_iter().for_each(|sighting| all.merge(sighting));
    all
}

#[tokio::test]
async fn nobody_sees_a_strangers_values() {
    let pooled = Pooled::start(
        "strangers-values",
        &Lending::of(SESSIONS),
        "suspend_after = \"30ms\"",
    )
    .await;
    furnish(&pooled.gateway.connect(pooled.endpoint).await).await;

    let blows = [
        Blow::EndOne,
        Blow::EndOne,
        Blow::EndOne,
        Blow::EndAll,
        Blow::Suspend,
        Blow::Lull,
    ];
    let course = Course::new(LOOKS_MIN, 8);
    let seen = pooled.unpinned(Box::pin(run(&pooled, &course, &blows))).await;

    print!("{seen}");
    assert!(
        seen.strange.is_empty(),
        "{} strange values, the first: {:#?}",
        seen.strange.len(),
        &seen.strange[..seen.strange.len().min(5)]
    );
    assert!(
        seen.heard.unlisted.is_empty(),
        "errors that are not listed: {:?}",
        seen.heard.unlisted
    );
    course.check();
    assert!(
        seen.moves >= seen.looks / 4,
        "only {} moves: this proves little",
        seen.moves
    );
    pooled.gateway.server.stop().await;
}

/// The guests notice it where two of them use one session as they find it.
#[tokio::test]
async fn guests_see_what_is_left_behind_for_them() {
    let postgres = Postgres::start(Version::Debian).await;
    furnish(&postgres.connect().await).await;
    let chance = Chance::new();
    let [bare, born, dressed, other] = [0, 10, 1, 2];
    for (first, second) in [(dressed, bare), (dressed, born), (dressed, other)] {
        let session = Session::plain(&postgres.config()).await;
        let mut seat = Seat::of(session).await.ok().unwrap();
        let mut guests = [first, second].map(|number| Guest::new(number, chance.of(number)));
        for guest in &mut guests {
            guest.begin(&seat).await.unwrap();
        }
        // A few dozen turns are mostly enough.
        for turn in 0..1000 {
            // Some of what it does is refused to somebody else's role.
            if guests[turn % 2].act(&mut seat).await.is_err() {
                seat.session.client.batch_execute("rollback").await.unwrap();
            }
            if guests[1].seen.strange.len() > 5 {
                break;
            }
        }
        let strange = &guests[1].seen.strange;
        assert!(strange.len() > 5, "{strange:?}");
    }
}
