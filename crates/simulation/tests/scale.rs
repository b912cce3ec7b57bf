//! The model of `docs/scaling.md` against the real core.

use std::time::Duration;

use simulation::CASES;

#[test]
fn the_model_says_how_many_calls_a_fleet_makes() {
    for (name, case) in CASES {
        let time = Duration::from_secs(3900);
        let (counted, model) = (case.simulate(4, time), case.model_from_start(time));
        let near = |counted: f64, model: f64| (counted - model).abs() <= 0.05 * model + 0.0005;
        assert!(near(counted.vault, model.vault), "{name}: {counted:?} {model:?}");
        assert!(near(counted.token, model.token), "{name}: {counted:?} {model:?}");
    }
}
