//! Decoding allocates nothing: every vector, its TLVs and their typed views, encoding included.
#![allow(unsafe_code, reason = "a global allocator cannot be replaced by safe code; this one only counts")]

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;

use mmproxy_codec::{Addresses, Outcome, TlvType, TlvValue, Transport, encode};

#[test]
fn decoding_allocates_nothing() {
    let vectors = support::all();
    for vector in &vectors {
        let (typed, allocations) = counted(|| {
            let answer = black_box(vector.decode());
            let Ok(Outcome::Complete { header, .. }) = answer else { return 0 };
            black_box((header.source(), header.destination(), header.addresses()));
            let views = header.tlvs().filter(|tlv| match tlv.parse() {
                Ok(TlvValue::Ssl(ssl)) => ssl.tlvs().count() > 0 && ssl.version().is_some(),
                Ok(_) => true,
                Err(_) => false,
            });
            views.count()
        });
        assert_eq!(allocations, 0, "{} with {typed} typed TLVs", vector.name);
    }
}

#[test]
fn encoding_allocates_nothing() {
    let (source, destination) = ("192.0.2.7:4711".parse().unwrap(), "[2001:db8::1]:443".parse().unwrap());
    let mut buf = [0; 128];
    let (len, allocations) = counted(|| {
        let line = encode::v1(source, destination).unwrap();
        let spp = encode::spp(source, destination).unwrap();
        let v2 = encode::v2(&mut buf, Transport::Stream, Addresses::between(source, destination))
            .and_then(|header| header.tlv(TlvType::ALPN, b"h2"))
            .and_then(encode::V2Encoder::finish_with_crc);
        black_box(line.len() + spp.len() + v2.unwrap().len())
    });
    assert!(len > 0);
    assert_eq!(allocations, 0);
}

#[test]
fn the_counter_counts() {
    let (value, allocations) = counted(|| black_box(Box::new(1)));
    assert_eq!((*value, allocations), (1, 1));
}

/// What `work` returns, and how often it asked for memory.
fn counted<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = ALLOCATIONS.get();
    let value = work();
    (value, ALLOCATIONS.get() - before)
}

thread_local! {
    /// Of this thread: other tests of this program run beside it.
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

#[global_allocator]
static COUNTING: Counting = Counting;

struct Counting;

// SAFETY: everything is handed on to the system's allocator as it came. The counter is a plain cell that is
// initialised at compile time and has no destructor, so using it neither allocates nor fails.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promises about `layout` are the system's conditions.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: `pointer` came from `alloc` above, which is the system's, with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}
