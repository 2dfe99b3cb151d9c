//! The real program between real network namespaces.

mod life;
