//! Opening a file, whatever it is compressed with.

use std::{
    fs::File,
    io::{self, BufReader, ErrorKind, Read, Seek},
    path::Path,
};

use flate2::read::MultiGzDecoder;

/// What is in a file, decompressed as it is read.
pub(super) struct Content {
    input: Box<dyn Read + Send>,
    compression: &'static str,
}

/// Opens a file. What compressed it is told by its first bytes: gzip (RFC 1952) or Zstandard (RFC
/// 8878), each of one member or frame or of several, one behind the other.
pub(super) fn open(path: &Path) -> io::Result<Content> {
    let mut file = File::open(path)?;
    let mut magic = Vec::with_capacity(4);
    file.by_ref().take(4).read_to_end(&mut magic)?;
    file.rewind()?;
    let (input, compression): (Box<dyn Read + Send>, _) = match magic[..] {
        [0x1F, 0x8B, ..] => (Box::new(MultiGzDecoder::new(BufReader::new(file))), "gzip"),
        // A frame, or one to be passed over, as parallel compressors write them.
        [0x28, 0xB5, 0x2F, 0xFD] | [0x50..=0x5F, 0x2A, 0x4D, 0x18] => {
            (Box::new(zstd::Decoder::new(file)?), "Zstandard")
        }
        _ => (Box::new(file), ""),
    };
    Ok(Content { input, compression })
}

impl Read for Content {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.input.read(into).map_err(|fault| match fault.kind() {
            ErrorKind::Interrupted => fault,
            kind if self.compression.is_empty() => io::Error::new(kind, fault),
            ErrorKind::UnexpectedEof => {
                let compression = self.compression;
                io::Error::other(format!("the {compression} data is cut off"))
            }
            _ => io::Error::other(format!("the {} data is broken: {fault}", self.compression)),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    pub(super) fn gz(content: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    fn zst(content: &[u8]) -> Vec<u8> {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.include_checksum(true).unwrap();
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    fn read(packed: &[u8]) -> (Vec<u8>, io::Result<usize>) {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(packed).unwrap();
        let mut content = Vec::new();
        let end = open(file.path()).unwrap().read_to_end(&mut content);
        (content, end)
    }

    #[test]
    fn several_members_are_one_content() {
        let skippable = [0x50, 0x2A, 0x4D, 0x18, 2, 0, 0, 0, 7, 7];
        for packed in [
            b"one two".to_vec(),
            [gz(b"one"), gz(b""), gz(b" two")].concat(),
            [zst(b"one"), zst(b""), zst(b" two")].concat(),
            [&skippable[..], &zst(b"one two"), &skippable].concat(),
        ] {
            let (content, end) = read(&packed);
            end.unwrap();
            assert_eq!(content, b"one two");
        }
        assert_eq!(read(b"").0, b"");
    }

    #[test]
    fn what_is_cut_off_is_no_end_wherever_it_is_cut() {
        let (one, two) = ("one ".repeat(30), "two ".repeat(30));
        for (pack, name) in [(gz as fn(&[u8]) -> _, "gzip"), (zst, "Zstandard")] {
            let first = pack(one.as_bytes());
            let whole = [first.clone(), pack(two.as_bytes())].concat();
            for length in 4..whole.len() {
                let (content, end) = read(&whole[..length]);
                assert!(
                    one.as_bytes().starts_with(&content) || content.starts_with(one.as_bytes())
                );
                if length == first.len() {
                    // That is a whole file.
                    end.unwrap();
                } else {
                    let fault = end.expect_err(&format!("{name} cut at {length}")).to_string();
                    assert_eq!(fault, format!("the {name} data is cut off"));
                }
            }
        }
    }

    #[test]
    fn what_is_broken_is_told() {
        for (pack, name) in [(gz as fn(&[u8]) -> _, "gzip"), (zst, "Zstandard")] {
            let mut packed = pack("one ".repeat(30).as_bytes());
            // The checksum.
            let last = packed.len() - if name == "gzip" { 8 } else { 1 };
            packed[last] ^= 1;
            let fault = read(&packed).1.unwrap_err().to_string();
            assert!(fault.starts_with(&format!("the {name} data is broken: ")), "{fault}");
        }
    }
}
