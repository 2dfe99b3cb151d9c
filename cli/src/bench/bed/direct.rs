//! One veth cable between client and server, and nothing else.

use super::BedError;
use super::net::Net;
use super::running::{self, Running};

pub(super) fn start(net: &Net) -> Result<Running, BedError> {
    net.lay_direct()?;
    let kernel = running::kernel();
    Ok(Running::new(format!("{kernel}, one veth cable")))
}
