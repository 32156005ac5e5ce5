//! Makes Rust declarations from the installed headers of the plugin interface, and builds the C code that finds the
//! broker's functions.

use std::env;
use std::error::Error;
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn Error>> {
    for input in ["wrapper.h", "include/mosquitto_http_auth.h", "src/ffi/find.c"] {
        println!("cargo::rerun-if-changed={input}");
    }
    // Installed headers come first. Where there are none, the ones that scripts/brokers.sh unpacked are used.
    let unpacked = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join(".brokers/2.0.11/include");
    let unpacked = ["-idirafter", unpacked.to_str().ok_or("the path of the checkout is no UTF-8")?];
    let bindings = bindgen::Builder::default()
        .header("wrapper.h")
        .clang_args(unpacked)
        .allowlist_type("mha_.*|mosquitto_opt|mosquitto_evt_(acl_check|disconnect)")
        .allowlist_function("mha_broker_find")
        .allowlist_var("MHA_.*|MOSQ_ACL_.*|MOSQ_LOG_(ERR|WARNING|NOTICE|INFO)")
        .allowlist_item("mosquitto_plugin_event|mosq_err_t")
        .default_enum_style(bindgen::EnumVariation::ModuleConsts)
        .prepend_enum_name(false)
        .generate()
        .map_err(|error| {
            format!(
                "{error}\nThe headers of Mosquitto's plugin interface and libclang are needed; \
                 `make build` brings both on Debian. Elsewhere install them, with the client library's mosquitto.h."
            )
        })?;
    bindings.write_to_file(PathBuf::from(env::var("OUT_DIR")?).join("broker.rs"))?;
    cc::Build::new()
        .include("include")
        .flags(unpacked)
        .file("src/ffi/find.c")
        .warnings_into_errors(true)
        .compile("find");
    // The code must stay mapped when the broker unloads the plugin: destructors of thread-locals, which the C library
    // calls as threads end, are part of it.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
    // tests/host.rs is a broker itself, whose functions the plugin that it loads has to find.
    for functions in ["c*", "kick_*", "log_printf", "plugin_set_info"] {
        println!("cargo::rustc-link-arg-tests=-Wl,--export-dynamic-symbol=mosquitto_{functions}");
    }
    Ok(())
}
