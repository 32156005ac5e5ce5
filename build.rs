//! Makes Rust declarations from the installed headers of the plugin interface, and builds the C code that finds the
//! broker's functions.
#![warn(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::env;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() -> Result<(), Box<dyn Error>> {
    for input in ["wrapper.h", "include/mosquitto_http_auth.h", "src/ffi/find.c"] {
        println!("cargo::rerun-if-changed={input}");
    }
    // Installed headers come first. Where there are none, those of a broker that scripts/brokers.sh unpacked are used.
    let brokers = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join(".brokers");
    let brokers = brokers.to_str().ok_or("the path of the checkout is no UTF-8")?;
    let folders = ["2.0.11", "2.0.21", "2.1"].map(|version| format!("{brokers}/{version}/include"));
    let mut unpacked: Vec<&str> = folders.iter().flat_map(|folder| ["-idirafter", folder]).collect();
    // Where Debian has musl's own headers, which libclang does not know, and behind them those that musl-gcc does not.
    let of_musl = format!("/usr/include/{}-linux-musl", env::var("CARGO_CFG_TARGET_ARCH")?);
    if is_for_musl() {
        unpacked.extend(["-isystem", &of_musl, "-idirafter", "/usr/include"]);
    }
    let bindings = bindgen::Builder::default()
        .header("wrapper.h")
        .clang_args(&unpacked)
        .allowlist_type("mha_.*|mosquitto_opt|mosquitto_evt_(acl_check|control|disconnect)")
        .allowlist_function("mha_broker_find")
        .allowlist_var("MHA_.*|MOSQ_ACL_.*|MOSQ_LOG_(ERR|WARNING|NOTICE|INFO)")
        .allowlist_item("mosquitto_plugin_event|mosquitto_protocol|mosq_err_t")
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
        .flags(&unpacked)
        .file("src/ffi/find.c")
        .warnings_into_errors(true)
        // The headers of 2.1 warn whoever includes them by the names that 2.0 has.
        .flag_if_supported("-Wno-cpp")
        .compile("find");
    // The code must stay mapped when the broker unloads the plugin: destructors of thread-locals, which the C library
    // calls as threads end, are part of it.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
    link_unwinder_in()?;
    // tests/host.rs is a broker itself, whose functions the plugin that it loads has to find.
    for functions in ["c*", "kick_*", "log_printf", "plugin_set_info"] {
        println!("cargo::rustc-link-arg-tests=-Wl,--export-dynamic-symbol=mosquitto_{functions}");
    }
    Ok(())
}

fn is_for_musl() -> bool {
    env::var("CARGO_CFG_TARGET_ENV").is_ok_and(|libc| libc == "musl")
}

/// Links the code that unwinds panics in: minimal images lack the library that it is otherwise taken from, libgcc_s.
fn link_unwinder_in() -> Result<(), Box<dyn Error>> {
    if is_for_musl()
        && let Some(unwinder) = unwinder_of_rust()?
    {
        // Whoever asks for libgcc_s gets this file, which says where to look instead.
        let folder = PathBuf::from(env::var("OUT_DIR")?);
        fs::write(folder.join("libgcc_s.so"), format!("INPUT({})\n", unwinder.display()))?;
        println!("cargo::rustc-link-search=native={}", folder.display());
        return Ok(());
    }
    // Where the C compiler has it as an archive (gcc does). Before libgcc_s in the linker's line it wins.
    let compiler = cc::Build::new().get_compiler();
    let asked = Command::new(compiler.path()).arg("-print-file-name=libgcc_eh.a").output()?;
    let answer = String::from_utf8(asked.stdout)?;
    // A compiler without it prints the bare name.
    if let Some(folder) = Path::new(answer.trim()).parent().filter(|folder| folder.is_absolute()) {
        println!("cargo::rustc-link-search=native={}", folder.display());
        println!("cargo::rustc-link-lib=static:-bundle=gcc_eh");
    }
    Ok(())
}

/// The unwinder that comes with Rust for musl (with rustup's; distributions leave it out). A gcc of glibc's has one, too,
/// which wants functions of glibc.
fn unwinder_of_rust() -> Result<Option<PathBuf>, Box<dyn Error>> {
    let asked = Command::new(env::var("RUSTC")?)
        .args(["--print", "target-libdir", "--target", &env::var("TARGET")?])
        .output()?;
    let path = Path::new(String::from_utf8(asked.stdout)?.trim()).join("self-contained/libunwind.a");
    Ok(path.exists().then_some(path))
}
