//! The code and the descriptor in `src/dry_run/grpc/generated/` are those of
//! `proto/dataprocessor.proto`, made without `protoc`. To write them anew:
//! `UPDATE_PROTO=1 cargo test -p lizards-process --test proto`.

use std::{env, fs, path::Path};

use protox::prost::Message;

#[test]
fn the_generated_code_is_that_of_the_proto_file() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let kept = root.join("src/dry_run/grpc/generated");
    let made = tempfile::tempdir().unwrap();
    let files = protox::compile(["dataprocessor.proto"], [root.join("proto")]).unwrap();
    fs::write(made.path().join("dataprocessor.bin"), files.encode_to_vec()).unwrap();
    tonic_prost_build::configure()
        .build_client(false)
        .build_transport(false)
        .out_dir(made.path())
        .compile_fds(files)
        .unwrap();

    for name in ["dataprocessor.bin", "dataprocessor.rs"] {
        let (made, kept) = (made.path().join(name), kept.join(name));
        if env::var_os("UPDATE_PROTO").is_some() {
            fs::copy(&made, &kept).unwrap();
        }
        assert!(
            fs::read(&made).unwrap() == fs::read(&kept).unwrap_or_default(),
            "{} has drifted from its proto file; run this test with UPDATE_PROTO=1",
            kept.display()
        );
    }
}
