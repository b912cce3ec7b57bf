//! Embeds the compiled component that `KEYVAULT_GATEWAY_CODE` names, if it names one.

fn main() {
    println!("cargo::rustc-check-cfg=cfg(embedded)");
    println!("cargo::rerun-if-env-changed=KEYVAULT_GATEWAY_CODE");
    if let Ok(file) = std::env::var("KEYVAULT_GATEWAY_CODE") {
        println!("cargo::rerun-if-changed={file}");
        println!("cargo::rustc-env=KEYVAULT_GATEWAY_CODE={file}");
        println!("cargo::rustc-cfg=embedded");
    }
}
