//! What several modules of tests share.

pub(crate) mod crowd;
pub(crate) mod docker;
pub(crate) mod everything;
pub(crate) mod fault_server;
pub(crate) mod long;
pub(crate) mod mounts;
pub(crate) mod person;
pub(crate) mod postgres;
pub(crate) mod project;
pub(crate) mod s3;
pub(crate) mod servers;
pub(crate) mod tars;
pub(crate) mod tls;
pub(crate) mod trees;
pub(crate) mod uses;
pub(crate) mod watched;
pub(crate) mod writer;
