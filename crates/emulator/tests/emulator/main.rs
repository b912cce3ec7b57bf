//! That the emulator is as strict as Azure, fails as it is told to, and says what it saw.

mod asking;
mod azure;
mod faults;
mod served;
mod signing;
