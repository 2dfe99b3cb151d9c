use super::*;

#[test]
fn who_cannot_do_a_test_says_why() {
    for test in Test::ALL {
        assert_eq!(unable(Forwarder::Vswitch, test), None);
        assert_eq!(unable(Forwarder::Bridge, test), None);
        for forwarder in Forwarder::ALL {
            let reason = unable(forwarder, test).unwrap_or("a reason");
            assert!(reason.len() > 5 && !reason.ends_with('.'), "{reason}");
        }
    }
    for forwarder in [Forwarder::Direct, Forwarder::Testpmd, Forwarder::TestpmdXdp] {
        for test in [Test::NatTcp, Test::Flood, Test::Ports] {
            assert!(unable(forwarder, test).is_some(), "{forwarder} {test}");
        }
        assert_eq!(unable(forwarder, Test::Tcp), None);
    }
    assert!(unable(Forwarder::Vde, Test::NatCrr).is_some());
    assert_eq!(unable(Forwarder::Vde, Test::Flood), None);
}

#[test]
fn a_shape_that_cannot_be_is_refused_before_anything_is_made() {
    let options = Options::of_this_program().unwrap();
    for (forwarder, containers, nat) in [
        (Forwarder::Bridge, 1, false),
        (Forwarder::Bridge, 1001, false),
        (Forwarder::Direct, 3, false),
        (Forwarder::Testpmd, 2, true),
    ] {
        let shape = Shape {
            containers,
            nat,
            published: false,
        };
        let err = Bed::build(forwarder, shape, &options).unwrap_err();
        let nat = if nat { " and NAT" } else { "" };
        assert_eq!(
            err.what,
            format!("build {forwarder} with {containers} containers{nat}")
        );
        assert!(err.to_string().contains("; fix: "), "{err}");
    }
}

#[test]
fn long_lists_are_told_briefly() {
    let ports = |n| (1..=n).map(|i| format!("veth{i}")).collect::<Vec<_>>();
    assert_eq!(brief(&ports(2)), "veth1,veth2");
    assert_eq!(brief(&ports(256)), "veth1,...,veth256");
}
