//! The examples run.

#[expect(dead_code, reason = "an example is a program, and has a `main`")]
#[path = "../../examples/layer.rs"]
mod layer;

#[expect(dead_code, reason = "an example is a program, and has a `main`")]
#[path = "../../examples/middleware.rs"]
mod middleware;

#[tokio::test(start_paused = true)]
async fn the_examples_show_what_they_claim() {
    layer::run().await.unwrap();
    middleware::run().await.unwrap();
}
