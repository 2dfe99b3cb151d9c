//! From whom to whom a load runs, whatever forwards it.

use std::net::{Ipv4Addr, SocketAddr};

use crate::lab::Host;

/// One end of a [`Path`].
#[derive(Debug, Clone, Copy)]
pub struct Station<'b> {
    /// The namespace.
    pub host: &'b Host,
    /// Its only link beside `lo`.
    pub link: &'static str,
    /// Its address.
    pub ip: Ipv4Addr,
    /// Its Ethernet address.
    pub mac: [u8; 6],
}

/// From whom to whom a load runs, and whose processor time counts as the forwarder's.
#[derive(Debug, Clone)]
pub struct Path<'b> {
    /// Opens the connections and sends the frames.
    pub client: Station<'b>,
    /// Accepts and receives; behind the NAT where the test needs one, otherwise a neighbour.
    pub server: Station<'b>,
    /// Where the client reaches the server, if that is not at its own address: a published port.
    /// The server then listens on the port of the same number.
    pub published: Option<SocketAddr>,
    /// Others on the same network, who receive only what is for all.
    pub bystanders: Vec<Station<'b>>,
    /// The forwarder's processes; none for one that lives in the kernel.
    pub processes: Vec<u32>,
}
