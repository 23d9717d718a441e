//! Which instance gets the next request.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use rand::Rng;
use schemas::http::Instance;

/// How long an instance that refused a connection is passed over. Shorter than a lease, after
/// which a dead instance is gone from the registry anyway.
const AVOIDED_FOR: Duration = Duration::from_secs(2);

/// Above this many remembered instances, those that nothing is known of are forgotten.
const REMEMBERED: usize = 1_024;

/// How one of several instances is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Balance {
    /// Each in turn.
    RoundRobin,
    /// The less loaded of two drawn by lot, which keeps many gateways from all running to the same
    /// one ("The Power of Two Choices in Randomized Load Balancing", Mitzenmacher, 2001).
    LeastLoaded,
}

/// Chooses instances, and remembers of each what the registry does not know yet. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Balancer(Arc<Mutex<Memory>>);

#[derive(Default)]
struct Memory {
    instances: HashMap<String, Remembered>,
    turns: HashMap<String, usize>,
}

#[derive(Default)]
struct Remembered {
    /// What we have open there.
    open: u64,
    /// The load that it last reported, and what we had open when we saw that report.
    reported: u64,
    open_at_report: u64,
    avoided_until: Option<Instant>,
}

/// A chosen instance. Where it was chosen by load, it counts as loaded with us until this is
/// dropped.
pub(crate) struct Target {
    pub(crate) instance: Instance,
    open_in: Option<Balancer>,
}

impl Balancer {
    /// Chooses one of these instances, not `except`; one that is avoided only if all are.
    pub(crate) fn choose(
        &self,
        mut instances: Vec<Instance>,
        balance: Balance,
        except: Option<&Instance>,
    ) -> Option<Target> {
        let mut memory = self.memory();
        if let Some(except) = except {
            instances.retain(|instance| key(instance) != key(except));
        }
        let now = Instant::now();
        if instances.iter().any(|instance| !memory.is_avoided(instance, now)) {
            instances.retain(|instance| !memory.is_avoided(instance, now));
        }
        match balance {
            Balance::RoundRobin => {
                let turn = memory.turns.entry(instances.first()?.service.clone()).or_default();
                *turn = turn.wrapping_add(1);
                let index = *turn % instances.len();
                Some(Target { instance: instances.swap_remove(index), open_in: None })
            }
            Balance::LeastLoaded => {
                memory.forget_idle(now);
                let instance = less_loaded_of_two(&mut memory, instances)?;
                memory.of(&instance).open += 1;
                Some(Target { instance, open_in: Some(self.clone()) })
            }
        }
    }

    /// Passes this instance over for a while.
    pub(crate) fn avoid(&self, instance: &Instance) {
        self.memory().of(instance).avoided_until = Some(Instant::now() + AVOIDED_FOR);
    }

    /// It answered: it is as good as any other.
    pub(crate) fn trust(&self, instance: &Instance) {
        if let Some(remembered) = self.memory().instances.get_mut(&key(instance)) {
            remembered.avoided_until = None;
        }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if let Some(balancer) = &self.open_in {
            let mut memory = balancer.memory();
            let remembered = memory.of(&self.instance);
            remembered.open = remembered.open.saturating_sub(1);
        }
    }
}

impl Memory {
    fn of(&mut self, instance: &Instance) -> &mut Remembered {
        self.instances.entry(key(instance)).or_default()
    }

    fn is_avoided(&self, instance: &Instance, now: Instant) -> bool {
        self.instances
            .get(&key(instance))
            .and_then(|remembered| remembered.avoided_until)
            .is_some_and(|until| now < until)
    }

    /// The reported load, corrected by what we opened and closed since the report: the registry is
    /// up to a third of a lease behind.
    fn load(&mut self, instance: &Instance) -> (u64, u64) {
        let remembered = self.of(instance);
        if remembered.reported != instance.load {
            remembered.reported = instance.load;
            remembered.open_at_report = remembered.open;
        }
        let load =
            (remembered.reported + remembered.open).saturating_sub(remembered.open_at_report);
        (load, remembered.open)
    }

    fn forget_idle(&mut self, now: Instant) {
        if self.instances.len() > REMEMBERED {
            self.instances.retain(|_, remembered| {
                remembered.open > 0 || remembered.avoided_until.is_some_and(|until| now < until)
            });
        }
    }
}

fn less_loaded_of_two(memory: &mut Memory, mut instances: Vec<Instance>) -> Option<Instance> {
    if instances.is_empty() {
        return None;
    }
    let draw = |instances: &mut Vec<Instance>| {
        let index = rand::rng().random_range(0..instances.len());
        instances.swap_remove(index)
    };
    let first = draw(&mut instances);
    if instances.is_empty() {
        return Some(first);
    }
    let second = draw(&mut instances);
    Some(if memory.load(&first) <= memory.load(&second) { first } else { second })
}

fn key(instance: &Instance) -> String {
    format!("{}.{}", instance.service, instance.instance)
}
