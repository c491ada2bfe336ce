//! Read buffers, lent for as long as bytes are on their way: an idle client holds none.
//!
//! One small stock per thread, without a lock; sessions of a thread share it.

use std::cell::RefCell;

/// One TLS record's plaintext; most queries and answers fit in it.
const SMALL_BYTES: usize = 16 * 1024;
/// For directions that fill the small one: fewer system calls while bulk data streams.
const LARGE_BYTES: usize = 128 * 1024;
/// Buffers of each size that a thread keeps; beyond, they are freed.
const KEPT_MAX: usize = 32;

/// Which buffer suits a direction now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Size {
    Small,
    Large,
}

thread_local! {
    static STOCK: RefCell<[Vec<Box<[u8]>>; 2]> = const { RefCell::new([Vec::new(), Vec::new()]) };
}

/// Takes a buffer from this thread's stock, or makes one.
pub(super) fn take(size: Size) -> Box<[u8]> {
    let (index, bytes) = match size {
        Size::Small => (0, SMALL_BYTES),
        Size::Large => (1, LARGE_BYTES),
    };
    STOCK
        .with_borrow_mut(|stock| stock[index].pop())
        .unwrap_or_else(|| vec![0; bytes].into_boxed_slice())
}

/// Gives a buffer back; one of another size (bytes that came early) is freed.
pub(super) fn give_back(buffer: Box<[u8]>) {
    let index = match buffer.len() {
        SMALL_BYTES => 0,
        LARGE_BYTES => 1,
        _ => return,
    };
    STOCK.with_borrow_mut(|stock| {
        if stock[index].len() < KEPT_MAX {
            stock[index].push(buffer);
        }
    });
}
