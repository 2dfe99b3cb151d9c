//! Tests of filters. `differential` compares with libpcap; the others say what it cannot.

mod bpf;
mod differential;
mod documentation;
mod expressions;
mod frames;
mod grammar;
mod meaning;
