//! Compiles the contracts with protox: no protoc is needed on the machine.
use std::path::{Path, PathBuf};

fn main() -> anyhow::Result<()> {
    let root = Path::new("../..");
    let protos = root.join("proto");
    let googleapis = root.join("third_party/googleapis");
    println!("cargo::rerun-if-changed={}", protos.display());
    println!("cargo::rerun-if-changed={}", googleapis.display());

    let mut files = Vec::new();
    collect(&protos, &mut files)?;
    files.sort();

    let mut compiler = protox::Compiler::new([&protos, &googleapis])?;
    compiler.include_source_info(true).include_imports(true);
    compiler.open_files(&files)?;

    // Source info stays out of the embedded set; extensions (google.api.http) stay in.
    let embedded = compiler.encode_file_descriptor_set();
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptors.binpb"), embedded)?;

    // Full names let `json` find a message's descriptor.
    let mut names = prost_build::Config::new();
    names.enable_type_names();
    tonic_prost_build::configure()
        .build_transport(false)
        .bytes(".aegis.internal.artifact.v1.WriteUploadRequest.data")
        .bytes(".aegis.internal.artifact.v1.ReadSkeletonResponse.data")
        .bytes(".aegis.report.v1.ReadArtifactResponse.data")
        .bytes(".aegis.report.v1.ImportScanRequest.data")
        .compile_fds_with_config(compiler.file_descriptor_set(), names)?;
    Ok(())
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|e| e == "proto") {
            files.push(path);
        }
    }
    Ok(())
}
