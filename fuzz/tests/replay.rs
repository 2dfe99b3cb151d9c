//! Every committed input, and a thousand random ones, through every target.

use fuzz::{TARGETS, corpus};
use switch::random::Random;

#[test]
fn f_13_the_corpus_holds() {
    for (name, target) in TARGETS {
        let inputs = corpus::inputs(name).unwrap();
        assert!(!inputs.is_empty(), "{name} has no corpus");
        for (_, input) in inputs {
            target(&input);
        }
    }
}

#[test]
fn f_13_random_inputs_hold() {
    let mut random = Random::new(13);
    for (_, target) in TARGETS {
        for _ in 0..1_000 {
            let length = random.below(600);
            let input: Vec<u8> = (0..length)
                .map(|_| random.next_u64().to_le_bytes()[0])
                .collect();
            target(&input);
        }
    }
}
