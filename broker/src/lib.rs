//! The bus service: relay, store.
