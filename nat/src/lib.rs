//! NAT44 as a pure function of bytes and time.
#![forbid(unsafe_code)]
