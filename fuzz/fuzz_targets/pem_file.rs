//! Every block that begins is counted, what is read can be written and read again, and nothing hides what follows it.

#![no_main]

use kubepki::pki::pem_file::{PemFile, encode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let file = PemFile::parse(data);
    for block in &file.blocks {
        let again = PemFile::parse(encode(&block.tag, &block.der).as_bytes());
        assert_eq!((again.blocks.len(), again.damaged), (1, 0), "{:?}", block.tag);
        assert_eq!((&again.blocks[0].tag, &again.blocks[0].der), (&block.tag, &block.der));
    }
    let mut longer = data.to_vec();
    longer.extend_from_slice(format!("\n{}", *encode("CERTIFICATE", b"last")).as_bytes());
    let longer = PemFile::parse(&longer);
    assert_eq!(longer.blocks.last().map(|block| block.der.as_slice()), Some(&b"last"[..]));
    assert_eq!(longer.blocks.len() + longer.damaged, file.blocks.len() + file.damaged + 1);
});
