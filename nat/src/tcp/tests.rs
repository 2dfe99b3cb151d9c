use super::*;

use Role::{Originator as O, Responder as R};
use Segment::{Ack, Fin, Rst, Syn, SynAck};
use State::{
    Close, CloseWait, Established, FinWait, LastAck, SynReceived, SynSent, SynSent2, TimeWait,
};

/// A connection in each state, reached by a plausible exchange; the originator closes first.
fn reach(state: State) -> Tracker {
    let script: &[(Segment, Role)] = match state {
        SynSent => &[],
        SynSent2 => &[(Syn, R)],
        SynReceived => &[(SynAck, R)],
        Established => &[(SynAck, R), (Ack, O)],
        FinWait => &[(SynAck, R), (Ack, O), (Fin, O)],
        CloseWait => &[(SynAck, R), (Ack, O), (Fin, O), (Ack, R)],
        LastAck => &[(SynAck, R), (Ack, O), (Fin, O), (Ack, R), (Fin, R)],
        TimeWait => &[
            (SynAck, R),
            (Ack, O),
            (Fin, O),
            (Ack, R),
            (Fin, R),
            (Ack, O),
        ],
        Close => &[(Rst, R)],
    };
    let mut tracker = Tracker::open(Syn).unwrap();
    for &(segment, from) in script {
        assert_eq!(tracker.step(segment, from), Step::Pass);
    }
    assert_eq!(tracker.state(), state);
    tracker
}

/// One cell: `Ok(state)` passes into that state, `Err(step)` is another answer and no change.
type Cell = Result<State, Step>;
const INVALID: Cell = Err(Step::Invalid);
const REOPEN: Cell = Err(Step::Reopen);

#[test]
fn a2_15_table() {
    let states = [
        SynSent,
        SynSent2,
        SynReceived,
        Established,
        FinWait,
        CloseWait,
        LastAck,
        TimeWait,
        Close,
    ];
    // Columns as in `states`. In FIN_WAIT and CLOSE_WAIT the originator has sent its FIN.
    #[rustfmt::skip]
    let table: [(Segment, Role, [Cell; 9]); 10] = [
        (Syn, O, [Ok(SynSent), Ok(SynSent2), Ok(SynReceived), Ok(Established), Ok(FinWait),
            Ok(CloseWait), Ok(LastAck), REOPEN, REOPEN]),
        (Syn, R, [Ok(SynSent2), Ok(SynSent2), Ok(SynReceived), Ok(Established), Ok(FinWait),
            Ok(CloseWait), Ok(LastAck), REOPEN, REOPEN]),
        (SynAck, O, [INVALID, Ok(SynReceived), Ok(SynReceived), Ok(Established), Ok(FinWait),
            Ok(CloseWait), Ok(LastAck), Ok(TimeWait), Ok(Close)]),
        (SynAck, R, [Ok(SynReceived), Ok(SynReceived), Ok(SynReceived), Ok(Established),
            Ok(FinWait), Ok(CloseWait), Ok(LastAck), Ok(TimeWait), Ok(Close)]),
        (Fin, O, [INVALID, INVALID, Ok(FinWait), Ok(FinWait), Ok(FinWait), Ok(CloseWait),
            Ok(LastAck), Ok(TimeWait), Ok(Close)]),
        (Fin, R, [INVALID, INVALID, Ok(FinWait), Ok(FinWait), Ok(LastAck), Ok(LastAck),
            Ok(LastAck), Ok(TimeWait), Ok(Close)]),
        (Ack, O, [INVALID, Ok(SynSent2), Ok(Established), Ok(Established), Ok(FinWait),
            Ok(CloseWait), Ok(TimeWait), Ok(TimeWait), Ok(Close)]),
        (Ack, R, [Ok(SynSent), Ok(SynSent2), Ok(SynReceived), Ok(Established), Ok(CloseWait),
            Ok(CloseWait), Ok(TimeWait), Ok(TimeWait), Ok(Close)]),
        (Rst, O, [Ok(Close); 9]),
        (Rst, R, [Ok(Close); 9]),
    ];
    for (segment, from, cells) in table {
        for (state, expected) in states.into_iter().zip(cells) {
            let before = reach(state);
            let mut tracker = before;
            let got = match tracker.step(segment, from) {
                Step::Pass => Ok(tracker.state()),
                other @ (Step::Reopen | Step::Invalid) => {
                    assert_eq!(
                        tracker, before,
                        "{segment:?} {from:?} in {state:?} changed it"
                    );
                    Err(other)
                }
            };
            assert_eq!(got, expected, "{segment:?} from {from:?} in {state:?}");
        }
    }
}

