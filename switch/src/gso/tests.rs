use etherparse::Ipv4Header;
use proptest::prelude::*;

use super::*;
use recipe::{Recipe, recipes, see};

mod recipe;
mod tunnel;

fn cut_all(frame: &[u8], offload: Offload, mtu: usize) -> Result<Vec<Vec<u8>>, Refusal> {
    let mut buffer = SegmentBuffer::new();
    let mut cut = Cut::new(frame, offload, mtu)?;
    let mut all = Vec::new();
    while cut.fill(&mut buffer) {
        assert_eq!(buffer.len(), buffer.segments().count());
        for (segment, sealed) in buffer.segments().zip(buffer.sealed()) {
            let (header, frame) = sealed.split_at(VNET_HEADER_BYTES);
            assert_eq!(header, Offload::PLAIN.to_vnet(0));
            assert_eq!(frame, segment);
            all.push(segment.to_vec());
        }
    }
    assert!(!cut.fill(&mut buffer), "finished means finished");
    Ok(all)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn segments_make_the_frame(recipe in recipes(), size in 8..9000u16, mtu in 200..10_000usize) {
        let (frame, csum) = recipe.build();
        let offload = recipe.offload(csum, size);
        let headers = usize::from(header_bytes(&frame, offload).unwrap());
        let l2 = 14 + 4 * recipe.tags;
        prop_assert_eq!(headers + recipe.payload.len() + recipe.padding, frame.len());
        let wire_len = wire_len_max(&frame, offload);
        let segments = match cut_all(&frame, offload, mtu) {
            Ok(segments) => segments,
            Err(refusal) => {
                let many = recipe.payload.len() > usize::from(size) * 128;
                let expected = if many { Refusal::SegmentSize } else { Refusal::Mtu };
                prop_assert!(!recipe.is_tcp);
                prop_assert!(many || wire_len > mtu);
                prop_assert_eq!(refusal, expected);
                return Ok(());
            }
        };
        let mss = if recipe.is_tcp {
            usize::from(size).min(mtu - (headers - l2))
        } else {
            usize::from(size)
        };
        prop_assert_eq!(segments.len(), recipe.payload.len().div_ceil(mss).max(1));
        let mut payload = Vec::new();
        for (index, segment) in segments.iter().enumerate() {
            let seen = see(segment);
            let is_last = index + 1 == segments.len();
            prop_assert_eq!(&segment[..l2], &frame[..l2]);
            prop_assert!(seen.ip_len <= mtu && seen.ip_len <= wire_len);
            prop_assert!(is_last || seen.payload.len() == mss);
            if !recipe.is_v6 {
                let index = u16::try_from(index % 65_536).unwrap();
                prop_assert_eq!(seen.id, recipe.id.wrapping_add(index));
                prop_assert_eq!(&seen.ip_options, &recipe.ip_options);
            }
            if let Some(tcp) = seen.tcp {
                let offset = u32::try_from(payload.len()).unwrap();
                prop_assert_eq!(tcp.sequence_number, recipe.sequence.wrapping_add(offset));
                prop_assert_eq!(tcp.acknowledgment_number, 99);
                prop_assert_eq!(tcp.options.as_slice(), &recipe.tcp_options);
                prop_assert_eq!(tcp.fin, is_last && recipe.flags & 1 != 0);
                prop_assert_eq!(tcp.psh, is_last && recipe.flags & 8 != 0);
                prop_assert_eq!(tcp.cwr, index == 0 && recipe.flags & 0x80 != 0);
                prop_assert_eq!(tcp.ece, recipe.flags & 0x40 != 0);
                prop_assert_eq!(tcp.ack, recipe.flags & 0x10 != 0);
            }
            payload.extend(seen.payload);
        }
        prop_assert!(payload == recipe.payload, "payload differs");
    }

    #[test]
    fn a_partial_checksum_is_completed(recipe in recipes()) {
        let (mut frame, csum) = recipe.build();
        prop_assert_eq!(complete(&mut frame, csum), Ok(Csum::Complete));
        frame.truncate(frame.len() - recipe.padding);
        let seen = see(&frame);
        prop_assert!(seen.payload == recipe.payload);
    }

    #[test]
    fn fragments_make_the_packet(
        recipe in recipes(),
        mtu in 68..2000usize,
        again in 68..2000usize,
    ) {
        let recipe = Recipe { is_v6: false, ..recipe };
        let (mut frame, csum) = recipe.build();
        let offload = Offload { csum: complete(&mut frame, csum).unwrap(), gso: Gso::None };
        let mut fragments = Vec::new();
        for fragment in fragment_all(&frame, offload, mtu).unwrap() {
            // A fragment of a fragment is a fragment of the whole.
            fragments.extend(fragment_all(&fragment, offload, again).unwrap());
        }
        let l2 = 14 + 4 * recipe.tags;
        let layout = Layout::parse(&frame).unwrap();
        let mut whole: Vec<u8> = Vec::new();
        for (index, fragment) in fragments.iter().enumerate() {
            let ip = Ipv4Header::from_slice(&fragment[l2..]).unwrap().0;
            prop_assert_eq!(&fragment[..l2], &frame[..l2]);
            prop_assert_eq!(ip.header_checksum, ip.calc_header_checksum());
            prop_assert_eq!(usize::from(ip.total_len), fragment.len() - l2);
            prop_assert!(fragment.len() - l2 <= mtu.min(again));
            prop_assert_eq!(ip.identification, recipe.id);
            prop_assert_eq!(ip.more_fragments, index + 1 < fragments.len());
            prop_assert_eq!(usize::from(ip.fragment_offset.value()) * 8, whole.len());
            prop_assert_eq!(ip.options.as_slice(), &recipe.ip_options, "router alert is copied");
            whole.extend(&fragment[l2 + ip.header_len()..]);
        }
        prop_assert!(whole == frame[layout.l4..layout.end], "payload differs");
    }

    #[test]
    fn damaged_frames_are_refused_not_fatal(
        recipe in recipes(),
        damage in prop::collection::vec((0..120usize, any::<u8>()), 0..12),
        cut_at in 0..200usize,
        header: [u8; VNET_HEADER_BYTES],
        mtu in 0..70_000usize,
    ) {
        let recipe = Recipe { payload: vec![0; 300], ..recipe };
        let (mut frame, own) = recipe.build();
        for (at, byte) in damage {
            if let Some(old) = frame.get_mut(at) {
                *old = byte;
            }
        }
        for len in [frame.len(), frame.len() - cut_at] {
            let offload = Offload::from_vnet(header).unwrap_or(Offload::PLAIN);
            let sender = recipe.offload(own, 100);
            for offload in [offload, sender, Offload { csum: Csum::Unchecked, ..sender }] {
                exercise(&mut frame[..len].to_vec(), offload, mtu);
            }
        }
    }

    #[test]
    fn random_bytes_are_refused_not_fatal(
        mut bytes in prop::collection::vec(any::<u8>(), 0..200),
        header: [u8; VNET_HEADER_BYTES],
        mtu in 0..70_000usize,
    ) {
        if let Ok(offload) = Offload::from_vnet(header) {
            exercise(&mut bytes, offload, mtu);
        }
    }
}

