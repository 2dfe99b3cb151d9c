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
//! ```text
//! plan       who runs in which test, in which order, and what is left out    pure
//! run        takes the turns over a Bench, notes samples and failures        the only loop
//! stats      spreads, ratios round by round, and when no winner is named     pure
//! summary    samples to a document, the JSON of schema vswitch.bench/1       pure
//! table      the document as text and Markdown                               pure
//! page       the document, or an iperf3 file, as one HTML file               pure
//! command    bench: files, progress, exit code;    report: the same for pages
//! ```
//!
//! Every screen is made from the document alone, so that a file shows what the terminal showed.
//!
//! Nothing touches the namespace that the program was started in.

pub mod bed;
pub mod command;
pub mod document;
pub mod load;
pub mod page;
pub mod path;
pub mod plan;
pub mod progress;
pub mod real;
pub mod report;
pub mod run;
pub mod sample;
pub mod stats;
pub mod summary;
pub mod table;
pub mod words;
