//! The example in `examples/greeter.rs`, which has to run and to end.

#[path = "../../examples/greeter.rs"]
mod greeter;

#[test]
fn the_example_says_hello_after_three_attempts() {
    greeter::main().unwrap();
}
