//! A step takes no memory from the system once a session has run.

#[allow(clippy::unwrap_used)]
mod common;

use ebm_engine::{Input, Output, Session};
use ebm_export::source::Energy;
use ebm_export::source::checkpoint::Header;
use ebm_export::source::networks::{Network, Sngan};
use ebm_export::write::{Export, Form};

#[test]
#[allow(clippy::unwrap_used)]
fn a_second_run_allocates_nothing() {
    let network = Network::Sngan(Sngan::sngan32(16));
    let weights = network.initial_weights(1).unwrap();
    let energy = Energy::of_network(&Header::new(network), &weights).unwrap();
    let file = Export::default().model(&energy, &Form::Steps(1)).unwrap();
    let plan = common::plan(file.to_bytes());
    for (n_threads, batch) in [(1, 1), (1, 3), (2, 1), (2, 4)] {
        let image = [batch, 3, 32, 32];
        let x = common::Numbers::new(3).tensor(&image, |unit| unit);
        let inputs = [
            ("x", image.as_slice(), x.data()),
            ("noise", &image, x.data()),
            ("step_size", &[], &[0.01]),
            ("temperature", &[], &[1e-4]),
        ];
        let inputs = inputs.map(|(name, shape, values)| Input {
            name,
            shape,
            values,
        });
        let (mut next, mut energy, mut norm) = (
            vec![0.0; x.data().len()],
            vec![0.0; batch],
            vec![0.0; batch],
        );
        let per_image = [batch];
        let mut outputs = [
            ("x_next", image.as_slice(), &mut next),
            ("energy", &per_image, &mut energy),
            ("gradient_norm", &per_image, &mut norm),
        ]
        .map(|(name, shape, values)| Output {
            name,
            shape,
            values,
        });
        let mut session = Session::with_threads(&plan, n_threads);
        let mut run = || session.run(&inputs, &mut outputs).unwrap();
        let first = allocation_counter::measure(&mut run);
        assert!(
            first.count_total > 0,
            "the first run has to make its memory"
        );
        // Of the calling thread, which does what the others do.
        let second = allocation_counter::measure(&mut run);
        assert_eq!(second.count_total, 0, "{n_threads} threads, {batch} images");
    }
}
