//! Read and write buffers, lent for as long as bytes are on their way: an idle client holds none.
//!
//! One small stock per thread, without a lock; sessions of a thread share it.

use std::cell::RefCell;

/// One TLS record's plaintext; most queries and answers fit in it.
pub(super) const SMALL_BYTES: usize = 16 * 1024;
/// For directions that fill the small one: fewer system calls while bulk data streams.
pub(super) const LARGE_BYTES: usize = 128 * 1024;
/// Buffers of each kind that a thread keeps; beyond, they are freed.
const KEPT_MAX: usize = 32;

/// Which buffer suits a direction now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Size {
    Small,
    Large,
}

/// What a thread has in stock.
struct Stock {
    small: Vec<Box<[u8]>>,
    large: Vec<Box<[u8]>>,
    outgoing: Vec<Vec<u8>>,
}

thread_local! {
    static STOCK: RefCell<Stock> = const { RefCell::new(Stock { small: Vec::new(), large: Vec::new(), outgoing: Vec::new() }) };
}

/// Takes a read buffer from this thread's stock, or makes one.
pub(super) fn take(size: Size) -> Box<[u8]> {
    let (stocked, bytes) = STOCK.with_borrow_mut(|stock| match size {
        Size::Small => (stock.small.pop(), SMALL_BYTES),
        Size::Large => (stock.large.pop(), LARGE_BYTES),
    });
    stocked.unwrap_or_else(|| vec![0; bytes].into_boxed_slice())
}

/// Gives a read buffer back; one of another size (for a message that had to be seen whole) is freed.
pub(super) fn give_back(buffer: Box<[u8]>) {
    STOCK.with_borrow_mut(|stock| {
        let shelf = match buffer.len() {
            SMALL_BYTES => &mut stock.small,
            LARGE_BYTES => &mut stock.large,
            _ => return,
        };
        if shelf.len() < KEPT_MAX {
            shelf.push(buffer);
        }
    });
}

/// Takes an empty buffer for messages that are written anew.
pub(super) fn take_outgoing() -> Vec<u8> {
    STOCK
        .with_borrow_mut(|stock| stock.outgoing.pop())
        .unwrap_or_default()
}

/// Gives one back; one that has grown is freed.
pub(super) fn give_back_outgoing(mut buffer: Vec<u8>) {
    if buffer.capacity() == 0 || buffer.capacity() > LARGE_BYTES {
        return;
    }
    buffer.clear();
    STOCK.with_borrow_mut(|stock| {
        if stock.outgoing.len() < KEPT_MAX {
            stock.outgoing.push(buffer);
        }
    });
}
