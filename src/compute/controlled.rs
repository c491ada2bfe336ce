//! Computes that a control plane starts, stops and knows the address of.
//!
//! What runs there is its affair; pgwake asks for a wake until there is an address, and believes that only once somebody
//! answers there. `server` builds it, `wake` calls it.

use std::{fmt, net::IpAddr, sync::Arc, time::Duration};

use futures_util::{FutureExt, future::BoxFuture};
use tokio::time::{Instant, sleep, timeout};

use super::{Address, Compute, ComputeError, Phases, Running, answer::answered};
use crate::config::{self, ServerAddress, ServerTls};
use crate::control_plane::{Client, Contact, Place, Seat, Trouble, Woken};
use crate::ids::EndpointName;

/// How long one that is said to run has to answer.
const ANSWER_PATIENCE: Duration = Duration::from_secs(2);
/// How long one that is said to have started has.
const STARTED_PATIENCE: Duration = Duration::from_secs(10);
/// For so long a control plane that has begun a start may be away: it is started again itself, most likely.
const AWAY_MAX: Duration = Duration::from_secs(10);
/// Meanwhile it is asked so often.
const AWAY_AGAIN: Duration = Duration::from_millis(250);

/// A compute of a control plane.
pub(crate) struct ControlledCompute {
    endpoint: EndpointName,
    seat: Arc<Seat>,
    tls: Option<ServerTls>,
}

impl ControlledCompute {
    /// A compute of which nothing is known yet. It speaks for its endpoint from now on.
    pub(crate) fn new(
        endpoint: &EndpointName,
        config: &config::ControlledCompute,
        client: Arc<Client>,
    ) -> Self {
        Self {
            endpoint: endpoint.clone(),
            seat: Seat::take(client, endpoint),
            tls: config.tls.clone(),
        }
    }

    async fn inspect(&self) -> Result<Option<Running>, ComputeError> {
        let Some(place) = self.seat.state().await? else {
            return Ok(None);
        };
        let address = address_of(&place, self.tls.as_ref())?;
        if timeout(ANSWER_PATIENCE, answered(&address)).await.is_err() {
            let reason = "its control plane says that it runs, and nothing answers at its address";
            return Err(ComputeError::new(reason));
        }
        Ok(Some(Running {
            address,
            adopted: true,
            died: self.seat.until_gone(place.generation).boxed(),
            phases: Vec::new(),
        }))
    }

    async fn start(&self) -> Result<Running, ComputeError> {
        let mut phases = Phases::begin();
        let place = self.woken().await?;
        phases.end("control plane");
        let address = address_of(&place, self.tls.as_ref())?;
        if timeout(STARTED_PATIENCE, answered(&address)).await.is_err() {
            let reason = "nothing answers at the address that its control plane has given";
            return Err(ComputeError::new(reason));
        }
        phases.end("answer");
        Ok(Running {
            address,
            adopted: false,
            died: self.seat.until_gone(place.generation).boxed(),
            phases: phases.done,
        })
    }

    /// Asks for a wake until there is an address, for as long as the whole start may take: `wake` ends it.
    async fn woken(&self) -> Result<Place, Trouble> {
        let mut has_begun = false;
        let mut away_since = None;
        loop {
            match self.seat.wake().await {
                Ok(Woken::Ready(place)) => return Ok(place),
                Ok(Woken::Starting(again_in)) => {
                    (has_begun, away_since) = (true, None);
                    sleep(again_in).await;
                }
                Err(trouble) => {
                    let since = *away_since.get_or_insert_with(Instant::now);
                    has_begun |= trouble.contact == Contact::Cut;
                    let is_there = trouble.contact == Contact::Held;
                    if is_there || !has_begun || since.elapsed() >= AWAY_MAX {
                        return Err(trouble);
                    }
                    sleep(AWAY_AGAIN).await;
                }
            }
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

    fn looks_again(&self) -> bool {
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
        let suspended = self.seat.suspend();
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
