//! How a spec looks: as the document it is read from.

use time::OffsetDateTime;

use super::table::View;
use super::{Report, value_of};
use crate::pki::spec::Spec;

impl Report for Spec {
    fn to_value(&self) -> anyhow::Result<serde_json::Value> {
        value_of(&self.explicit())
    }

    fn view(&self, _now: OffsetDateTime) -> View {
        let text = self.to_yaml().unwrap_or_default();
        text.lines().fold(View::default(), |view, line| view.line(line.to_owned()))
    }
}
