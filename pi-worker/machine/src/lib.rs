//! What a node does about an announcement: the node state machine.
