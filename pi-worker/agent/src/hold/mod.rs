//! What holds this node back from beginning with an order: its settings, judged against the node as it is now.
//!
//! What follows from it is decided by the machine; here it is only looked at.

mod windows;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use jiff::tz::TimeZone;
use machine::Hold;
use schemas::{
    hold::HoldCode::{self, Consent, Disk, Lock, Temperature, Undervoltage, Window},
    id::NodeId,
    time::UnixTime,
};
use serde::Deserialize;
use tracing::warn;

pub use self::windows::{WindowError, Windows};
use crate::{clock, facts};

/// A processor that was too hot must be so much cooler before anything is begun: else it would go to and fro.
const HYSTERESIS_C: i16 = 5;
/// The driver of a Pi's firmware that tells of too low a voltage, among the sensors below `/sys/class/hwmon`.
const PI_VOLTAGE: &str = "rpi_volt";

/// What may hold the node back; nothing does unless it is set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HoldSettings {
    /// Orders are begun only then, in local time; at any time when there is none.
    pub windows: Windows,
    /// Nothing is begun while this file exists.
    pub lock: Option<PathBuf>,
    /// A release waits until somebody asks for it.
    pub consent: bool,
    /// Nothing is begun while the data folder's file system has less free.
    pub min_free_bytes: Option<u64>,
    /// Nothing is begun while the processor is that hot, and then until it is 5 °C cooler.
    pub max_temperature_c: Option<u8>,
    /// Nothing is begun while a Pi's firmware says that the supply voltage is too low.
    pub undervoltage: bool,
}

impl HoldSettings {
    /// Whether anything can hold the node back.
    pub(crate) fn is_any(&self) -> bool {
        *self != Self::default()
    }
}

/// Who looks at the node.
#[derive(Debug)]
pub(crate) struct Judge {
    settings: HoldSettings,
    node: NodeId,
    data: PathBuf,
    /// Where `sys` is; another folder in tests.
    root: PathBuf,
    is_hot: bool,
}

impl Judge {
    /// A judge by the settings of `node`, whose data folder is `data`.
    pub(crate) fn new(settings: HoldSettings, node: NodeId, data: PathBuf) -> Self {
        let judge = Self { settings, node, data, root: "/".into(), is_hot: false };
        if judge.settings.max_temperature_c.is_some() && judge.temperature_c().is_none() {
            warn!("This node has no temperature sensor: `hold.max_temperature_c` does nothing");
        }
        if judge.settings.undervoltage && judge.voltage_alarm().is_none() {
            warn!("This node does not tell its supply voltage: `hold.undervoltage` does nothing");
        }
        judge
    }

    /// Whether anything can hold the node back.
    pub(crate) fn is_any(&self) -> bool {
        self.settings.is_any()
    }

    /// Everything that holds the node back now.
    pub(crate) fn look(&mut self, now: UnixTime) -> Vec<Hold> {
        let looks = [
            self.lock(),
            self.undervoltage(),
            self.temperature(),
            self.disk(),
            self.consent(),
            self.window(now, clock::is_unset(), &TimeZone::system()),
        ];
        looks.into_iter().flatten().collect()
    }

    fn lock(&self) -> Option<Hold> {
        let lock = self.settings.lock.as_ref()?;
        match lock.try_exists() {
            Ok(false) => None,
            Ok(true) => hold(Lock, format!("the lock file {} to be removed", lock.display())),
            Err(error) => hold(Lock, format!("the lock file {} to be readable: {error}", lock.display())),
        }
    }

    fn undervoltage(&self) -> Option<Hold> {
        let is_low = self.settings.undervoltage && self.voltage_alarm() == Some(true);
        is_low.then(|| hold(Undervoltage, "a better power supply: the voltage is too low".into()))?
    }

    fn temperature(&mut self) -> Option<Hold> {
        let max_c = i16::from(self.settings.max_temperature_c?);
        let temperature_c = self.temperature_c()?;
        let limit_c = if self.is_hot { max_c - HYSTERESIS_C } else { max_c };
        self.is_hot = temperature_c > f64::from(limit_c);
        let cool_c = max_c - HYSTERESIS_C;
        self.is_hot.then(|| hold(Temperature, format!("its processor to cool down to {cool_c} °C")))?
    }

    fn disk(&self) -> Option<Hold> {
        let min_bytes = self.settings.min_free_bytes?;
        let place = self.data.display();
        match facts::free_bytes(&self.data) {
            Ok(free_bytes) if free_bytes >= min_bytes => None,
            Ok(_) => hold(Disk, format!("room on the disk of {place}: {min_bytes} bytes must be free")),
            Err(error) => hold(Disk, format!("the disk of {place} to say how much is free: {error}")),
        }
    }

    fn consent(&self) -> Option<Hold> {
        let text = || format!("a yes: `publisher request {} install`", self.node);
        self.settings.consent.then(|| hold(Consent, text()))?
    }

    fn window(&self, now: UnixTime, is_clock_unset: bool, zone: &TimeZone) -> Option<Hold> {
        let windows = &self.settings.windows;
        if windows.is_empty() {
            return None;
        }
        if is_clock_unset {
            return hold(
                Window,
                "its clock to be set: nobody knows whether its maintenance window is open".into(),
            );
        }
        let until = windows.opens(now, zone).err()?;
        Some(Hold { until, ..hold(Window, format!("its maintenance window ({windows})"))? })
    }

    fn temperature_c(&self) -> Option<f64> {
        facts::temperature_c(&self.root)
    }

    /// Whether the firmware says that the voltage is too low; nothing where it says nothing.
    fn voltage_alarm(&self) -> Option<bool> {
        let sensors = fs::read_dir(self.root.join("sys/class/hwmon")).ok()?;
        let is_voltage = |sensor: &PathBuf| read(&sensor.join("name")).is_ok_and(|name| name == PI_VOLTAGE);
        let sensor = sensors.flatten().map(|sensor| sensor.path()).find(is_voltage)?;
        let alarm = read(&sensor.join("in0_lcrit_alarm")).ok()?;
        Some(alarm != "0")
    }
}

#[expect(clippy::unnecessary_wraps, reason = "each look gives an option")]
fn hold(code: HoldCode, text: String) -> Option<Hold> {
    Some(Hold { code, text, until: None })
}

fn read(path: &Path) -> io::Result<String> {
    fs::read_to_string(path).map(|text| text.trim().to_owned())
}

#[cfg(test)]
mod tests;
