//! In which order, and how often, a worker looks into its rings.

use switch::config::Role;
use switch::frame::Offload;
use switch::limits::BATCH_FRAMES_MAX;

use super::packet::{Ip, Sum, ethernet};
use super::world::{EXTERNAL, O1, Setup, UPLINK_MAC, World, member_mac};

/// Goal: what a member's flood has answered does not stand in the uplink's ring, where everybody's
/// answers wait: the ring gives a batch for each that members gave.
#[test]
fn f_7_answers_come_in_as_fast_as_members_ask() {
    let members = 3;
    let mut world = World::new(Setup {
        members,
        ..Setup::default()
    });
    world.greet();
    let uplink = world.place(Role::Uplink);
    let router = world.outside(O1).mac;
    let (packet, offload) = Ip::new(O1, EXTERNAL).udp((9, 9), b"nobody asked", Sum::Full);
    let answer = ethernet(UPLINK_MAC, router, 0x0800, &packet);
    let fill = |world: &mut World, members: u16, answers: usize| {
        for member in 0..members {
            let next = (member + 1) % 3;
            let bytes = ethernet(member_mac(next), member_mac(member), 0x9999, &[0; 46]);
            for _ in 0..2 * BATCH_FRAMES_MAX {
                assert!(world.send(member.into(), &bytes, Offload::PLAIN));
            }
        }
        for _ in 0..answers {
            assert!(world.send(uplink, &answer, offload));
        }
    };
    let batches = |world: &mut World| world.workers[0].poll_once(world.now) / BATCH_FRAMES_MAX;
    fill(&mut world, members, 4 * BATCH_FRAMES_MAX);
    // One of each member and as many of the uplink; then what is left.
    assert_eq!([(); 3].map(|()| batches(&mut world)), [6, 4, 0]);
    fill(&mut world, 1, 4 * BATCH_FRAMES_MAX);
    assert_eq!([(); 4].map(|()| batches(&mut world)), [2, 2, 1, 1]);
    world.run();
    world.check();
}
