//! The types that both halves of sidecar share: map keys and values, ring-buffer events, socket options.
//!
//! Everything here is `repr(C)` without padding (asserted at compile time), since the kernel compares keys byte by
//! byte and copies values to userspace. Addresses are in network order, IPv4 as IPv4-mapped IPv6 (RFC
//! 4291 section 2.5.5.2); ports are in host order.
#![no_std]
#![allow(
    clippy::inline_always,
    reason = "a call from a BPF program is one that the verifier follows, or refuses"
)]

pub mod address;
pub mod bypass;
pub mod connection;
pub mod flow;
pub mod option;
pub mod settings;
pub mod stats;

/// Asserts the size of shared types and lets userspace use them as map keys and values.
///
/// A type that equals the sum of its fields' sizes has no padding.
macro_rules! shared {
    ($($name:ty = $size:expr;)*) => {
        $(
            const _: () = assert!(core::mem::size_of::<$name>() == $size);
            const _: () = assert!(core::mem::align_of::<$name>() <= 8);
            // SAFETY: the type is `repr(C)`, made of integers only, without padding (asserted by its size).
            #[cfg(feature = "user")]
            #[allow(unsafe_code, reason = "aya asks for this marker on map keys and values")]
            unsafe impl aya::Pod for $name {}
        )*
    };
}
pub(crate) use shared;
