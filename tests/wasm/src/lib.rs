//! Helpers for the tests of this package: sources, and the timers that Node has.

#![cfg(all(target_family = "wasm", target_os = "unknown"))]

use std::cell::RefCell;
use std::future::{Future, pending};
use std::rc::Rc;
use std::time::Duration;

use gloo_timers::future::TimeoutFuture;
use js_sys::{Function, Reflect, global};
use wasm_bindgen::prelude::*;

/// A deadline that a test waits for.
pub const SOON: Duration = Duration::from_millis(20);

/// A deadline that never passes in these tests.
pub const LATE: Duration = Duration::from_secs(3600);

/// The output of a source.
pub type Answer = Result<u32, &'static str>;

#[wasm_bindgen]
extern "C" {
    /// The names of the resources that keep Node from exiting.
    #[wasm_bindgen(js_namespace = process, js_name = getActiveResourcesInfo)]
    fn active_resources() -> Vec<String>;
}

/// How many timers are set in this process.
pub fn timers() -> usize {
    active_resources()
        .iter()
        .filter(|kind| *kind == "Timeout")
        .count()
}

/// A source that answers after this many milliseconds. It has a timer of its own.
pub async fn after(millis: u32, answer: Answer) -> Answer {
    TimeoutFuture::new(millis).await;
    answer
}

/// A source that never answers.
pub async fn never() -> Answer {
    pending().await
}

/// Runs `run`, and returns the milliseconds of each timer that was set meanwhile.
pub async fn timers_set(run: impl Future<Output = ()>) -> Vec<f64> {
    let name = JsValue::from("setTimeout");
    let original: Function = Reflect::get(&global(), &name).unwrap().unchecked_into();
    let times = Rc::new(RefCell::new(Vec::new()));
    let recorder = Closure::<dyn FnMut(JsValue, f64) -> JsValue>::new({
        let (original, times) = (original.clone(), times.clone());
        move |handler: JsValue, millis: f64| {
            times.borrow_mut().push(millis);
            original
                .call2(&JsValue::UNDEFINED, &handler, &millis.into())
                .unwrap()
        }
    });
    Reflect::set(&global(), &name, recorder.as_ref()).unwrap();
    run.await;
    Reflect::set(&global(), &name, &original).unwrap();
    times.take()
}