#[test]
fn a2_15_without_a_session() {
    assert_eq!(Tracker::open(Syn).map(Tracker::state), Some(SynSent));
    assert_eq!(Tracker::open(Ack).map(Tracker::state), Some(Established));
    for segment in [SynAck, Fin, Rst] {
        assert_eq!(Tracker::open(segment), None);
    }
}

#[test]
fn a2_2_simultaneous_open() {
    let mut tracker = Tracker::open(Syn).unwrap();
    for (segment, from, state) in [
        (Syn, R, SynSent2),
        (SynAck, O, SynReceived),
        (SynAck, R, SynReceived),
        (Ack, O, Established),
    ] {
        assert_eq!(tracker.step(segment, from), Step::Pass);
        assert_eq!(tracker.state(), state);
    }
}

#[test]
fn a2_15_close_by_responder_and_at_once() {
    let mut tracker = reach(Established);
    for (segment, from, state) in [
        (Fin, R, FinWait),
        (Fin, R, FinWait),
        (Ack, R, FinWait),
        (Ack, O, CloseWait),
        (Fin, R, CloseWait),
        (Fin, O, LastAck),
        (Ack, R, TimeWait),
    ] {
        assert_eq!(tracker.step(segment, from), Step::Pass);
        assert_eq!(tracker.state(), state, "{segment:?} {from:?}");
    }
    let mut tracker = reach(Established);
    for (segment, from, state) in [
        (Fin, O, FinWait),
        (Fin, R, LastAck),
        (Ack, O, TimeWait),
        (Ack, R, TimeWait),
    ] {
        assert_eq!(tracker.step(segment, from), Step::Pass);
        assert_eq!(tracker.state(), state);
    }
}

#[test]
fn a2_5_only_the_resetting_side_revives_the_session() {
    for (liar, other) in [(R, O), (O, R)] {
        let mut tracker = reach(Established);
        assert_eq!(tracker.step(Rst, liar), Step::Pass);
        assert_eq!(tracker.step(Ack, other), Step::Pass);
        assert_eq!(
            tracker.state(),
            Close,
            "the victim's segments may be in flight"
        );
        assert_eq!(tracker.step(Ack, liar), Step::Pass);
        assert_eq!(tracker.state(), Established);
    }
    // Both reset: it is over.
    let mut tracker = reach(Established);
    for (segment, from) in [(Rst, R), (Rst, O), (Ack, R), (Ack, O)] {
        assert_eq!(tracker.step(segment, from), Step::Pass);
    }
    assert_eq!(tracker.state(), Close);
    // A refused handshake has nothing to revive.
    let mut tracker = reach(Close);
    assert_eq!(tracker.step(Ack, R), Step::Pass);
    assert_eq!(tracker.state(), Close);
}

#[test]
fn a2_10_flag_sets() {
    let (fin, syn, rst) = (TcpFlags::FIN, TcpFlags::SYN, TcpFlags::RST);
    let (ack, urg, psh) = (TcpFlags::ACK, TcpFlags::URG, TcpFlags::PSH);
    let valid = [
        (syn, Syn),
        (syn | urg, Syn),
        (syn | TcpFlags::ECE | TcpFlags::CWR, Syn),
        (syn | ack, SynAck),
        (rst, Rst),
        (rst | ack, Rst),
        (fin | ack, Fin),
        (fin | ack | urg | psh, Fin),
        (ack, Ack),
        (ack | urg, Ack),
        (ack | psh, Ack),
    ];
    for (flags, segment) in valid {
        assert_eq!(Segment::of(flags), Some(segment), "{flags:?}");
    }
    let seen = (0..=255)
        .filter(|&bits| Segment::of(TcpFlags(bits)).is_some())
        .count();
    // 9 valid sets of FIN, SYN, RST, ACK and URG, each with 8 settings of PSH, ECE and CWR.
    assert_eq!(seen, 9 * 8);
    for flags in [
        TcpFlags(0),
        fin,
        syn | fin,
        syn | rst,
        fin | psh | urg,
        rst | fin | ack,
    ] {
        assert_eq!(Segment::of(flags), None, "{flags:?}");
    }
}

#[test]
fn a4_10_a_byte_holds_all_that_is_tracked() {
    let mut seen = std::collections::HashSet::new();
    for byte in 0..=u8::MAX {
        let Some(tracker) = Tracker::from_byte(byte) else {
            assert!(byte & 0x3f >= 9, "{byte}");
            continue;
        };
        assert_eq!(tracker.to_byte(), byte);
        seen.insert(tracker.state().name());
    }
    assert_eq!(seen.len(), 9);
    let mut tracker = Tracker::open(Segment::Ack).unwrap();
    tracker.step(Segment::Rst, Role::Responder);
    assert_eq!(Tracker::from_byte(tracker.to_byte()), Some(tracker));
}
