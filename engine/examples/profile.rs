//! Where the time of an exported file goes: `profile FILE [images] [threads]`.

use std::sync::Arc;
use std::time::Instant;

use ebm_engine::{Input, Output, Plan, Session};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let file = arguments.next().ok_or("expected a file")?;
    let mut number = |default: usize| arguments.next().map_or(Ok(default), |text| text.parse());
    let (n_images, n_threads) = (number(1)?, number(1)?);
    let start = Instant::now();
    let plan = Arc::new(Plan::new(std::fs::read(file)?)?);
    let planned = start.elapsed();
    let shape = |(name, extents, axis): (&str, &[usize], Option<usize>)| {
        let mut shape = extents.to_vec();
        axis.into_iter().for_each(|axis| shape[axis] *= n_images);
        (name.to_string(), shape)
    };
    let inputs: Vec<_> = plan.inputs().map(shape).collect();
    let outputs: Vec<_> = plan.outputs().map(shape).collect();
    let values: Vec<Vec<f32>> = inputs
        .iter()
        .map(|(_, shape)| vec![0.1; shape.iter().product()])
        .collect();
    let mut room: Vec<Vec<f32>> = outputs
        .iter()
        .map(|(_, shape)| vec![0.0; shape.iter().product()])
        .collect();
    let mut session = Session::with_threads(&plan, n_threads);
    let mut run = |session: &mut Session| {
        let inputs = inputs.iter().zip(&values);
        let inputs: Vec<_> = inputs
            .map(|((name, shape), values)| Input {
                name,
                shape,
                values,
            })
            .collect();
        let outputs = outputs.iter().zip(&mut room);
        let mut outputs: Vec<_> = outputs
            .map(|((name, shape), values)| Output {
                name,
                shape,
                values,
            })
            .collect();
        session.run(&inputs, &mut outputs)
    };
    run(&mut session)?;
    let mut times = Vec::new();
    for _ in 0..20 {
        let start = Instant::now();
        run(&mut session)?;
        times.push(start.elapsed());
    }
    times.sort();
    println!(
        "{}: planned in {planned:.1?}, {:.1} MB of constants, {:.1} MB an image; a run of {n_images} on {n_threads}: {:.3?} at best, {:.3?} median",
        plan.processor(),
        plan.constant_bytes() as f64 / 1e6,
        plan.image_bytes() as f64 / 1e6,
        times[0],
        times[10]
    );
    for (step, time) in session.profile(n_images, 10) {
        println!("{:8.1} us  {step}", time.as_secs_f64() * 1e6);
    }
    Ok(())
}
