//! TCP ports.

use super::number::{NumberError, number};

/// Why a text is not a port.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum PortError {
    #[error("write a port from 1 to 65535")]
    Port,
    #[error("write a port from 1 to 65535, or 0 for a free one")]
    PortOrFree,
}

/// Reads a port.
pub(crate) fn parse(text: &str) -> Result<u16, PortError> {
    number(1..=u16::MAX)(text).map_err(|_: NumberError<u16>| PortError::Port)
}

/// Reads a port; 0 is `None`: any free one.
pub(crate) fn parse_or_free(text: &str) -> Result<Option<u16>, PortError> {
    let port = number(0..=u16::MAX)(text).map_err(|_: NumberError<u16>| PortError::PortOrFree)?;
    Ok((port != 0).then_some(port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_is_no_port() {
        assert_eq!(parse("65535"), Ok(65_535));
        assert_eq!(parse("0"), Err(PortError::Port));
        assert_eq!(parse("65536"), Err(PortError::Port));
        assert_eq!(parse_or_free("0"), Ok(None));
        assert_eq!(parse_or_free("15001"), Ok(Some(15_001)));
        assert_eq!(parse_or_free("http"), Err(PortError::PortOrFree));
    }
}
