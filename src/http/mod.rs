//! HTTP as callers see it: requests, responses, header fields, traces.

pub mod cache_status;
pub mod headers;
pub mod request;
pub mod response;
pub mod trace;
