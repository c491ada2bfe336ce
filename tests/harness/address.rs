//! An address on this machine that servers have one after another: who had it last is not who answers next.
//!
//! The tests hold the port all the time, so that nobody else gets it in between; what comes in is passed on. It ends
//! with its value.

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

/// The address.
pub(crate) struct Address {
    port: u16,
    holder: watch::Sender<u16>,
    accepting: JoinHandle<()>,
}

impl Address {
    /// One that the server at this port of 127.0.0.1 has.
    pub(crate) async fn of(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let holder = watch::Sender::new(port);
        let holders = holder.subscribe();
        Self {
            port: listener.local_addr().unwrap().port(),
            holder,
            accepting: tokio::spawn(accept(listener, holders)),
        }
    }

    /// As configurations write it.
    pub(crate) fn text(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The server at this port has it from now on; connections with the one before break.
    pub(crate) fn give_to(&self, port: u16) {
        self.holder.send_replace(port);
    }
}

impl Drop for Address {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, mut holders: watch::Receiver<u16>) {
    while let Ok((mut client, _)) = listener.accept().await {
        let port = *holders.borrow_and_update();
        let mut until = holders.clone();
        tokio::spawn(async move {
            let Ok(mut server) = TcpStream::connect(("127.0.0.1", port)).await else {
                return;
            };
            tokio::select! {
                _ = copy_bidirectional(&mut client, &mut server) => (),
                _ = until.changed() => (),
            }
        });
    }
}
