//! A network between pgwake and a Postgres that delivers in pieces, and late: it opens every race between what a client says and
//! what its server answers.

use std::{path::PathBuf, time::Duration};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf},
    net::{UnixListener, UnixStream},
    time::sleep,
};

use crate::harness::postgres::Postgres;

/// Longest piece that comes at once.
const PIECE_MAX: usize = 400;
/// Longest that one is late.
const LATE_MAX: Duration = Duration::from_micros(1500);

/// A Unix socket that leads to this Postgres, for as long as the runtime is there.
pub(super) fn in_front_of(postgres: &Postgres) -> PathBuf {
    let server = postgres.socket();
    let socket = postgres.socket_directory().join("slow.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    tokio::spawn(async move {
        let mut seed = 0;
        while let Ok((near, _)) = listener.accept().await {
            seed += 2;
            let server = server.clone();
            tokio::spawn(async move {
                let Ok(far) = UnixStream::connect(&server).await else {
                    return;
                };
                let (near, far) = (tokio::io::split(near), tokio::io::split(far));
                tokio::join!(carry(near.0, far.1, seed), carry(far.0, near.1, seed + 1));
            });
        }
    });
    socket
}

async fn carry(mut from: ReadHalf<UnixStream>, mut to: WriteHalf<UnixStream>, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut bytes = [0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        let mut rest = &bytes[..count];
        while !rest.is_empty() {
            if random.random_bool(0.5) {
                sleep(LATE_MAX.mul_f64(random.random())).await;
            }
            let length = if random.random_bool(0.5) {
                rest.len()
            } else {
                random.random_range(1..=PIECE_MAX)
            };
            let (piece, behind) = rest.split_at(length.min(rest.len()));
            if to.write_all(piece).await.is_err() {
                return;
            }
            rest = behind;
        }
    }
    let _ = to.shutdown().await;
}
