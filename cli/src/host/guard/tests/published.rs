//! Many ports on a shared address, replaced while packets come.

use super::*;

fn ports_are_published_by(rung: Rung) {
    in_fresh_netns(&format!("guard published {rung}"), || {
        let scratch = Scratch::new(&format!("published{rung:?}"));
        let (index, outside) = cable("u0", Some(UPLINK), "203.0.113.1");
        let guard = Guard::with_ladder(scratch.1.clone(), "t", &[rung]);
        let addr = UPLINK.parse().unwrap();
        let nat = PortSet::range(61_000, 61_999);
        let rule = Rule::Ports(Shared::of_ports(addr, &nat));
        let mut uplink = guard.install_uplink(index, "u0", rule).unwrap();
        // Ports are published, some of one protocol only, more than a jump of classic BPF spans.
        let count = if rung == Rung::Clsact { 60 } else { 300 };
        let last = 998 + 2 * count;
        let many: PortSet = (0..count).fold(nat.clone(), |set, i| {
            set.union(&PortSet::range(1000 + 2 * i, 1000 + 2 * i))
        });
        let published = Shared {
            udp: nat.clone(),
            ..Shared::of_ports(addr, &many)
        };
        uplink.update(Rule::Ports(published)).unwrap();
        let reserved = sysctl::reserved_ports().unwrap();
        assert_eq!(reserved, many, "{:?}", uplink.notes());
        for port in [1000, last, 61_000] {
            assert_eq!(tcp(&outside, port), Answer::Silence, "{port}");
        }
        assert_eq!(tcp(&outside, 1001), Answer::Refused);
        assert_eq!(udp(&outside, last), Answer::Refused);

        // More than can be reserved: the NAT's range is before all others.
        let more: PortSet = (0..800).fold(nat.clone(), |set, i| {
            set.union(&PortSet::range(20_000 + 2 * i, 20_000 + 2 * i))
        });
        let more = Shared {
            tcp: more,
            ..Shared::of_ports(addr, &nat)
        };
        let updated = uplink.update(Rule::Ports(more));
        if rung == Rung::Clsact {
            let error = updated.unwrap_err().to_string();
            assert!(error.contains("too many ports apart"), "{error}");
            assert_eq!(tcp(&outside, 1000), Answer::Silence, "the old rule holds");
        } else {
            updated.unwrap();
            assert_eq!(tcp(&outside, 21_598), Answer::Silence);
            assert_eq!(tcp(&outside, 1000), Answer::Refused);
            let reserved = sysctl::reserved_ports().unwrap();
            assert!(reserved.len() > 1500 && reserved.contains(61_500));
        }

        let undone = uplink.remove();
        assert!(!undone.iter().any(Undone::failed), "{undone:?}");
        assert_eq!(tcp(&outside, 61_000), Answer::Refused);
        assert!(sysctl::reserved_ports().unwrap().is_empty());
        assert!(scratch.1.changes().is_empty());
    });
}

#[test]
fn a0_2_ports_are_published_by_tcx() {
    ports_are_published_by(Rung::Tcx);
}

#[test]
fn a0_2_ports_are_published_by_an_nft_owner_table() {
    ports_are_published_by(Rung::Nft);
}

#[test]
fn a0_2_ports_are_published_by_a_clsact_filter() {
    ports_are_published_by(Rung::Clsact);
}
