//! Computes that a control plane starts, stops and knows the address of.
//!
//! What runs there is its affair; pgwake asks for a wake until there is an address, and believes that only once somebody
//! answers there. `server` builds it, `wake` calls it.

use std::{
    fmt,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::{FutureExt, future::BoxFuture};
use tokio::time::{sleep, timeout};

use super::{Address, Compute, ComputeError, Phases, Running, answer::answered};
use crate::config::{self, ServerAddress, ServerTls};
use crate::control_plane::{Client, Place, Trouble, Woken};
use crate::ids::EndpointName;

/// How long one that is said to run has to answer.
const ANSWER_PATIENCE: Duration = Duration::from_secs(2);
/// How long one that is said to have started has.
const STARTED_PATIENCE: Duration = Duration::from_secs(10);
/// Generations are numbered by the control plane; this one is none.
const NO_GENERATION: u64 = u64::MAX;

/// A compute of a control plane.
pub(crate) struct ControlledCompute {
    client: Arc<Client>,
    endpoint: EndpointName,
    tls: Option<ServerTls>,
    /// The last generation that was heard of.
    generation: AtomicU64,
}

impl ControlledCompute {
    /// A compute of which nothing is known yet.
    pub(crate) fn new(
        endpoint: &EndpointName,
        config: &config::ControlledCompute,
        client: Arc<Client>,
    ) -> Self {
        Self {
            client,
            endpoint: endpoint.clone(),
            tls: config.tls.clone(),
            generation: AtomicU64::new(NO_GENERATION),
        }
    }

    fn generation(&self) -> Option<u64> {
        Some(self.generation.load(Ordering::Relaxed)).filter(|number| *number != NO_GENERATION)
    }

    async fn inspect(&self) -> Result<Option<Running>, ComputeError> {
        let Some(place) = self.client.state(&self.endpoint).await? else {
            return Ok(None);
        };
        let address = address_of(&place, self.tls.as_ref())?;
        if timeout(ANSWER_PATIENCE, answered(&address)).await.is_err() {
            let reason = "its control plane says that it runs, and nothing answers at its address";
            return Err(ComputeError::new(reason));
        }
        Ok(Some(self.running(&place, address, (Vec::new(), true))))
    }

    async fn start(&self) -> Result<Running, ComputeError> {
        let mut phases = Phases::begin();
        let place = loop {
            match self.client.wake(&self.endpoint).await? {
                Woken::Ready(place) => break place,
                // For as long as the whole start may take: `wake` ends it.
                Woken::Starting(again_in) => sleep(again_in).await,
            }
        };
        phases.end("control plane");
        self.generation.store(place.generation, Ordering::Relaxed);
        let address = address_of(&place, self.tls.as_ref())?;
        if timeout(STARTED_PATIENCE, answered(&address)).await.is_err() {
            let reason = "nothing answers at the address that its control plane has given";
            return Err(ComputeError::new(reason));
        }
        phases.end("answer");
        Ok(self.running(&place, address, (phases.done, false)))
    }

    fn running(
        &self,
        place: &Place,
        address: Address,
        (phases, adopted): (Vec<(&'static str, Duration)>, bool),
    ) -> Running {
        self.generation.store(place.generation, Ordering::Relaxed);
        let (mut gone, generation) = (self.client.watch(&self.endpoint), place.generation);
        let died = async move {
            let of_this = |gone: &Option<(u64, &str)>| gone.is_some_and(|(number, _)| number >= generation);
            let why = gone.wait_for(of_this).await.ok().and_then(|gone| *gone);
            match why {
                Some((_, why)) => why.to_owned(),
                // Nobody tells any more.
                None => std::future::pending().await,
            }
        };
        Running {
            address,
            adopted,
            died: died.boxed(),
            phases,
        }
    }
}

/// Where it is reached, and how: a server elsewhere is never spoken to in clear unless that was said.
fn address_of(place: &Place, tls: Option<&ServerTls>) -> Result<Address, ComputeError> {
    let tls = match (&place.server, tls) {
        // Postgres speaks no TLS there.
        (ServerAddress::Unix(_), _) => ServerTls::Disable,
        (ServerAddress::Tcp { host, .. }, _) if is_loopback(host) && tls.is_none() => ServerTls::Disable,
        (ServerAddress::Tcp { .. }, Some(tls)) => tls.clone(),
        (ServerAddress::Tcp { .. }, None) => {
            let reason = "its control plane has given an address of another machine, and neither `tls` nor control_plane.server_ca says how it is checked";
            return Err(ComputeError::new(reason));
        }
    };
    Ok(Address {
        server: place.server.clone(),
        tls,
        server_uid: match place.server {
            ServerAddress::Unix(_) => place.uid,
            ServerAddress::Tcp { .. } => None,
        },
    })
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

impl From<Trouble> for ComputeError {
    fn from(trouble: Trouble) -> Self {
        Self {
            reason: trouble.said,
            detail: trouble.detail,
            retry_after: trouble.retry_after,
        }
    }
}

impl Compute for ControlledCompute {
    fn can_suspend(&self) -> bool {
        true
    }

    fn inspect(&self) -> BoxFuture<'_, Result<Option<Running>, ComputeError>> {
        self.inspect().boxed()
    }

    /// Cancel safe as far as nothing is asked any more; what was started goes on until [`Compute::stop`].
    fn start(&self) -> BoxFuture<'_, Result<Running, ComputeError>> {
        self.start().boxed()
    }

    /// Cancel safe: the control plane goes on.
    fn stop(&self) -> BoxFuture<'_, Result<(), ComputeError>> {
        let suspended = self.client.suspend(&self.endpoint, self.generation());
        suspended.map(|done| done.map_err(ComputeError::from)).boxed()
    }
}

impl fmt::Debug for ControlledCompute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ControlledCompute")
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn place(server: ServerAddress) -> Place {
        Place {
            server,
            uid: Some(105),
            generation: 1,
        }
    }

    #[test]
    fn a_server_elsewhere_is_reached_as_was_said_or_not_at_all() {
        let tcp = |host: &str| {
            place(ServerAddress::Tcp {
                host: host.to_owned(),
                port: 5432,
            })
        };
        let full = ServerTls::VerifyFull {
            ca: PathBuf::from("ca.pem"),
        };
        let tls = |place: &Place, tls| address_of(place, tls).map(|address| address.tls).ok();
        assert_eq!(tls(&tcp("127.0.0.1"), None), Some(ServerTls::Disable));
        assert_eq!(tls(&tcp("localhost"), Some(&full)), Some(full.clone()));
        assert_eq!(tls(&tcp("10.0.0.7"), Some(&full)), Some(full.clone()));
        let disable = Some(ServerTls::Disable);
        assert_eq!(tls(&tcp("10.0.0.7"), disable.as_ref()), disable);
        assert_eq!(tls(&tcp("10.0.0.7"), None), None);
        let socket = place(ServerAddress::Unix("/run/pg/.s.PGSQL.5432".into()));
        let address = address_of(&socket, Some(&full)).unwrap();
        assert_eq!((address.tls, address.server_uid), (ServerTls::Disable, Some(105)));
        assert_eq!(address_of(&tcp("127.0.0.1"), None).unwrap().server_uid, None);
    }
}