fn fragment_all(frame: &[u8], offload: Offload, mtu: usize) -> Result<Vec<Vec<u8>>, Refusal> {
    let mut buffer = SegmentBuffer::new();
    let mut fragments = Fragments::new(frame, offload, mtu)?;
    let mut all = Vec::new();
    while fragments.fill(&mut buffer) {
        all.extend(buffer.segments().map(<[u8]>::to_vec));
    }
    Ok(all)
}

/// Calls everything; what comes out must at least keep to the MTU.
fn exercise(bytes: &mut [u8], offload: Offload, mtu: usize) {
    let l2 = ethernet(bytes).map_or(0, |(len, _)| len);
    assert!(wire_len_max(bytes, offload) <= bytes.len());
    let _ = offload_is_plain(bytes, offload);
    if let Ok(headers) = header_bytes(bytes, offload) {
        assert!(usize::from(headers) <= bytes.len());
    }
    for pieces in [
        cut_all(bytes, offload, mtu),
        fragment_all(bytes, offload, mtu),
        fragment_all(bytes, Offload::PLAIN, mtu),
    ] {
        for piece in pieces.unwrap_or_default() {
            assert!(piece.len() - l2 <= mtu);
        }
    }
    let _ = complete(bytes, offload.csum);
}

#[test]
fn every_truncation_is_refused() {
    for (is_v6, is_tcp) in [(false, true), (true, true), (false, false), (true, false)] {
        let ip_options = vec![0x94, 4, 0, 0];
        let recipe = Recipe {
            is_v6,
            is_tcp,
            tags: 2,
            ip_options,
            ..Recipe::default()
        };
        let (frame, csum) = recipe.build();
        let offload = recipe.offload(csum, 1000);
        for len in 0..frame.len() {
            assert!(cut_all(&frame[..len], offload, 1500).is_err());
            assert!(header_bytes(&frame[..len], offload).is_err());
            exercise(&mut frame[..len].to_vec(), offload, 1500);
        }
        assert_eq!(cut_all(&frame, offload, 1500).unwrap().len(), 4);
    }
}

