//! The words of labels.

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$word_doc:meta])* $word:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $($(#[$word_doc])* $word,)* }

        impl $name {
            /// The label's value.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$word => $text,)* }
            }
        }
    };
}

words! {
    /// What a client was refused, or ended, for.
    RefusalReason {
        /// No proof of who it is.
        Login = "login",
        /// No TLS, or no name.
        Entrance = "entrance",
        /// Bytes that are no protocol.
        Protocol = "protocol",
        /// Too many or too often.
        Limit = "limit",
        /// The compute could not be woken, or not in time.
        Wake = "wake",
        /// The server was lost.
        ServerLost = "server lost",
        /// The server's own words.
        Server = "server",
        /// The compute was to be suspended, or a time limit was over.
        Idle = "idle",
        /// pgwake ends, or an operator ended the session.
        Ended = "ended",
        /// Anything else.
        Other = "other",
    }
}

words! {
    /// A step on a client's way in.
    Phase {
        /// Until its startup packet.
        Tls = "tls",
        /// Until it has proved who it is.
        Auth = "auth",
        /// While its compute woke.
        Hold = "hold",
        /// Until it has a server session.
        Connect = "connect",
        /// All together.
        Total = "total",
    }
}

words! {
    /// What came of a wait for a compute.
    HoldResult {
        /// It is ready.
        Ready = "ready",
        /// There was no lease.
        Refused = "refused",
    }
}

words! {
    /// What came of a wake.
    WakeResult {
        /// The compute takes logins.
        Ready = "ready",
        /// It could not be started.
        Failed = "failed",
        /// It was not ready in time, or nobody needed it any more.
        GivenUp = "given up",
    }
}

words! {
    /// What came of a cancel request.
    CancelResult {
        /// Somebody has that key.
        Hit = "hit",
        /// Nobody has.
        Missed = "missed",
        /// There were too many from that network.
        Limited = "limited",
    }
}

words! {
    /// What the control plane is asked.
    Asked {
        /// What there is of a name.
        Endpoint = "endpoint",
        /// To start a compute.
        Wake = "wake",
        /// To stop one.
        Suspend = "suspend",
        /// What a compute does.
        State = "state",
        /// What has happened; waits a while where nothing has.
        Events = "events",
    }
}

words! {
    /// What came of a question to the control plane.
    AskedResult {
        /// An answer.
        Answered = "answered",
        /// Another status than the question allows.
        Refused = "refused",
        /// An answer that cannot be understood, or not be used.
        Wrong = "wrong",
        /// No answer, or not in time.
        Failed = "failed",
    }
}

words! {
    /// How a client came in.
    Handshake {
        /// By SSLRequest.
        SslRequest = "sslrequest",
        /// With TLS from its first byte.
        Direct = "direct",
        /// It did not come to an end.
        Failed = "failed",
        /// Without.
        Plaintext = "plaintext",
    }
}

words! {
    /// Whether a compute slept.
    Temperature {
        /// It did.
        Cold = "true",
        /// It did not.
        Warm = "false",
    }
}

words! {
    /// Why a connection was closed before a word of its was answered.
    TurnedAway {
        /// There are too many that have not logged in.
        Gate = "gate",
        /// It comes from a load balancer that has to send a PROXY header, and sent something else.
        ProxyHeader = "proxy_header",
    }
}

impl TurnedAway {
    /// All there are.
    pub(super) const ALL: [Self; 2] = [Self::Gate, Self::ProxyHeader];
}

impl RefusalReason {
    /// What a code stands for.
    pub fn of(sqlstate: &str) -> Self {
        match sqlstate {
            _ if sqlstate.starts_with("28") => Self::Login,
            "08004" => Self::Entrance,
            "08P01" | "22023" | "0A000" => Self::Protocol,
            _ if sqlstate.starts_with("53") || sqlstate == "54000" => Self::Limit,
            "57P03" => Self::Wake,
            "08006" | "08007" | "57P02" => Self::ServerLost,
            "57P05" | "25P03" => Self::Idle,
            "57P01" => Self::Ended,
            _ => Self::Other,
        }
    }
}
