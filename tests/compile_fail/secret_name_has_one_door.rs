//! A name that exists has been checked, so that it can stand in an address.

use keyvault_gateway::secret::{SecretName, SecretVersion};

fn main() {
    let _name = SecretName("../keys".to_owned());
    let _name: SecretName = "../keys".into();
    let _name: SecretName = "../keys".parse().unwrap();
    let _name: SecretName = serde_json::from_str("\"../keys\"").unwrap();
    let _name = SecretName::default();
    let _version = SecretVersion("..".to_owned());
    let mut name = SecretName::parse("keys").unwrap();
    name.0.push_str("/../keys");
    name.as_str().push_str("/../keys");
}
