//! Strangers: clients of the same endpoint that come between any two turns of the suite, so that server sessions change
//! hands all the time. Each keeps settings of its own and looks whether they are still its own.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{task::JoinHandle, time::sleep};
use tokio_postgres::{Config, config::SslMode};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::{
    say,
    suites::place::{Place, Stage},
};

/// A breath between two turns, so that the suite comes to its turns, too.
const BREATH: Duration = Duration::from_millis(2);

/// Those who came.
pub(crate) struct Strangers {
    stop: Arc<AtomicBool>,
    turns: Arc<AtomicU64>,
    tasks: Vec<JoinHandle<()>>,
}

/// Lets them come where sessions can change hands: one more than there are sessions, but few where there are many.
pub(crate) async fn come(place: Place, stage: &Stage) -> Strangers {
    let count = match place {
        Place::Direct | Place::Session => 0,
        Place::Transaction(sessions) => sessions.min(3) + 1,
    };
    let strangers = Strangers {
        stop: Arc::default(),
        turns: Arc::default(),
        tasks: Vec::new(),
    };
    (0..count).fold(strangers, |mut strangers, number| {
        let stay = stay(
            config(stage, number),
            MakeRustlsConnect::new(stage.tls.clone()),
            Arc::clone(&strangers.stop),
            Arc::clone(&strangers.turns),
        );
        strangers.tasks.push(tokio::spawn(stay));
        strangers
    })
}

impl Strangers {
    /// Lets them go; panics where one of them met somebody else's settings.
    pub(crate) async fn leave(self) {
        self.stop.store(true, Ordering::Relaxed);
        let count = self.tasks.len();
        for task in self.tasks {
            task.await.unwrap();
        }
        if count > 0 {
            say(&format!(
                "{count} strangers had {} turns",
                self.turns.load(Ordering::Relaxed)
            ));
        }
    }
}

fn config(stage: &Stage, number: u32) -> Config {
    let mut config = Config::new();
    config
        .host(stage.variable("PGHOST"))
        .hostaddr(stage.variable("PGHOSTADDR").parse().unwrap())
        .port(stage.variable("PGPORT").parse().unwrap())
        .user(stage.variable("PGUSER"))
        .password(stage.variable("PGPASSWORD"))
        .dbname(stage.variable("PGDATABASE"))
        .application_name(format!("stranger {number}"))
        .ssl_mode(SslMode::Require);
    config
}

/// One stranger's stay. A suite may end sessions that are not its own: then the stranger comes again.
async fn stay(config: Config, tls: MakeRustlsConnect, stop: Arc<AtomicBool>, turns: Arc<AtomicU64>) {
    let name = config.get_application_name().unwrap().to_owned();
    let set =
        format!("set search_path to \"{name}\"; set datestyle to 'German'; set timezone to 'Asia/Tokyo'");
    let look = "select concat_ws('|', current_setting('application_name'), current_setting('search_path'), \
                current_setting('datestyle'), current_setting('timezone'))";
    let own = format!("{name}|\"{name}\"|German, DMY|Asia/Tokyo");
    while !stop.load(Ordering::Relaxed) {
        let Ok((client, connection)) = config.connect(tls.clone()).await else {
            sleep(BREATH).await;
            continue;
        };
        tokio::spawn(connection);
        if client.batch_execute(&set).await.is_err() {
            continue;
        }
        while !stop.load(Ordering::Relaxed) {
            let Ok(row) = client.query_one(look, &[]).await else {
                break;
            };
            assert_eq!(row.get::<_, &str>(0), own, "a stranger's settings");
            turns.fetch_add(1, Ordering::Relaxed);
            sleep(BREATH).await;
        }
    }
}
