//! Networks and traffic out of nothing but this program and the kernel.
//!
//! # Theory of operation
//!
//! A [`Lab`] owns network namespaces, called hosts, and the veth cables between them. Nothing of it
//! touches the namespace the program was started in: hosts are made empty, cables are made between
//! them, and all of it goes when the lab goes out of scope, by a panic too.
//!
//! A [`Host`] runs closures on a thread inside its namespace. Sockets opened there belong to the
//! host for ever, whichever thread uses them later, so servers and clients are opened in a host and
//! then used like any other. Programs started by [`Host::spawn`] live in it as well.
//!
//! [`Topology`] is the network that the demo, the tests and the benchmark share: containers behind
//! a host, and a world outside. [`traffic`] is what runs over it: echo requests, bulk transfers,
//! datagrams, hand-made frames, and observers that look at the wire and at the kernel's counters.
//! None of it needs `ip`, `ping` or any other program.
//!
//! All waits and clock reads are here because this is an edge: it plays the outside world.

mod error;
mod network;
pub mod offload;
mod process;
#[cfg(test)]
mod tests;
mod topology;
pub mod traffic;

pub use error::{LabError, Result};
pub use network::{Cable, End, Host, Lab};
pub use process::Process;
pub use topology::{Plan, Subnet, Topology};
