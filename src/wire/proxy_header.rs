//! The PROXY protocol, versions 1 and 2: what a load balancer says of the client behind it, ahead of the client's
//! first byte (<https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt>).
//!
//! It reads the header and nothing behind it; the extensions that clouds add (TLVs) are skipped. Whose headers are
//! believed is the caller's decision: `session` reads one only from sources that the listener trusts.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use tokio::io::{AsyncRead, AsyncReadExt};

/// Begins a header of version 2; no startup packet, TLS record or line of text does.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Begins a header of version 1.
const WORD: &[u8] = b"PROXY ";
/// Longest header of version 1, its end included.
const LINE_BYTES_MAX: usize = 107;
/// Longest rest of a header of version 2: addresses and extensions. Clouds send less than 200 bytes.
const REST_BYTES_MAX: usize = 4096;

/// What a header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proxied {
    /// The client's own address.
    Client(SocketAddr),
    /// The connection is the proxy's own (a health check), or the client's address has no IP.
    Nobody,
}

/// Why there is no header.
#[derive(Debug, thiserror::Error)]
pub enum ProxyHeaderError {
    /// The connection broke, or ended inside the header.
    #[error("connection lost in the PROXY header: {0}")]
    Gone(#[from] io::Error),
    /// It is no header, or not one of versions 1 and 2.
    #[error("bad PROXY header: {0}")]
    Bad(&'static str),
}

/// Reads the header at the beginning of a connection. Not cancel safe.
///
/// # Errors
/// [`ProxyHeaderError`]: nothing more can be read from this connection.
pub async fn read_proxy_header<R: AsyncRead + Unpin>(stream: &mut R) -> Result<Proxied, ProxyHeaderError> {
    // Both versions have more bytes than these.
    let mut start = [0; SIGNATURE.len()];
    let neither = ProxyHeaderError::Bad("it begins with neither version's signature");
    // An SSLRequest is shorter than that: who speaks without a header waits for its answer, and is told at once.
    stream.read_exact(&mut start[..1]).await?;
    if ![SIGNATURE[0], WORD[0]].contains(&start[0]) {
        return Err(neither);
    }
    stream.read_exact(&mut start[1..]).await?;
    if start == SIGNATURE {
        return read_binary(stream).await;
    }
    if start.starts_with(WORD) {
        return read_line(stream, &start).await;
    }
    Err(neither)
}

async fn read_binary<R: AsyncRead + Unpin>(stream: &mut R) -> Result<Proxied, ProxyHeaderError> {
    let [version_command, family, high, low] = {
        let mut fixed = [0; 4];
        stream.read_exact(&mut fixed).await?;
        fixed
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if version_command >> 4 != 2 {
        return Err(ProxyHeaderError::Bad("its version is not 2"));
    }
    if length > REST_BYTES_MAX {
        return Err(ProxyHeaderError::Bad("it is too long"));
    }
    let mut rest = vec![0; length];
    stream.read_exact(&mut rest).await?;
    match version_command & 0x0f {
        0 => Ok(Proxied::Nobody),
        1 => addresses(family, &rest),
        _ => Err(ProxyHeaderError::Bad("its command is neither LOCAL nor PROXY")),
    }
}

/// The source address of a version 2 header.
fn addresses(family: u8, rest: &[u8]) -> Result<Proxied, ProxyHeaderError> {
    let short = || ProxyHeaderError::Bad("its addresses are cut short");
    let port = |at: usize| Some(u16::from_be_bytes(rest.get(at..at + 2)?.try_into().ok()?));
    match family {
        // TCP over IPv4: source, destination, source port, destination port.
        0x11 => {
            let [ip, _]: [[u8; 4]; 2] = two(rest).ok_or_else(short)?;
            let port = port(8).filter(|_| rest.len() >= 12).ok_or_else(short)?;
            Ok(client(Ipv4Addr::from(ip).into(), port))
        }
        // TCP over IPv6.
        0x21 => {
            let [ip, _]: [[u8; 16]; 2] = two(rest).ok_or_else(short)?;
            let port = port(32).filter(|_| rest.len() >= 36).ok_or_else(short)?;
            Ok(client(Ipv6Addr::from(ip).into(), port))
        }
        // Unspecified, datagrams, Unix sockets.
        0x00 | 0x12 | 0x22 | 0x31 | 0x32 => Ok(Proxied::Nobody),
        _ => Err(ProxyHeaderError::Bad("its address family is unknown")),
    }
}

fn two<const N: usize>(bytes: &[u8]) -> Option<[[u8; N]; 2]> {
    let (first, rest) = bytes.split_first_chunk()?;
    Some([*first, *rest.first_chunk()?])
}

async fn read_line<R: AsyncRead + Unpin>(stream: &mut R, start: &[u8]) -> Result<Proxied, ProxyHeaderError> {
    let mut line = start.to_vec();
    // Byte by byte: what follows is the client's. The shortest line ends within what has been read but two bytes.
    while !line.ends_with(b"\r\n") {
        if line.len() == LINE_BYTES_MAX {
            return Err(ProxyHeaderError::Bad("its line does not end"));
        }
        line.push(stream.read_u8().await?);
    }
    parse_line(&line)
}

fn parse_line(line: &[u8]) -> Result<Proxied, ProxyHeaderError> {
    let bad = ProxyHeaderError::Bad("it is not a line of version 1");
    let Ok(text) = str::from_utf8(line) else {
        return Err(bad);
    };
    let mut words = text.trim_end_matches("\r\n").split(' ').skip(1);
    let family = words.next();
    if family == Some("UNKNOWN") {
        return Ok(Proxied::Nobody);
    }
    let (Some(source), Some(destination), Some(source_port), Some(destination_port), None) = (
        words.next(),
        words.next(),
        words.next(),
        words.next(),
        words.next(),
    ) else {
        return Err(bad);
    };
    let ip = |text: &str| -> Option<IpAddr> {
        match family {
            Some("TCP4") => text.parse::<Ipv4Addr>().ok().map(IpAddr::from),
            Some("TCP6") => text.parse::<Ipv6Addr>().ok().map(IpAddr::from),
            _ => None,
        }
    };
    // `+1` parses as a number, and is none here.
    let port = |text: &str| {
        text.parse::<u16>()
            .ok()
            .filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
    };
    match (
        ip(source),
        ip(destination),
        port(source_port),
        port(destination_port),
    ) {
        (Some(ip), Some(_), Some(port), Some(_)) => Ok(client(ip, port)),
        _ => Err(bad),
    }
}

/// An IPv4 address in IPv6's clothes is that IPv4 address: lists of addresses know it by one name.
fn client(ip: IpAddr, port: u16) -> Proxied {
    Proxied::Client(SocketAddr::new(ip.to_canonical(), port))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What is read, and what is left of the bytes.
    fn read(bytes: &[u8]) -> (Result<Proxied, String>, usize) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut rest = bytes;
        let read = runtime.block_on(read_proxy_header(&mut rest));
        (read.map_err(|error| error.to_string()), rest.len())
    }

    fn binary(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[0x20 | command, family], &length, rest].concat()
    }

    fn ipv4() -> Vec<u8> {
        vec![203, 0, 113, 7, 10, 0, 0, 1, 0x9c, 0x40, 0x15, 0x38]
    }

    fn address(text: &str) -> Result<Proxied, String> {
        Ok(Proxied::Client(text.parse().unwrap()))
    }

    /// It was waited for what would come after an SSLRequest, until the login's deadline.
    #[tokio::test]
    async fn who_begins_without_a_header_is_told_from_the_first_byte() {
        let (mut client, mut server) = tokio::io::duplex(64);
        tokio::io::AsyncWriteExt::write_all(&mut client, &[0, 0, 0, 8, 4, 210, 22, 47])
            .await
            .unwrap();
        let read = read_proxy_header(&mut server);
        let error = tokio::time::timeout(std::time::Duration::from_secs(5), read)
            .await
            .unwrap();
        assert!(matches!(error, Err(ProxyHeaderError::Bad(_))));
    }

    #[test]
    fn addresses_of_both_versions_are_read_and_nothing_behind_them() {
        let mapped = [
            &[0; 10][..],
            &[0xff, 0xff, 203, 0, 113, 7],
            &[0; 16],
            &[0, 80, 0, 81],
        ]
        .concat();
        let with_extensions = [&ipv4()[..], &[0xea, 0, 3, 1, 2, 3], &[0x04, 0, 0]].concat();
        for (header, expected) in [
            (
                b"PROXY TCP4 203.0.113.7 10.0.0.1 40000 5432\r\n".to_vec(),
                address("203.0.113.7:40000"),
            ),
            (
                b"PROXY TCP6 2001:db8::7 2001:db8::1 40000 5432\r\n".to_vec(),
                address("[2001:db8::7]:40000"),
            ),
            (b"PROXY UNKNOWN\r\n".to_vec(), Ok(Proxied::Nobody)),
            (b"PROXY UNKNOWN ffff:f 1 2\r\n".to_vec(), Ok(Proxied::Nobody)),
            (binary(1, 0x11, &ipv4()), address("203.0.113.7:40000")),
            (binary(1, 0x11, &with_extensions), address("203.0.113.7:40000")),
            (binary(1, 0x21, &mapped), address("203.0.113.7:80")),
            (binary(1, 0x31, &[0; 216]), Ok(Proxied::Nobody)),
            (binary(0, 0x00, &[]), Ok(Proxied::Nobody)),
            (binary(0, 0x11, &ipv4()), Ok(Proxied::Nobody)),
        ] {
            let bytes = [&header[..], b"\x16rest"].concat();
            assert_eq!(
                read(&bytes),
                (expected, 5),
                "{}",
                String::from_utf8_lossy(&header)
            );
            for end in 0..header.len() {
                assert!(read(&header[..end]).0.is_err(), "cut at {end}");
            }
        }
    }

    #[test]
    fn what_is_no_header_is_refused() {
        for bytes in [
            &b"\0\0\0\x08\x04\xd2\x16\x2f........"[..],
            b"PROXY TCP4 203.0.113.7 10.0.0.1 40000\r\n",
            b"PROXY TCP4 203.0.113.7 10.0.0.1 40000 5432 1\r\n",
            b"PROXY TCP4 2001:db8::7 10.0.0.1 40000 5432\r\n",
            b"PROXY TCP4 203.0.113.7 10.0.0.1 +4000 5432\r\n",
            b"PROXY TCP4 203.0.113.7 10.0.0.1 70000 5432\r\n",
            b"PROXY  TCP4 203.0.113.7 10.0.0.1 40000 5432\r\n",
            b"PROXY TCP9 203.0.113.7 10.0.0.1 40000 5432\r\n",
            &[b"PROXY UNKNOWN ".as_slice(), &[b'x'; 200], b"\r\n"].concat(),
            &[&SIGNATURE[..], &[0x11, 0x11, 0, 12], &ipv4()].concat(),
            &[&SIGNATURE[..], &[0x22, 0x11, 0, 12], &ipv4()].concat(),
            &[&SIGNATURE[..], &[0x21, 0x41, 0, 12], &ipv4()].concat(),
            &[&SIGNATURE[..], &[0x21, 0x11, 0xff, 0xff], &[0; 0xffff]].concat(),
            &binary(1, 0x11, &ipv4()[..11]),
            &binary(1, 0x21, &[0; 35]),
        ] {
            let (read, _) = read(bytes);
            assert!(read.is_err(), "{}: {read:?}", String::from_utf8_lossy(bytes));
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(start in 0..3_usize, bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let start: &[u8] = [&b""[..], WORD, &SIGNATURE][start];
            let _ = read(&[start, &bytes].concat());
        }
    }
}
