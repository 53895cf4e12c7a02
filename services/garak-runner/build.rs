//! Rebuilds the crate when the Python package that it embeds changes.

fn main() {
    println!("cargo::rerun-if-changed=python/aegis_garak");
}