#[test]
fn a_buffer_is_filled_as_often_as_it_takes() {
    let recipe = Recipe {
        payload: vec![1; 60_000],
        ..Recipe::default()
    };
    let (frame, csum) = recipe.build();
    let mut buffer = SegmentBuffer::new();
    let mut cut = Cut::new(&frame, recipe.offload(csum, 8), 1500).unwrap();
    let mut fills = Vec::new();
    while cut.fill(&mut buffer) {
        fills.push(buffer.len());
    }
    assert_eq!(fills.len(), 7500_usize.div_ceil(SEGMENTS_MAX));
    assert_eq!(fills.iter().sum::<usize>(), 7500);
    // A 64 KiB frame of usual segments takes one.
    let mut cut = Cut::new(&frame, recipe.offload(csum, 1448), 1500).unwrap();
    assert!(cut.fill(&mut buffer));
    assert_eq!(buffer.len(), 42);
    assert!(!cut.fill(&mut buffer) && buffer.is_empty());
}

#[test]
fn what_does_not_agree_is_refused_by_name() {
    let tcp = Recipe::default();
    let udp = Recipe {
        is_tcp: false,
        ..Recipe::default()
    };
    let (frame, csum) = tcp.build();
    let refused = |frame: &[u8], offload, mtu| cut_all(frame, offload, mtu).unwrap_err();
    assert_eq!(
        refused(&frame, udp.offload(csum, 100), 1500),
        Refusal::Protocol
    );
    let v6 = Recipe {
        is_v6: true,
        ..Recipe::default()
    };
    assert_eq!(
        refused(&frame, v6.offload(csum, 100), 1500),
        Refusal::Protocol
    );
    assert_eq!(
        refused(&frame, tcp.offload(csum, 7), 1500),
        Refusal::SegmentSize
    );
    assert_eq!(refused(&frame, tcp.offload(csum, 100), 47), Refusal::Mtu);
    assert_eq!(
        refused(
            &frame,
            Offload {
                csum,
                gso: Gso::None
            },
            1500
        ),
        Refusal::Protocol
    );
    let (datagram, csum) = udp.build();
    assert_eq!(
        refused(&datagram, udp.offload(csum, 10), 1500),
        Refusal::SegmentSize
    );
    assert_eq!(
        refused(&datagram, udp.offload(csum, 2000), 1500),
        Refusal::Mtu
    );
    assert_eq!(
        refused(&[0; 60], udp.offload(csum, 2000), 1500),
        Refusal::NotIp
    );
    let mut fragment = frame;
    put16(&mut fragment, 20, 0x2000);
    assert_eq!(
        refused(&fragment, tcp.offload(csum, 100), 1500),
        Refusal::Fragment
    );
    let (mut routed, csum) = v6.build();
    routed[20] = 43;
    let offload = Offload {
        csum: Csum::Unchecked,
        ..v6.offload(csum, 100)
    };
    assert_eq!(refused(&routed, offload, 1500), Refusal::Protocol);
    assert_eq!(
        refused(&routed, v6.offload(csum, 100), 1500),
        Refusal::Tunnel
    );
}

