//! Integration tests, one binary: each module holds promises of one kind.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test may fail loudly"
)]

mod agent;
mod architecture;
mod buckets;
mod cli;
mod cli_errors;
mod cli_init;
#[cfg(any(feature = "gcs", feature = "azure"))]
mod clouds;
mod commit;
mod common;
mod compare;
mod compromised;
mod crash;
mod damage;
mod databases;
mod deploy;
mod docs;
mod drill;
mod durable_crash;
mod extract_safety;
#[path = "common/forge.rs"]
mod forge;
mod forged;
mod forged_history;
mod git;
mod golden;
mod guard;
mod health;
mod holes;
mod hooks;
mod in_place;
mod incremental;
mod incremental_content;
mod incremental_random;
mod incremental_space;
mod incremental_traps;
mod instructions;
mod judged_alike;
mod keys;
#[path = "common/lab.rs"]
mod lab;
mod leftovers;
mod lost_catalog;
mod marks;
mod memory;
mod mini;
mod moments;
mod month;
mod notify;
mod page;
mod prune;
mod prune_model;
mod prune_process;
mod prune_races;
mod recover;
mod recover_traps;
mod requests;
mod retention_oracle;
mod rollback;
mod roundtrip;
mod roundtrip_random;
mod s3;
mod s3_faults;
mod s3_servers;
mod s3_tls;
mod settle;
mod snapshots;
mod sqlite_child;
mod stock;
mod stopped;
mod stores;
mod verify;
mod versions;
mod ways_out;
