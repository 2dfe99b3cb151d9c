//! Connections inside VXLAN and Geneve, cut here because no kernel can any more.

use proptest::prelude::*;

use super::recipe::{Recipe, recipes, see};
use super::*;

const VXLAN: &[u8] = &[8, 0, 0, 0, 0, 0, 42, 0];
const GENEVE: &[u8] = &[0, 0, 0x65, 0x58, 0, 0, 42, 0];
/// Geneve with two words of options.
const GENEVE_OPTIONS: &[u8] = &[2, 0, 0x65, 0x58, 0, 0, 42, 0, 1, 2, 3, 0, 9, 9, 9, 9];

/// `inner` in a tunnel, as the sender's kernel hands it out; also where the inner frame begins.
fn wrap(inner: &Recipe, tunnel: &[u8], is_v6: bool) -> (Vec<u8>, Csum, usize) {
    let (bytes, csum) = inner.build();
    let outer = Recipe {
        is_v6,
        is_tcp: false,
        payload: [tunnel, &bytes].concat(),
        ..Recipe::default()
    };
    let (frame, _) = outer.build();
    let at = frame.len() - bytes.len();
    let Csum::Partial { start, offset } = csum else {
        unreachable!("a recipe leaves its checksum unfinished")
    };
    let start = start + u16::try_from(at).unwrap();
    (frame, Csum::Partial { start, offset }, at)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn segments_inside_a_tunnel_make_the_frame(
        recipe in recipes(),
        tunnel in prop::sample::select(vec![VXLAN, GENEVE, GENEVE_OPTIONS]),
        is_v6 in any::<bool>(),
        size in 600..1400u16,
        mtu in 1000..1600usize,
    ) {
        let mut inner = Recipe { padding: 0, ..recipe };
        inner.payload.truncate(60_000);
        let (frame, csum, at) = wrap(&inner, tunnel, is_v6);
        let offload = inner.offload(csum, size);
        prop_assert!(is_tunnel(&frame, offload));
        prop_assert!(!offload_is_plain(&frame, offload));
        let wire_len = wire_len_max(&frame, offload);
        let segments = match cut_all(&frame, offload, mtu) {
            Ok(segments) => segments,
            Err(refusal) => {
                prop_assert!(!inner.is_tcp);
                prop_assert!(matches!(refusal, Refusal::Mtu | Refusal::SegmentSize));
                return Ok(());
            }
        };
        let mut payload = Vec::new();
        for (index, segment) in segments.iter().enumerate() {
            let (outer, own) = (see(segment), see(&segment[at..]));
            prop_assert!(outer.ip_len <= mtu && outer.ip_len <= wire_len);
            prop_assert_eq!(&segment[at - tunnel.len()..at], tunnel);
            let index = u16::try_from(index).unwrap();
            if !is_v6 {
                prop_assert_eq!(outer.id, 7 + index);
            }
            if let Some(tcp) = own.tcp {
                let offset = u32::try_from(payload.len()).unwrap();
                prop_assert_eq!(tcp.sequence_number, inner.sequence.wrapping_add(offset));
            }
            payload.extend(own.payload);
        }
        prop_assert!(payload == inner.payload, "payload differs");
    }
}

#[test]
fn a_tunnel_without_checksum_stays_without() {
    let inner = Recipe::default();
    let (mut frame, csum, at) = wrap(&inner, VXLAN, false);
    put16(&mut frame, 34 + 6, 0);
    for segment in cut_all(&frame, inner.offload(csum, 1000), 1500).unwrap() {
        assert_eq!(segment[40..42], [0, 0]);
        assert_eq!(see(&segment[at..]).payload.len(), 1000);
    }
}

#[test]
fn what_is_no_tunnel_is_refused() {
    let inner = Recipe::default();
    let (frame, csum, at) = wrap(&inner, VXLAN, false);
    let offload = inner.offload(csum, 1000);
    // Not where either kind of tunnel has its payload.
    let shifted = wrap(&inner, &[8, 0, 0, 0, 0, 0, 42, 0, 0, 0, 0, 0], false);
    assert!(!is_tunnel(&shifted.0, inner.offload(shifted.1, 1000)));
    // Cut off, another protocol, another start of the checksum, no segmentation at all.
    let gone = Cut::new(&frame[..frame.len() - 1], offload, 1500);
    assert_eq!(gone.err(), Some(Refusal::Malformed));
    let mut other = frame.clone();
    other[at + 23] = 47;
    assert!(!is_tunnel(&other, offload));
    let Csum::Partial { start, offset } = csum else {
        unreachable!("a recipe leaves its checksum unfinished")
    };
    let moved = Csum::Partial {
        start: start + 4,
        offset,
    };
    assert!(!is_tunnel(
        &frame,
        Offload {
            csum: moved,
            ..offload
        }
    ));
    assert!(!is_tunnel(
        &frame,
        Offload {
            gso: Gso::None,
            ..offload
        }
    ));
    let mut gre = frame;
    gre[23] = 47;
    assert!(!is_tunnel(&gre, offload));
}
