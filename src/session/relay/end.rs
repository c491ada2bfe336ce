//! How a relay may end.

use std::{sync::Arc, time::Duration};

use crate::session::{
    idling::{Ending, Rest},
    standing::Dismissal,
};
use crate::wire::frame::Broken;

/// Why a relay ended.
#[derive(Debug)]
pub(in crate::session) enum End {
    /// Everything is answered and no transaction is open: the server session may be given back.
    Released,
    /// The message at the front waits for something ([`Exchange::gate`](crate::session::exchange::Exchange::gate)).
    Gate,
    /// pgwake's BEGIN failed, and the server ignores what the client sent behind it.
    BeginFailed,
    /// The server had ended the session before it looked at what the client sent: another one may be asked.
    Unheard,
    /// The client said Terminate.
    Terminated,
    /// The client is gone without a word.
    ClientGone,
    /// The client's bytes are no messages.
    ClientBroken(Broken),
    /// The server closed the connection.
    ServerClosed,
    /// The server's bytes are no messages.
    ServerBroken,
    /// The compute is gone, as `wake` knows.
    ComputeLost(Arc<str>),
    /// The compute is to be suspended and the session was idle.
    IdleEnded,
    /// The compute is suspended, and the session had something open that is not waited for any longer.
    CutOff,
    /// The session's time is over and it was idle.
    Expired(Ending),
    /// It may not go on: the configuration has changed.
    Dismissed(Dismissal),
    /// It has done nothing for so long.
    Idled(Rest, Duration),
    /// pgwake drains and the session was idle, or its time is over.
    ShutDown,
}

impl End {
    /// Whether the server has left without being told to.
    pub(in crate::session) fn is_loss_of_server(&self) -> bool {
        matches!(self, Self::ServerClosed | Self::ServerBroken)
    }

    /// Whether the server may still be working for the client that has gone.
    pub(in crate::session) fn leaves_server_behind(&self) -> bool {
        matches!(
            self,
            Self::ClientGone | Self::ClientBroken(_) | Self::ShutDown | Self::Terminated | Self::Dismissed(_)
        )
    }
}