#[test]
fn as_many_datagrams_as_the_kernel_makes_are_cut() {
    // UDP_MAX_SEGMENTS; padding is none of them.
    let most = Recipe {
        is_tcp: false,
        payload: vec![1; 1280],
        padding: 20,
        ..Recipe::default()
    };
    let (datagrams, csum_most) = most.build();
    let all = cut_all(&datagrams, most.offload(csum_most, 10), 1500);
    assert_eq!(all.map(|all| all.len()), Ok(128));
}

#[test]
fn a_tunnel_is_recognised_and_only_its_checksum_done() {
    let (inner, _) = Recipe {
        payload: vec![5; 600],
        ..Recipe::default()
    }
    .build();
    let vxlan = [&[8, 0, 0, 0, 0, 0, 42, 0][..], &inner].concat();
    let outer = Recipe {
        is_tcp: false,
        payload: vxlan,
        ..Recipe::default()
    };
    let (mut frame, own) = outer.build();
    let start = u16::try_from(frame.len() - inner.len() + 34).unwrap();
    let csum = Csum::Partial { start, offset: 16 };
    let offload = Offload {
        csum,
        gso: Gso::Tcp4 {
            mss: 100,
            ecn: false,
        },
    };
    assert!(offload_is_plain(
        &frame,
        Offload {
            csum: own,
            gso: Gso::None
        }
    ));
    assert!(offload_is_plain(&frame, Offload::PLAIN));
    assert!(!offload_is_plain(&frame, offload));
    assert_eq!(header_bytes(&frame, offload), Err(Refusal::Tunnel));
    // Nor is UDP in UDP taken for the outer datagram, whose field is at the same offset.
    let inner_udp = Offload {
        csum: Csum::Partial { start, offset: 6 },
        gso: Gso::Udp { size: 100 },
    };
    assert_eq!(header_bytes(&frame, inner_udp), Err(Refusal::Tunnel));
    assert_eq!(wire_len_max(&frame, offload), frame.len() - 14 - 600 + 100);
    assert_eq!(complete(&mut frame, csum), Ok(Csum::Complete));
    let inner = &frame[frame.len() - inner.len()..];
    assert_eq!(see(inner).payload, vec![5; 600]);
}

#[test]
fn a_udp_checksum_of_zero_means_none_and_is_sent_as_ffff() {
    let udp = Recipe {
        is_tcp: false,
        payload: vec![0, 0],
        ..Recipe::default()
    };
    let (mut frame, csum) = udp.build();
    complete(&mut frame, csum).unwrap();
    // The payload that makes the sum come out as zero.
    let field = layout::get16(&frame, 40).unwrap();
    let payload = field.to_be_bytes().to_vec();
    let udp = Recipe { payload, ..udp };
    let (mut frame, csum) = udp.build();
    complete(&mut frame, csum).unwrap();
    assert_eq!(layout::get16(&frame, 40), Some(0xffff));
    let segment = cut_all(&frame, udp.offload(csum, 10), 1500).unwrap();
    assert_eq!(layout::get16(&segment[0], 40), Some(0xffff));
    // Without a checksum, segments have none either.
    let udp = Recipe {
        payload: vec![1; 3000],
        ..udp
    };
    let (mut frame, _) = udp.build();
    put16(&mut frame, 40, 0);
    let datagrams = cut_all(&frame, udp.offload(Csum::Unchecked, 1000), 1500).unwrap();
    assert_eq!(datagrams.len(), 3);
    assert!(
        datagrams
            .iter()
            .all(|bytes| layout::get16(bytes, 40) == Some(0))
    );
}

