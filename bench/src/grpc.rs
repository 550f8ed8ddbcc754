//! As much of gRPC (its protocol over HTTP/2) as client and server need: unary calls with one small message each way.

use crate::case::SMALL;
use crate::http2::{self, END_HEADERS, END_STREAM, kind};

/// The only message, before which stand five bytes: that it is not compressed, and its length.
pub(crate) const MESSAGE: [u8; 5 + SMALL] = {
    const { assert!(SMALL < 256) };
    let mut message = [b'x'; 5 + SMALL];
    [message[0], message[1], message[2], message[3]] = [0; 4];
    #[allow(clippy::cast_possible_truncation, reason = "asserted above")]
    {
        message[4] = SMALL as u8;
    }
    message
};

/// A call's header block.
pub(crate) fn request_block(port: u16) -> Vec<u8> {
    // POST and http of the static table; :path is its 4th name, :authority the 1st, content-type the 31st.
    let mut block = vec![0x83, 0x86, 0x04];
    http2::text(&mut block, "/bench.Echo/Unary");
    block.push(0x01);
    http2::text(&mut block, &format!("127.0.0.1:{port}"));
    content_type(&mut block);
    literal(&mut block, "te", "trailers");
    block
}

/// The call on `stream`.
pub(crate) fn request(out: &mut Vec<u8>, stream: u32, block: &[u8]) {
    http2::write(out, kind::HEADERS, END_HEADERS, stream, block);
    http2::write(out, kind::DATA, END_STREAM, stream, &MESSAGE);
}

/// The only answer, on `stream`, with the status in trailers.
pub(crate) fn answer(out: &mut Vec<u8>, stream: u32) {
    // Status 200 of the static table.
    let mut header = vec![0x88];
    content_type(&mut header);
    http2::write(out, kind::HEADERS, END_HEADERS, stream, &header);
    http2::write(out, kind::DATA, 0, stream, &MESSAGE);
    let mut trailers = Vec::new();
    literal(&mut trailers, "grpc-status", "0");
    http2::write(out, kind::HEADERS, END_HEADERS | END_STREAM, stream, &trailers);
}

fn content_type(block: &mut Vec<u8>) {
    block.extend([0x0f, 0x10]);
    http2::text(block, "application/grpc");
}

/// A field that stays out of the dynamic table (RFC 7541, section 6.2.2).
fn literal(block: &mut Vec<u8>, name: &str, value: &str) {
    block.push(0x00);
    http2::text(block, name);
    http2::text(block, value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http2::Frame;

    #[test]
    fn a_message_says_its_length() {
        assert_eq!(MESSAGE[..6], [0, 0, 0, 0, 64, b'x']);
    }

    #[test]
    fn an_answer_is_a_header_a_message_and_trailers() {
        let mut out = Vec::new();
        answer(&mut out, 5);
        let mut rest = out.as_slice();
        let [header, data, trailers] = [(); 3].map(|()| Frame::take(&mut rest).unwrap());
        assert!(rest.is_empty());
        header.check_status().unwrap();
        assert!(data.kind == kind::DATA && data.payload == MESSAGE && !data.ends_stream());
        assert!(trailers.kind == kind::HEADERS && trailers.ends_stream() && trailers.stream == 5);
        assert_eq!(trailers.payload, b"\x00\x0bgrpc-status\x010");
    }
}
