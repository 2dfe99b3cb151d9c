//! The program `vswitch`: command line, configuration, control socket and screens.
//!
//! [`dispatch`] is the way in. [`args`] says what was asked; [`config`] what a switch is to be;
//! [`daemon`] is what runs one, on a host that [`host`] reads and changes;
//! [`control`] is how a running one is asked and changed, [`client`] its other end; [`show`] makes
//! screens of the answers, [`metrics`] text for Prometheus. [`lab`] makes networks and traffic to
//! try it on.
#![forbid(unsafe_code)]

pub mod args;
pub mod bench;
pub mod capture;
pub mod client;
pub mod config;
pub mod conform;
pub mod control;
pub mod daemon;
pub mod demo;
pub mod dispatch;
pub mod error;
pub mod host;
pub mod keep;
pub mod lab;
pub mod latency;
pub mod man;
pub mod metrics;
pub mod monitor;
pub mod notify;
pub mod plugin;
pub mod record;
mod replacement;
pub mod replay;
pub mod show;
pub mod top;
pub mod trace;
pub mod upkeep;
