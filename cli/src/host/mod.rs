//! The host around the switch: everything that reads or touches its network configuration.
//!
//! Nothing in here is on the path of a frame. Every change to the host goes through the journal
//! first, so that it can be undone at exit, by `vswitch clean`, or by the next start after a
//! SIGKILL.

pub mod addr;
mod attr;
pub mod check;
pub mod doctor;
pub mod guard;
pub mod hold;
pub mod journal;
pub mod link;
pub mod monitor;
pub mod netlink;
pub mod netns;
pub mod peer;
pub mod relay;
pub mod route;
pub mod sysctl;
pub mod view;