#[test]
fn sctp_gets_its_crc() {
    let (mut frame, _) = Recipe {
        is_tcp: false,
        payload: vec![3; 90],
        ..Recipe::default()
    }
    .build();
    frame[23] = SCTP;
    fill_checksum(&mut frame);
    put(&mut frame, 42, &[0xde, 0xad, 0xbe, 0xef]); // whatever was in the field
    let csum = Csum::Partial {
        start: 34,
        offset: 8,
    };
    assert!(offload_is_plain(
        &frame,
        Offload {
            csum,
            gso: Gso::None
        }
    ));
    assert_eq!(complete(&mut frame, csum), Ok(Csum::Complete));
    // Summed bit by bit, field and all, a packet with its CRC leaves a constant (CRC residue).
    let mut register = u32::MAX;
    let mut packet = frame[34..].to_vec();
    let field: [u8; 4] = packet[8..12].try_into().unwrap();
    packet[8..12].fill(0);
    for byte in packet {
        register ^= u32::from(byte);
        for _ in 0..8 {
            register = (register >> 1) ^ (0x82f6_3b78 * (register & 1));
        }
    }
    assert_eq!(u32::from_le_bytes(field), !register);
    // A field elsewhere, or cut off, or in a tunnel, is refused.
    let other = Csum::Partial {
        start: 34,
        offset: 16,
    };
    assert_eq!(complete(&mut frame, other), Err(Refusal::Checksum));
    let inner = Csum::Partial {
        start: 60,
        offset: 8,
    };
    assert_eq!(complete(&mut frame, inner), Err(Refusal::Tunnel));
    let outside = Csum::Partial {
        start: 130,
        offset: 16,
    };
    assert_eq!(complete(&mut frame, outside), Err(Refusal::Checksum));
}

fn fill_checksum(frame: &mut [u8]) {
    layout::fill_ipv4_checksum(frame, 14, 34);
}

#[test]
fn options_are_copied_by_their_flag_and_df_is_respected() {
    // Record route (7, not copied), no-operation, stream id (136, copied), padding.
    let ip_options = vec![7, 7, 4, 0, 0, 0, 0, 1, 136, 4, 1, 2, 0, 0, 0, 0];
    let recipe = Recipe {
        ip_options: ip_options.clone(),
        ..Recipe::default()
    };
    let (mut frame, csum) = recipe.build();
    let unfinished = Offload {
        csum,
        gso: Gso::None,
    };
    assert_eq!(
        fragment_all(&frame, unfinished, 1500),
        Err(Refusal::Unfinished)
    );
    complete(&mut frame, csum).unwrap();
    let fragments = fragment_all(&frame, Offload::PLAIN, 1500).unwrap();
    let options = |frame: &[u8]| {
        Ipv4Header::from_slice(&frame[14..])
            .unwrap()
            .0
            .options
            .to_vec()
    };
    assert_eq!(options(&fragments[0]), ip_options);
    assert_eq!(options(&fragments[1]), [136, 4, 1, 2]);
    assert_eq!(fragments.len(), 3);
    assert_eq!(fragment_all(&frame, Offload::PLAIN, 67), Err(Refusal::Mtu));
    assert_eq!(
        fragment_all(&frame, Offload::PLAIN, 65_535).unwrap(),
        [frame.clone()]
    );
    let mut bad = frame.clone();
    bad[14 + 20 + 1] = 60;
    assert_eq!(
        fragment_all(&bad, Offload::PLAIN, 1500),
        Err(Refusal::Options)
    );
    put16(&mut frame, 20, 0x4000);
    assert_eq!(
        fragment_all(&frame, Offload::PLAIN, 1500),
        Err(Refusal::DontFragment)
    );
}
