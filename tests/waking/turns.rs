//! Few computes are started at once: tenants take turns, and who is not served by its deadline is told why.

use std::time::Duration;

use futures_util::future::join_all;
use pgwake::ids::EndpointName;
use tokio::time::Instant;

use crate::harness::{
    gate::Gate,
    gateway::{Gateway, Setup},
    logs,
    raw::Raw,
    wait::until,
};

/// The endpoints whose names begin so, in the order in which they were woken.
pub(super) fn woken(prefix: &str) -> Vec<String> {
    let lines = logs::with_text(prefix).into_iter();
    lines
        .filter(|line| line.target.starts_with("pgwake::wake") && line.field("message") == "woken")
        .map(|line| line.field("endpoint").to_owned())
        .collect()
}

pub(super) fn waiting_for_a_turn(gateway: &Gateway) -> usize {
    gateway.server.house().wakes.waiting_for_a_turn()
}

#[tokio::test]
async fn one_tenants_sleeping_crowd_does_not_keep_anothers_one_waiting() {
    let crowd: Vec<_> = (0..8).map(|number| format!("in-line-crowd-{number}")).collect();
    const ALONE: &str = "in-line-alone";
    let setup = Setup::new().limit("wakes_at_once_max = 1");
    let mut gate = Gate::new(setup.path());
    gate.close();
    let setup = crowd
        .iter()
        .fold(setup, |setup, name| setup.gated(name, &gate, ""));
    let gateway = setup.of_tenant("zoo").gated(ALONE, &gate, "").start().await;
    let mut clients = Vec::new();
    for endpoint in &crowd {
        clients.push(gateway.raw_proved(endpoint).await);
    }
    until("the crowd to stand in line", async || {
        waiting_for_a_turn(&gateway) == crowd.len() - 1
    })
    .await;
    clients.push(gateway.raw_proved(ALONE).await);
    until("one more to stand in line", async || {
        waiting_for_a_turn(&gateway) == crowd.len()
    })
    .await;
    assert_eq!(woken("in-line-").len(), 1);

    gate.open();
    join_all(clients.iter_mut().map(|client| client.until(b'Z'))).await;

    let order = woken("in-line-");
    let place = order.iter().position(|name| name == ALONE).unwrap();
    // One is being started, and a second's worth of starts is what the crowd may spend before: four, as long as nobody
    // knows how long they take.
    assert!(place <= 5, "{order:?}");
    assert_eq!(order.len(), crowd.len() + 1);
    drop(clients);
    gateway.server.stop().await;
}

/// What became of a client: how long it took, and what it was told instead of being let in.
struct End {
    took: Duration,
    refusal: Option<(String, String)>,
}

async fn ended(client: &mut Raw, began: Instant) -> End {
    loop {
        let message = client.message().await;
        let took = began.elapsed();
        match message.tag {
            b'E' => {
                let mut fields = message.fields();
                let mut told = |key| fields.remove(&key).unwrap();
                let refusal = Some((told('C'), told('D')));
                return End { took, refusal };
            }
            b'Z' => return End { took, refusal: None },
            _ => (),
        }
    }
}

#[tokio::test]
async fn storm_over_many_sleeping_endpoints_is_served_or_told_by_its_deadline() {
    const IMPATIENT: Duration = Duration::from_secs(1);
    // `PGWAKE_STORM=100` is a thousand clients.
    let endpoints = std::env::var("PGWAKE_STORM").map_or(8, |count| count.parse().unwrap());
    let clients_each = 10;
    let name = |number: usize| format!("storm-{number}");
    let is_impatient = |number: usize| number % 4 == 3;
    let setup = Setup::new().limit("wakes_at_once_max = 2");
    let mut gate = Gate::new(setup.path());
    gate.close();
    let setup = (0..endpoints).fold(setup, |setup, number| {
        let setup = setup.of_tenant(["acme", "zoo", "park"][number % 3]);
        let hold = if is_impatient(number) { "1s" } else { "5m" };
        setup.gated(&name(number), &gate, &format!("hold_timeout = \"{hold}\""))
    });
    let gateway = setup.start().await;
    // Nobody of these is let through before the others have been sent away.
    let patient = (0..endpoints).filter(|number| !is_impatient(*number));
    let impatient = (0..endpoints).filter(|number| is_impatient(*number));
    let come = async |numbers: Vec<usize>| {
        let mut came = Vec::new();
        for number in numbers {
            let name = name(number);
            for client in join_all((0..clients_each).map(|_| gateway.raw_proved(&name))).await {
                came.push((client, Instant::now()));
            }
        }
        came
    };
    let mut patient = come(patient.collect()).await;
    until("two starts and a line", async || {
        let names = (0..endpoints).map(|number| EndpointName::parse(&name(number)).unwrap());
        let wakes = &gateway.server.house().wakes;
        let started: u64 = names.map(|name| wakes.wakes_started(&name)).sum();
        started == 2 && waiting_for_a_turn(&gateway) == patient.len() / clients_each - 2
    })
    .await;
    let mut impatient = come(impatient.collect()).await;

    let told = join_all(impatient.iter_mut().map(|(client, began)| ended(client, *began))).await;
    for end in &told {
        let (sqlstate, detail) = end.refusal.as_ref().expect("nobody is served yet");
        assert_eq!(sqlstate, "57P03");
        let (waited, others) = detail.split_once(" s; ").unwrap();
        assert!(waited.starts_with("waited 1."), "{detail}");
        assert!(
            others.contains(" others wait, and limits.wakes_at_once_max is 2"),
            "{detail}"
        );
    }
    assert_eq!(waiting_for_a_turn(&gateway), patient.len() / clients_each - 2);
    gate.open();
    let served = join_all(patient.iter_mut().map(|(client, began)| ended(client, *began))).await;
    assert!(served.iter().all(|end| end.refusal.is_none()));
    println!(
        "{} clients of {endpoints} endpoints: {} told after {:?} at the latest, {} served after {:?} at the latest",
        told.len() + served.len(),
        told.len(),
        told.iter().map(|end| end.took).max().unwrap_or(IMPATIENT),
        served.len(),
        served.iter().map(|end| end.took).max().unwrap(),
    );
    for number in 0..endpoints {
        assert_eq!(gateway.wakes(&name(number)), u64::from(!is_impatient(number)));
    }
    drop((patient, impatient));
    gateway.server.stop().await;
}
