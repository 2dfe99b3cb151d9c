use super::*;
use etherparse::PacketBuilder;
use proptest::prelude::*;

fn udp_packet() -> Vec<u8> {
    let mut bytes = Vec::new();
    PacketBuilder::ipv4([10, 9, 0, 2], [203, 0, 113, 1], 17)
        .udp(5555, 53)
        .write(&mut bytes, b"question")
        .unwrap();
    bytes
}

#[test]
fn reads_what_etherparse_wrote() {
    let bytes = udp_packet();
    let ip = Ipv4::parse(&bytes).unwrap();
    assert_eq!((ip.header_len(), ip.total_len()), (20, 36));
    assert_eq!((ip.ttl(), ip.protocol()), (17, protocol::UDP));
    assert_eq!(ip.src().octets(), [10, 9, 0, 2]);
    assert_eq!(ip.dst().octets(), [203, 0, 113, 1]);
    assert!(ip.verify_checksum() && !ip.is_fragment());
    let udp = Udp::parse(ip.payload()).unwrap();
    assert_eq!(
        (udp.src_port(), udp.dst_port(), udp.length()),
        (5555, 53, 16)
    );
}

#[test]
fn reads_tcp_and_icmp() {
    let mut bytes = Vec::new();
    PacketBuilder::ipv4([10, 9, 0, 2], [203, 0, 113, 1], 64)
        .tcp(40_000, 80, 7, 1024)
        .syn()
        .options(&[etherparse::TcpOptionElement::MaximumSegmentSize(1460)])
        .unwrap()
        .write(&mut bytes, b"")
        .unwrap();
    let ip = Ipv4::parse(&bytes).unwrap();
    let tcp = Tcp::parse(ip.payload()).unwrap();
    assert_eq!(
        (tcp.src_port(), tcp.dst_port(), tcp.sequence()),
        (40_000, 80, 7)
    );
    assert_eq!((tcp.flags(), tcp.header_len()), (TcpFlags::SYN, 24));
    assert_eq!(tcp.options(), [2, 4, 0x05, 0xb4]);

    bytes.clear();
    PacketBuilder::ipv4([10, 9, 0, 2], [203, 0, 113, 1], 64)
        .icmpv4_echo_request(9, 3)
        .write(&mut bytes, b"abcdefg")
        .unwrap();
    let ip = Ipv4::parse(&bytes).unwrap();
    let echo = Icmp::parse(ip.payload()).unwrap();
    assert_eq!(
        (echo.kind(), echo.id(), echo.sequence()),
        (icmp::ECHO_REQUEST, 9, 3)
    );
    assert!(echo.verify_checksum());
}

#[test]
fn refuses_each_impossible_header() {
    let good = udp_packet();
    let with = |at: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[at] = value;
        Ipv4::parse(bytes).map(|_| ())
    };
    assert_eq!(
        Ipv4::parse(&good[..19]).map(|_| ()),
        Err(Ipv4Error::TruncatedHeader)
    );
    assert_eq!(with(0, 0x65), Err(Ipv4Error::Version));
    assert_eq!(with(0, 0x44), Err(Ipv4Error::HeaderLength));
    assert_eq!(with(0, 0x4f), Err(Ipv4Error::TruncatedHeader));
    assert_eq!(with(3, 19), Err(Ipv4Error::TotalLength));
    assert_eq!(
        Ipv4::parse(&good[..35]).map(|_| ()),
        Err(Ipv4Error::TruncatedPacket)
    );
    assert!(Ipv4::parse_quoted(&good[..28]).is_ok());
}

#[test]
fn trailer_is_outside_the_payload() {
    let mut bytes = udp_packet();
    bytes.extend([0xaa; 10]);
    let mut ip = Ipv4::parse(bytes).unwrap();
    assert_eq!(ip.payload().len(), 16);
    assert_eq!(ip.payload_mut().len(), 16);
}

#[test]
fn tcp_data_offset_is_checked() {
    let mut bytes = [0u8; 24];
    bytes[12] = 0x40;
    assert_eq!(
        Tcp::parse(bytes).map(|_| ()),
        Err(TransportError::DataOffset)
    );
    bytes[12] = 0x70;
    assert_eq!(
        Tcp::parse(bytes).map(|_| ()),
        Err(TransportError::DataOffset)
    );
    bytes[12] = 0x60;
    assert!(Tcp::parse(bytes).is_ok());
    assert_eq!(
        Tcp::parse(&bytes[..19]).map(|_| ()),
        Err(TransportError::Truncated)
    );
}

#[test]
fn edits_keep_the_header_checksum() {
    let mut ip = Ipv4::parse(udp_packet()).unwrap();
    ip.replace_src([192, 0, 2, 1].into());
    ip.replace_dst([198, 51, 100, 2].into());
    ip.decrement_ttl();
    assert!(ip.verify_checksum());
    ip.set_ttl(0);
    ip.fill_checksum();
    ip.decrement_ttl();
    assert!(ip.ttl() == 0 && ip.verify_checksum());
}

#[test]
fn built_header_parses() {
    let header = Ipv4Header {
        tos: 0x28,
        payload_len: 4,
        id: 77,
        dont_fragment: true,
        protocol: protocol::ICMP,
        src: [10, 9, 0, 1].into(),
        dst: [10, 9, 0, 2].into(),
        ..Ipv4Header::default()
    };
    let mut bytes = header.to_bytes().to_vec();
    bytes.extend([0; 4]);
    let ip = Ipv4::parse(&bytes).unwrap();
    assert!(ip.verify_checksum() && ip.dont_fragment());
    assert_eq!(
        (ip.tos(), ip.id(), ip.ttl(), ip.total_len()),
        (0x28, 77, 64, 24)
    );
}

proptest! {
    #[test]
    fn any_bytes_parse_or_fail_without_panic(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..80), ip_like: bool,
    ) {
        if ip_like && bytes.len() > 3 {
            bytes[0] = 0x40 | bytes[0] & 0x0f;
            bytes[2] = 0;
        }
        if let Ok(mut ip) = Ipv4::parse(bytes.clone()) {
            prop_assert!(ip.total_len() <= bytes.len());
            prop_assert_eq!(ip.header_len() + ip.payload().len(), ip.total_len());
            let _ = (ip.options().len(), ip.verify_checksum(), ip.fragment_offset());
            ip.decrement_ttl();
            if let Ok(tcp) = Tcp::parse(ip.payload()) {
                let _ = (tcp.options().len(), tcp.flags(), tcp.checksum());
            }
        }
        if let Ok(message) = Icmp::parse(&bytes) {
            let _ = (message.body().len(), message.verify_checksum());
        }
        let _ = Ipv4::parse_quoted(&bytes).map(|ip| ip.payload().len());
    }
}
