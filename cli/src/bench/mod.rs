//! Measuring forwarders beside each other: `vswitch bench`.
//!
//! # Theory of operation
//!
//! A figure alone says little: machines drift, and this program, its load and its competitors share
//! the same processors. So the same network of namespaces is built for each forwarder, and every
//! test runs over all of them in turn, A B C A B C ..., so that a drift harms all alike; what is
//! compared is the ratio within one round. A forwarder whose turn it is not is stopped (SIGSTOP),
//! since some of them poll without rest.
//!
//! [`words`] names the forwarders and the tests; a [`path`] is from whom to whom a load runs, and a
//! [`sample`] what one run of a test found.
//!
//! Nothing touches the namespace that the program was started in.

pub mod bed;
pub mod load;
pub mod path;
pub mod sample;
pub mod words;
