//! The whole program with a bucket as its store: on a server in this process that keeps its objects in a folder, on one that misbehaves by a script,
//! and on SeaweedFS where it is found.

mod cut_off;
mod killed;
mod mishaps;
mod races;
mod setting_up;
pub(crate) mod shop;
mod way_back;
