//! The example in `examples/deadlines.rs`, which has to run and to end.

#[path = "../../examples/deadlines.rs"]
mod deadlines;

#[test]
fn the_example_runs_to_its_end() {
    deadlines::main().unwrap();
}
