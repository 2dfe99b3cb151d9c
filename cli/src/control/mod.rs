//! The control side of a running switch: HTTP and JSON on a unix socket.
//!
//! ```text
//! curl --unix-socket /run/vswitch/vswitch0.sock http://v/fdb
//!   server      one thread, one tokio runtime: routes, limits, who may change what
//!     Request     what was asked, with the way back; sent over a bounded channel
//!       owner       the daemon's loop, the only one that touches the switch: answers in api types
//!     ReplyTo<T>  the answer, typed: a request for the table cannot be answered with ports
//!   client      the command line, or curl
//! ```
//!
//! The server knows nothing of the data plane and shares no memory with it: a request that cannot
//! be read never reaches the owner, and an owner that hangs costs the client a timely error and
//! nothing else. Both queue and time are bounded ([`server::QUEUE_REQUESTS_MAX`],
//! [`server::ANSWER_SECS_MAX`]).
//!
//! Anybody who may open the socket (mode 0660) may read; only root and the user the switch runs as
//! may change anything, by `SO_PEERCRED`.

pub mod api;
pub mod feed;
pub mod instance;
pub mod request;
pub mod select;
pub mod server;
pub mod watch;
pub mod what_if;

mod drops;
mod metrics;
mod news;
mod text;

pub use feed::Feed;
pub use instance::Instance;
pub use request::{Refusal, ReplyTo, Request};
pub use server::Server;
