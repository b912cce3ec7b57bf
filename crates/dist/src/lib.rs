//! What a release consists of: the files, and the same as artifacts for OCI registries.

pub mod release;

pub mod artifact;

pub mod layout;

pub mod spin;

pub mod sums;

pub mod check;

pub mod files;
