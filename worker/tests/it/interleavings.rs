//! Several workers, their dispatchers, conductors and sweeps, receivers that change their minds and operators who press
//! buttons, in arbitrary order on one database. Whatever the order, nothing is lost, nothing ends twice, and everything
//! comes to its end once the receivers work.

mod world;

use proptest::{prelude::*, test_runner::Config};

use world::World;

#[derive(Clone, Copy, Debug)]
pub(crate) enum Op {
    Publish(usize, usize),
    /// So many jobs ring at several workers at once; some of them twice.
    Ring(usize),
    WorkQueues,
    Dispatch,
    Conduct,
    Sweep,
    AllAtOnce,
    LoseJobs,
    Answer(usize, Behaviour),
    Pass(i64),
    Pause(usize),
    /// An operator resumes or pauses while everything runs.
    Meanwhile(usize, bool),
    Resume(usize),
    OpenByHand(usize),
    CloseByHand(usize),
    ReplayDead(usize),
    DiscardDead(usize),
    Cancel(usize),
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Behaviour {
    Works,
    Fails,
    Busy,
    Gone,
    Hangs,
    /// Works and fails by turns.
    Flaps,
}

fn behaviour() -> impl Strategy<Value = Behaviour> {
    prop_oneof![
        4 => Just(Behaviour::Works),
        4 => Just(Behaviour::Fails),
        2 => Just(Behaviour::Busy),
        1 => Just(Behaviour::Gone),
        1 => Just(Behaviour::Hangs),
        2 => Just(Behaviour::Flaps),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let endpoint = 0..world::ENDPOINTS;
    let which = 0..100_usize;
    prop_oneof![
        6 => (endpoint.clone(), 1..6_usize).prop_map(|(endpoint, count)| Op::Publish(endpoint, count)),
        6 => (1..12_usize).prop_map(Op::Ring),
        6 => Just(Op::WorkQueues),
        3 => Just(Op::Dispatch),
        4 => Just(Op::Conduct),
        2 => Just(Op::Sweep),
        4 => Just(Op::AllAtOnce),
        1 => Just(Op::LoseJobs),
        4 => (endpoint.clone(), behaviour()).prop_map(|(endpoint, how)| Op::Answer(endpoint, how)),
        6 => prop_oneof![0..2_000_i64, 2_000..70_000_i64, 70_000..400_000_i64].prop_map(Op::Pass),
        1 => endpoint.clone().prop_map(Op::Pause),
        1 => endpoint.clone().prop_map(Op::Resume),
        2 => (endpoint.clone(), any::<bool>()).prop_map(|(endpoint, on)| Op::Meanwhile(endpoint, on)),
        1 => endpoint.clone().prop_map(Op::OpenByHand),
        1 => endpoint.prop_map(Op::CloseByHand),
        2 => which.clone().prop_map(Op::ReplayDead),
        1 => which.clone().prop_map(Op::DiscardDead),
        1 => which.prop_map(Op::Cancel),
    ]
}

/// `PROPTEST_CASES` asks for more.
fn config() -> Config {
    let asked = std::env::var_os("PROPTEST_CASES").is_some();
    Config {
        cases: if asked { Config::default().cases } else { 24 },
        max_shrink_iters: 200,
        failure_persistence: None,
        ..Config::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn whatever_comes_in_between_every_delivery_ends_once_and_within_its_schedule(
        ops in proptest::collection::vec(op(), 10..60),
    ) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let mut world = World::new().await;
            for op in &ops {
                world.play(*op).await;
                world.check().await;
            }
            world.come_to_rest().await;
            world.close().await;
        });
    }
}
