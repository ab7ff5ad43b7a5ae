//! The typed client of the bus and of the store.
