//! Gzip by hand, so that what is wrong with it is known to the bit.

const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

/// The text, uncompressed, in one block.
pub fn stored(text: &[u8]) -> Vec<u8> {
    let length = u16::try_from(text.len()).unwrap();
    let mut gzip = HEADER.to_vec();
    gzip.push(1);
    gzip.extend(length.to_le_bytes());
    gzip.extend((!length).to_le_bytes());
    gzip.extend(text);
    gzip.extend(crc32(text).to_le_bytes());
    gzip.extend(u32::from(length).to_le_bytes());
    gzip
}

/// At least so many zeros in about 1/160 of the bytes. The checksum is wrong: nobody should come so far.
pub fn bomb(size: usize) -> Vec<u8> {
    let mut bits = Bits { bytes: HEADER.to_vec(), next: 8 };
    // The last block, with the fixed codes.
    bits.put(&[1, 1, 0]);
    bits.put(&[0, 0, 1, 1, 0, 0, 0, 0]);
    for _ in 0..size / 258 + 1 {
        // 258 bytes as before, at distance 1.
        bits.put(&[1, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0]);
    }
    bits.put(&[0; 7]);
    bits.bytes.extend([0; 8]);
    bits.bytes
}

struct Bits {
    bytes: Vec<u8>,
    next: u8,
}

impl Bits {
    fn put(&mut self, bits: &[u8]) {
        for bit in bits {
            if self.next == 8 {
                self.bytes.push(0);
                self.next = 0;
            }
            *self.bytes.last_mut().unwrap() |= bit << self.next;
            self.next += 1;
        }
    }
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 })
    })
}
