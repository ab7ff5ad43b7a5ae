//! The node on a Raspberry Pi: installers for trees, service control.
