//! What a store in a bucket does when its server misbehaves.

mod server;
