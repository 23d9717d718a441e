//! Many sends in one system call, by Linux's io_uring.
//!
//! What a delivery costs is one entry into the kernel and the work of TCP behind it. `io_uring`
//! enters once for many sockets; `lizards bench fanout` shows what that saves, and it is the reason
//! why this crate may hold the only unsafe code of the project: the kernel reads the buffers of a
//! submission after the call that pushed it has returned, which the borrow checker cannot see. Here
//! it needs not to: [`Ring::send_all`] returns only when the kernel is done with all of them.
//!
//! Where there is no io_uring (another system, an older kernel, a sandbox that forbids it)
//! [`Ring::new`] says so, and its user writes socket by socket.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
pub use linux::Ring;

#[cfg(not(target_os = "linux"))]
mod elsewhere;
#[cfg(not(target_os = "linux"))]
pub use elsewhere::Ring;

/// How many sends go into one system call; [`Ring::send_all`] takes more, in several.
pub const BATCH: usize = 256;
