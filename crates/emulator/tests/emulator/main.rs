//! That the emulator is as strict as Azure, fails as it is told to, and says what it saw.

mod asking;
mod control;
mod faults;
mod identity;
mod served;
mod signing_keys;
mod vault;
