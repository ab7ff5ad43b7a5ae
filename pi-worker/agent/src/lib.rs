//! The runtime that drives the machines of a node with real I/O.
