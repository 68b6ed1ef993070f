//! What a stream is put together from, as its arguments have it: recipe, source, sinks.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tractlet::sensor::{
    Control, MqttAddress, Overflow, Pace, Recipe, Sink, SinkOptions, SinkSpec, SourceOptions, SourceSpec,
};

use super::{OverflowName, PaceName, SourceArgs, StreamArgs};
use crate::cli::failure::Failure;

impl StreamArgs {
    /// What the model takes and what is made of its answers, as these arguments have it.
    pub(super) fn recipe(&self, model: &Path) -> Result<Recipe, Failure> {
        let mut recipe = Recipe::open(model).map_err(|error| error.to_string())?;
        if let Some(hop) = self.hop {
            recipe.input.windowing.hop = hop as usize;
        }
        if let Some(broker) = self.source.source.broker() {
            let one_sensor = self.mqtt.share.is_none() && broker.is_one_topic();
            recipe.for_messages(one_sensor).map_err(|error| error.to_string())?;
        }
        Ok(recipe)
    }

    pub(super) fn overflow(&self) -> Overflow {
        match self.overflow {
            Some(OverflowName::DropOldest) => Overflow::DropOldest,
            Some(OverflowName::DropNewest) => Overflow::DropNewest,
            Some(OverflowName::Block) => Overflow::Block,
            None if self.source.source.is_recorded() || self.source.source.broker().is_some() => Overflow::Block,
            None => Overflow::DropOldest,
        }
    }

    pub(super) fn source(&self) -> SourceSpec {
        let mut spec = self.source.source.clone();
        if let SourceSpec::Mqtt(address) = &mut spec {
            add_password(address);
        }
        spec
    }

    pub(super) fn source_options(&self, control: &Control) -> SourceOptions {
        let (share, client_id, stop) =
            (self.mqtt.share.clone(), self.mqtt.client_id.clone(), Arc::clone(&control.stop));
        let options = self.source.options();
        let session_s = self.mqtt.session.unwrap_or(options.session_s);
        SourceOptions { share, client_id, session_s, stop, ..options }
    }

    pub(super) fn sinks(&self, control: &Control) -> Result<Vec<Box<dyn Sink>>, Failure> {
        let mut specs = self.sink.clone();
        if specs.is_empty() && !self.model.json {
            specs.extend("-".parse::<SinkSpec>());
        }
        specs.iter_mut().filter_map(SinkSpec::broker).for_each(add_password);
        let mut options = SinkOptions { client_id: self.mqtt.client_id.clone(), number: 0, ..SinkOptions::default() };
        if let Some(queue) = self.mqtt.queue {
            options.queue_bytes = usize::try_from(queue).unwrap_or(usize::MAX);
        }
        let open = |mut spec: SinkSpec| {
            options.number += u32::from(spec.broker().is_some());
            spec.open(&options, control).map_err(|error| format!("{spec}: cannot write it: {error}").into())
        };
        specs.into_iter().map(open).collect()
    }
}

impl SourceArgs {
    fn options(&self) -> SourceOptions {
        SourceOptions {
            format: self.format,
            columns: self.columns.clone(),
            time: self.time.clone(),
            rate_hz: self.rate,
            scale: self.scale.clone(),
            units: self.units.clone(),
            channels: self.channels.map(|channels| channels as usize),
            pace: match self.replay {
                PaceName::Max => Pace::Maximal,
                PaceName::Real => Pace::Real,
            },
            repeat: (self.repeat > 0).then_some(self.repeat),
            max_malformed: self.max_malformed,
            reconnect: self.reconnect.map(Duration::from_secs_f64),
            ..SourceOptions::default()
        }
    }
}

/// Command lines are for all to see.
fn add_password(address: &mut MqttAddress) {
    if address.user.is_some() && address.password.is_none() {
        address.password = std::env::var("TRACTLET_MQTT_PASSWORD").ok();
    }
}
