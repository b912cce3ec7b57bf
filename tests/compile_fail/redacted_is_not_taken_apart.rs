//! The value is behind `expose` alone: no field, no pattern, no dereference, no conversion, no comparison.

use keyvault_gateway::secret::Redacted;

fn main() {
    let hidden = Redacted::new("value".to_owned());
    let _ = hidden.0;
    let Redacted(_inner) = &hidden;
    let _text: &str = &hidden;
    let _text: &String = hidden.as_ref();
    let _equal = Redacted::new(1_u8) == Redacted::new(1_u8);
}
