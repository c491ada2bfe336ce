//! How the words travel: over a socket in `state_dir` that keeps messages apart and carries descriptors (unix(7)).
//!
//! The folder lets nobody in but its owner and root, so whoever reaches the socket may replace what serves it.

use std::{
    fs::{self, Permissions},
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::PermissionsExt,
    },
    path::Path,
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
    },
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::{
    io::Interest,
    net::{UnixListener, UnixStream},
};

use super::Word;
use crate::store::control;

const NAME: &str = "successor";

/// Longest word: that many names of endpoints.
const WORD_BYTES_MAX: usize = 64 * 1024;

/// Successors and commands that wait to be heard.
const BACKLOG: i32 = 16;

/// Where a successor knocks.
#[derive(Debug)]
pub struct Door(UnixListener);

impl Door {
    /// Opens it; whoever has the folder's lock may. On the runtime that will hear.
    ///
    /// # Errors
    /// The system's.
    pub fn open(state_dir: &Path) -> io::Result<Self> {
        let (_folder, path) = control::free(state_dir, NAME)?;
        let socket = Socket::new(Domain::UNIX, Type::SEQPACKET, None)?;
        socket.set_nonblocking(true)?;
        socket.bind(&SockAddr::unix(&path)?)?;
        fs::set_permissions(&path, Permissions::from_mode(0o600))?;
        socket.listen(BACKLOG)?;
        UnixListener::from_std(OwnedFd::from(socket).into()).map(Self)
    }

    /// The next one who knocks. Cancel safe.
    ///
    /// # Errors
    /// The system's.
    pub async fn next(&self) -> io::Result<Channel> {
        let (stream, _) = self.0.accept().await?;
        Ok(Channel(stream))
    }
}

/// Between two.
#[derive(Debug)]
pub struct Channel(UnixStream);

impl Channel {
    /// Reaches the pgwake that serves this folder. On the runtime that will speak.
    ///
    /// # Errors
    /// The system's: `NotFound` and `ConnectionRefused` where none does.
    pub fn connect(state_dir: &Path) -> io::Result<Self> {
        let (_folder, path) = control::short(state_dir, NAME)?;
        let socket = Socket::new(Domain::UNIX, Type::SEQPACKET, None)?;
        socket.connect(&SockAddr::unix(path)?)?;
        socket.set_nonblocking(true)?;
        UnixStream::from_std(OwnedFd::from(socket).into()).map(Self)
    }

    /// Who is at the other end, as a process that may be ended; not for one that is gone.
    ///
    /// # Errors
    /// The system's.
    pub fn peer(&self) -> io::Result<Peer> {
        let pid = self.0.peer_cred()?.pid().ok_or(io::ErrorKind::NotFound)?;
        Peer::of(pid.unsigned_abs())
    }

    /// Says a word. Cancel safe.
    ///
    /// # Errors
    /// Nobody hears.
    pub async fn say(&self, word: &Word) -> io::Result<()> {
        self.say_with(word, None).await
    }

    /// The same, with a descriptor. Cancel safe.
    ///
    /// # Errors
    /// Nobody hears.
    pub async fn say_with(&self, word: &Word, socket: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let text = word.to_string();
        let send = || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            let sockets = socket.map(|socket| [socket]);
            if let Some(sockets) = &sockets {
                control.push(SendAncillaryMessage::ScmRights(sockets));
            }
            let text = [IoSlice::new(text.as_bytes())];
            sendmsg(self.0.as_fd(), &text, &mut control, SendFlags::NOSIGNAL)?;
            Ok(())
        };
        self.0.async_io(Interest::WRITABLE, send).await
    }

    /// The next word, and the descriptor that came with it; `None`: the other end is closed. Cancel safe.
    ///
    /// # Errors
    /// What came is no word.
    pub async fn hear(&self) -> io::Result<Option<(Word, Option<OwnedFd>)>> {
        let receive = || {
            let mut text = vec![0; WORD_BYTES_MAX];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut room = [IoSliceMut::new(&mut text)];
            let flags = RecvFlags::CMSG_CLOEXEC;
            let received = recvmsg(self.0.as_fd(), &mut room, &mut control, flags)?;
            let sockets = control.drain().filter_map(|message| match message {
                RecvAncillaryMessage::ScmRights(sockets) => Some(sockets),
                _ => None,
            });
            let socket = sockets.flatten().next();
            if received.flags.contains(ReturnFlags::TRUNC) {
                return Err(io::ErrorKind::InvalidData.into());
            }
            text.truncate(received.bytes);
            Ok((text, socket))
        };
        let (text, socket) = match self.0.async_io(Interest::READABLE, receive).await {
            Ok((text, _)) if text.is_empty() => return Ok(None),
            Ok(received) => received,
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
            Err(error) => return Err(error),
        };
        let word = std::str::from_utf8(&text).ok().and_then(Word::parse);
        let word = word.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "that is no word"))?;
        Ok(Some((word, socket)))
    }
}

/// The process at the other end.
#[derive(Debug)]
pub struct Peer {
    pid: Pid,
    handle: OwnedFd,
}

impl Peer {
    /// Its number.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// The process that has this number now.
    ///
    /// # Errors
    /// There is none.
    pub fn of(pid: u32) -> io::Result<Self> {
        let pid = pid.try_into().ok().and_then(Pid::from_raw);
        let pid = pid.ok_or(io::ErrorKind::NotFound)?;
        let handle = pidfd_open(pid, PidfdFlags::empty())?;
        Ok(Self { pid, handle })
    }

    /// Returns once it has ended, and with it all its locks; or when this much time is over. Blocking.
    pub fn ends_within(&self, patience: Duration) -> bool {
        let mut watched = [PollFd::new(&self.handle, PollFlags::IN)];
        let patience = Timespec::try_from(patience).ok();
        matches!(poll(&mut watched, patience.as_ref()), Ok(1..))
    }

    /// Kills it: it hangs with what two cannot have.
    ///
    /// # Errors
    /// The system does not let this process.
    pub fn kill(&self) -> io::Result<()> {
        Ok(pidfd_send_signal(&self.handle, Signal::KILL)?)
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::succession::Place;

    #[tokio::test]
    async fn a_listening_socket_travels_with_its_word() {
        let place = tempfile::tempdir().unwrap();
        let refused = Channel::connect(place.path()).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::NotFound);
        let door = Door::open(place.path()).unwrap();
        let (successor, predecessor) = (
            Channel::connect(place.path()).unwrap(),
            door.next().await.unwrap(),
        );
        assert_eq!(predecessor.peer().unwrap().pid(), std::process::id());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();

        let offer = Word::Offer(Place::Operators(address));
        predecessor
            .say_with(&offer, Some(listener.as_fd()))
            .await
            .unwrap();
        predecessor.say(&Word::Yours).await.unwrap();
        drop((listener, predecessor));

        let (word, socket) = successor.hear().await.unwrap().unwrap();
        assert_eq!(word, offer);
        let listener = TcpListener::from(socket.unwrap());
        std::net::TcpStream::connect(address).unwrap();
        listener.accept().unwrap();
        let (word, socket) = successor.hear().await.unwrap().unwrap();
        assert!(socket.is_none());
        assert_eq!(word, Word::Yours);
        assert!(successor.hear().await.unwrap().is_none());
        drop(door);
        let refused = Channel::connect(place.path()).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    }
}
