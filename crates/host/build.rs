//! Names the target, and embeds the compiled component that `KEYVAULT_GATEWAY_CODE` names, if it names one.

use std::env;

fn main() {
    println!("cargo::rustc-env=TARGET={}", env::var("TARGET").unwrap_or_default());
    println!("cargo::rustc-check-cfg=cfg(embedded)");
    println!("cargo::rerun-if-env-changed=KEYVAULT_GATEWAY_CODE");
    if let Ok(file) = env::var("KEYVAULT_GATEWAY_CODE") {
        println!("cargo::rerun-if-changed={file}\ncargo::rustc-env=KEYVAULT_GATEWAY_CODE={file}");
        println!("cargo::rustc-cfg=embedded");
    }
}
