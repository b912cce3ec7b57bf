//! What the types make impossible: programs outside of the rooms that know Azure, and why each does not compile.
//!
//! The compiler's words beside each program are those of the toolchain that `rust-toolchain.toml` names. With another
//! one, `TRYBUILD=overwrite cargo test --test compile_fail` writes them anew; look at what changes.

#[test]
fn what_would_let_a_secret_out_does_not_compile() {
    let programs = trybuild::TestCases::new();
    // One that must compile, so that the others do not fail for want of something that all of them need.
    programs.pass("tests/compile_pass/*.rs");
    programs.compile_fail("tests/compile_fail/*.rs");
}
