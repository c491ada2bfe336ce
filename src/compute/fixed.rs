//! A server that is always there: somebody else runs it, pgwake only knows its address.
//!
//! It starts and stops nothing and does not look whether the server answers; logging in to it is `pool`'s work,
//! which also sees it fail. `server` builds it, `wake` holds it.

use std::future::pending;

use futures_util::{
    FutureExt,
    future::{BoxFuture, ready},
};

use super::{Address, Compute, ComputeError, Running};
use crate::config;

/// A compute that cannot be suspended.
#[derive(Debug, Clone)]
pub(crate) struct FixedCompute {
    address: Address,
}

impl FixedCompute {
    /// The server at the configured address.
    pub(crate) fn new(config: &config::FixedCompute) -> Self {
        Self {
            address: Address {
                server: config.address.clone(),
                tls: config.tls.clone(),
                server_uid: None,
            },
        }
    }

    fn running(&self) -> Running {
        Running {
            address: self.address.clone(),
            adopted: true,
            died: pending().boxed(),
            phases: Vec::new(),
        }
    }
}

impl Compute for FixedCompute {
    fn can_suspend(&self) -> bool {
        false
    }

    fn inspect(&self) -> BoxFuture<'_, Result<Option<Running>, ComputeError>> {
        ready(Ok(Some(self.running()))).boxed()
    }

    fn start(&self) -> BoxFuture<'_, Result<Running, ComputeError>> {
        ready(Ok(self.running())).boxed()
    }

    /// Nothing of it is pgwake's to stop.
    fn stop(&self) -> BoxFuture<'_, Result<(), ComputeError>> {
        ready(Ok(())).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ServerAddress, ServerTls};

    #[tokio::test]
    async fn a_fixed_server_runs_at_its_address_and_never_dies() {
        let server = ServerAddress::Tcp {
            host: "db.example".into(),
            port: 5432,
        };
        let compute = FixedCompute::new(&config::FixedCompute {
            address: server.clone(),
            tls: ServerTls::Require,
        });
        assert!(!compute.can_suspend());
        for running in [
            compute.inspect().await.unwrap().unwrap(),
            compute.start().await.unwrap(),
        ] {
            assert_eq!(running.address.server, server);
            assert_eq!(running.address.tls, ServerTls::Require);
            assert_eq!(running.died.now_or_never(), None);
        }
        compute.stop().await.unwrap();
        assert!(compute.inspect().await.unwrap().is_some());
    }
}
